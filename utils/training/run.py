"""What is written into a run's folder, and the way back into one."""

import argparse
import shlex
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from graftdet.utils.checkpoint import load_checkpoint, save_checkpoint, to_plain
from graftdet.utils.config import load_yaml
from graftdet.utils.device import peak_memory
from graftdet.utils.environment import versions
from graftdet.utils.errors import UserError
from graftdet.utils.evaluation.evaluator import Evaluation
from graftdet.utils.evaluation.report import print_table
from graftdet.utils.files import write_errors
from graftdet.utils.training.color_jitter import pictures_on
from graftdet.utils.training.results import ResultsTable, epoch_line, results_row, save_config
from graftdet.utils.training.run_state import RunState, fitness
from graftdet.utils.training.trainer import EpochResult
from graftdet.utils.visualization import plots


def find_checkpoint(resume: str | Path, project: str | Path) -> Path:
    """Return the `last.pt` that `resume` means: a checkpoint, a run's folder, or '' for the newest run below `project`.

    Raises `UserError` when there is none.
    """
    if str(resume) == "":
        found = sorted(Path(project).glob("**/weights/last.pt"), key=lambda path: path.stat().st_mtime)
        if not found:
            raise UserError(f"--resume: no run with weights/last.pt below {project}")
        return found[-1]
    path = Path(resume)
    for candidate in (path, path / "weights" / "last.pt", path / "last.pt"):
        if candidate.is_file():
            return candidate
    if path.is_dir():
        raise UserError(f"--resume {path}: has no weights/last.pt; the run stopped before its first epoch was over")
    raise UserError(f"--resume {path}: no such run or checkpoint")


# Options that are data: they come back from a checkpoint, checked as on the command line. Any other option, an option
# that is added later included, may name code to run or files to read and never comes from a checkpoint.
_DATA_OPTIONS = frozenset(
    "min_transfer identity_init set img epochs batch_size workers seed optimizer patience freeze cache multi_scale"
    " single_cls image_weights rect cos_lr sync_bn save_period noval amp compile device exist_ok".split()
)
_LOCATION = ("resume", "project", "name")  # where the checkpoint lies decides
_MAY_MOVE = ("data", "teacher", "plugins")  # files that a resumed run reads, which may lie elsewhere now
_STATE = {"options": dict, "hyperparameters": dict, "yaml": str, "names": list, "epoch": int, "optimizer": dict}


def resolve_options(
    parser: argparse.ArgumentParser, free: tuple[str, ...] = ()
) -> tuple[argparse.Namespace, dict | None]:
    """Parse the command line; with `--resume`, return the options of that run and its checkpoint (else None).

    Data options (epochs, batch size, seed ...) come from the checkpoint; only those named in `free` may differ. Every
    other option is given again, or stands in the `config.yaml` of the run's folder, or has its default: a checkpoint may
    come from a stranger, so it names no files and no code. `options.folder` is the folder that the checkpoint lies in,
    None for a new run. Raises `UserError` for flags that may not differ, options of the checkpoint that nothing confirms,
    a run that cannot be found and one that is finished.
    """
    options = parser.parse_args()
    options.folder = None
    if options.resume is None:
        return options, None
    given = _given(parser)
    if "search" in given:
        raise UserError("--resume: is for one training; the same --search again goes on with a search")
    for key in given:
        if key in _DATA_OPTIONS and key not in free:
            raise UserError(
                f"--resume: {_flag(key)} is as the run was started; of such flags only {_flags(free)} may be given"
            )
    path = find_checkpoint(options.resume, options.project)
    checkpoint = load_checkpoint(path)
    if checkpoint.get("finished"):
        weights = f"with these weights after epoch {checkpoint.get('epoch')}"
        raise UserError(f"{path}: the run is finished, {weights}; to train on, give it as --weights")
    if not all(isinstance(checkpoint.get(key), kind) for key, kind in _STATE.items()):
        raise UserError(f"{path}: holds weights but no state of a run; give it as --weights")
    folder = path.absolute().parent
    folder = folder.parent if folder.name == "weights" else folder
    if given.get("name", folder.name) not in (folder.name, checkpoint["options"].get("name")):
        raise UserError(f"--resume: --name {given['name']}: a run goes on in its own folder {folder}")
    values = {**vars(options), **_options_of_run(parser, given, checkpoint["options"], path, folder)}
    values |= {"resume": str(path), "folder": folder, "project": folder.parent, "name": folder.name}
    return argparse.Namespace(**values), checkpoint


def _given(parser: argparse.ArgumentParser) -> dict:
    """The options that the command line gives, those given with their default value included."""
    unset = (
        object()
    )  # argparse leaves what is set already alone, so what differs from it was given, default value or not
    blank = argparse.Namespace(
        **{action.dest: unset for action in parser._actions if not isinstance(action.default, list)}
    )
    parsed = vars(parser.parse_args(namespace=blank))
    return {key: value for key, value in parsed.items() if value is not unset and value != []}


def _options_of_run(parser, given: dict, recorded: dict, path: Path, folder: Path) -> dict:
    """Those options recorded in a checkpoint that count: data, and what is the default or stands in the config.yaml, too."""
    config = folder / "config.yaml"
    confirmed = load_yaml(config).get("options") if config.is_file() else None
    confirmed = confirmed if isinstance(confirmed, dict) else {}
    values, missing = {}, []
    for action in parser._actions:
        key, default = action.dest, action.default
        if (
            default is argparse.SUPPRESS
            or key in _LOCATION
            or key not in recorded
            or (key in _DATA_OPTIONS and key in given)
        ):
            continue
        value = recorded[key]
        if key in given:
            if not _same(value, given[key]) and not (key in _MAY_MOVE and value):
                raise UserError(f"--resume: {_flag(key)} is as the run was started: {_words(value) or 'not given'}")
        elif key in _DATA_OPTIONS or _same(value, default) or _same(value, confirmed.get(key)):
            values[key] = _checked(parser, action, value, path)
        else:
            missing.append(f"{_flag(key)} {_words(value)}")
    if missing:
        again = "it" if len(missing) == 1 else "them"
        raise UserError(
            f"{path}: this run used {' '.join(missing)}; give {again} again, as {config} does not confirm {again}"
        )
    return values


def _checked(parser, action: argparse.Action, value, where: Path):
    """`value`, read from the file `where`, as the command line would take it. Raises `UserError`."""
    if _same(value, action.default):
        return value
    several = isinstance(action.default, list)
    items = value if several and isinstance(value, list) else [value]
    try:
        if isinstance(action.default, bool):
            if not isinstance(value, bool):
                raise ValueError
            return value
        if several != isinstance(value, list) or any(type(item) not in (int, float, str) for item in items):
            raise ValueError
        items = [parser._get_value(action, str(item)) for item in items]
        for item in items:
            parser._check_value(action, item)
    except (ValueError, argparse.ArgumentError):
        raise UserError(f"{where}: {value!r:.60} is no value of {_flag(action.dest)}") from None
    return items if several else items[0]


def _same(value, other) -> bool:
    return type(value) is type(other) and value == other


def _flag(key: str) -> str:
    return f"--{key.replace('_', '-')}"


def _flags(keys: tuple[str, ...]) -> str:
    return ", ".join(map(_flag, keys))


def _words(value) -> str:
    """A value as it is typed in a shell."""
    return " ".join(shlex.quote(str(item)) for item in (value if isinstance(value, list) else [value]))


def absolute(name: str) -> str:
    """`name` as an absolute path where it is a file here, else as it is (a bare name of configs/)."""
    return str(Path(name).resolve()) if Path(name).is_file() else name


class Run:
    """The folder of a training run: weights, results.csv, config.yaml, pictures; and what is printed on the way.

    `about` says what the model is and how it is trained: yaml, names, nc, options, hyperparameters. `save_period` keeps
    the weights of every so many epochs (0: none). A `state` that was resumed goes on in the same table.
    """

    def __init__(self, folder: Path, about: dict, state: RunState, epochs: int, save_period: int = 0):
        self.folder, self.state, self.epochs, self.save_period = Path(folder), state, epochs, save_period
        self.about = to_plain({**about, "versions": versions()})
        self.names = self.about["names"]
        self.start, self.first = time.monotonic() - state.elapsed, state.epoch
        self.best, self.last = self.folder / "weights" / "best.pt", self.folder / "weights" / "last.pt"
        with write_errors(self.best.parent):
            self.best.parent.mkdir(parents=True, exist_ok=True)
        self.table = ResultsTable(self.folder / "results.csv", keep_until=state.epoch)
        if not state.epoch:
            for old in (self.best, self.last):  # of an earlier run in the same folder
                with write_errors(old):
                    old.unlink(missing_ok=True)
            save_config(self.folder / "config.yaml", {key: value for key, value in self.about.items() if key != "yaml"})
        print(f"run: {self.folder}, epochs {state.epoch + 1} to {epochs}")

    def draw_labels(self, boxes: list[np.ndarray], labels: list[np.ndarray], frames_hw: np.ndarray) -> None:
        """Draw the statistics of the training set's boxes: xyxy pixels (n, 4) and classes (n,) of each picture."""
        per_box = np.repeat(frames_hw, [len(rows) for rows in boxes], 0)[:, [1, 0]]  # width, height
        stacked = np.concatenate(boxes)
        corner, size = stacked[:, :2], stacked[:, 2:] - stacked[:, :2]
        normalised = np.hstack(((corner + size / 2) / per_box, size / per_box))
        plots.plot_labels(normalised, np.concatenate(labels), self.names, self.folder / "labels.png")

    def draw_batch(self, number: int, batch: dict) -> None:
        """Draw the first three batches of the run with their boxes."""
        if self.state.epoch == 0 and number < 3:
            plots.plot_batch(
                pictures_on(batch, "cpu"), batch["targets"], self.names, self.folder / f"train_batch{number}.jpg"
            )

    def finish_epoch(self, trained: EpochResult, evaluation: Evaluation | None) -> None:
        """Count, tell and save an epoch. The table comes first: resuming drops rows that no checkpoint stands for."""
        state = self.state
        state.epoch += 1
        state.elapsed = time.monotonic() - self.start
        better = False
        if evaluation:
            better = state.stopping.update(state.epoch, fitness(evaluation.metrics) if evaluation.instances else None)
            state.class_ap = np.nan_to_num([entry["AP50-95"] for entry in evaluation.per_class])
        row = results_row(state.epoch, state.elapsed, trained, evaluation and evaluation.metrics)
        self.table.add(row)
        left = state.elapsed / state.epoch * (self.epochs - state.epoch)
        print(epoch_line(state.epoch, self.epochs, row, left), flush=True)
        content = {**self.about, **state.state_dict()}
        if better:
            save_checkpoint(self.best, content)
        if self.save_period and state.epoch % self.save_period == 0:
            save_checkpoint(self.best.with_name(f"epoch{state.epoch}.pt"), content)
        save_checkpoint(self.last, content)

    def finish(self, measure: Callable) -> None:
        """Measure the best weights once more with a table a class, draw the results, keep the averaged weights alone."""
        print(f"{self.state.epoch} epochs done, the best was {self.state.stopping.best_epoch}; {self.best}:")
        model = self.state.ema.model
        if not self.best.is_file():  # the run was resumed from a checkpoint alone, and no epoch since was better
            save_checkpoint(self.best, load_checkpoint(self.last))
        model.load_state_dict(load_checkpoint(self.best)["ema"])
        evaluation = measure(model)
        print_table(evaluation, self.names)
        plots.plot_results(self.folder / "results.csv", self.folder / "results.png")
        plots.plot_curves(evaluation.curves, self.names, self.folder)
        plots.plot_confusion(evaluation.confusion, self.names, self.folder / "confusion_matrix.png")
        for path in (self.best, self.last):
            content = load_checkpoint(path)
            kept = {key: content[key] for key in (*self.about, "ema", "epoch", "best")}
            save_checkpoint(path, {**kept, "model": None, "finished": True})
        print(f"results in {self.folder}; peak memory {peak_memory(next(model.parameters()).device)}")
