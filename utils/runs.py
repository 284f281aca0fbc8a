"""What is written into a run's folder, and the way back into one."""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from . import plots
from .checkpoint import load_checkpoint, save_checkpoint, to_plain
from .colour import pictures_on
from .device import peak_memory
from .errors import UserError, writing
from .evaluate import Evaluation, print_table
from .report import ResultsTable, epoch_line, results_row, save_config, versions
from .trainer import EpochResult, RunState, fitness


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


def resolve_options(parser: argparse.ArgumentParser, free: tuple[str, ...] = ()) -> tuple[argparse.Namespace, dict | None]:
    """Parse the command line; give its options, and with `--resume` those of the run, and its checkpoint (else None).

    Only the options named in `free` may differ from those the run was started with. `options.folder` is the run's
    folder, None for a new run. Raises `UserError` for any other flag beside `--resume`, a run that cannot be found and
    one that is finished.
    """
    options = parser.parse_args()
    options.folder = None
    if options.resume is None:
        return options, None
    unset = object()  # argparse leaves what is set already alone, so what differs from it was given, default value or not
    blank = argparse.Namespace(**{action.dest: unset for action in parser._actions if not isinstance(action.default, list)})
    parsed = vars(parser.parse_args(namespace=blank))
    given = {key: value for key, value in parsed.items() if value is not unset and value != []}
    if "search" in given:
        raise UserError("--resume: is for one training; the same --search again goes on with a search")
    for key in given:
        if key not in ("resume", "project", *free):
            may = ", ".join("--" + word for word in free)
            raise UserError(f"--resume: --{key.replace('_', '-')} is as the run was started; beside it only {may} may be given")
    path = find_checkpoint(options.resume, options.project)
    checkpoint = load_checkpoint(path)
    if checkpoint.get("finished"):
        weights = f"with these weights after epoch {checkpoint['epoch']}"
        raise UserError(f"{path}: the run is finished, {weights}; to train on, give it as --weights")
    if not isinstance(checkpoint.get("options"), dict) or "optimizer" not in checkpoint:
        raise UserError(f"{path}: holds weights but no state of a run; give it as --weights")
    resumed = {**vars(options), **checkpoint["options"], **{key: given[key] for key in free if key in given}}
    folder = path.parent.parent if path.parent.name == "weights" else path.parent
    return argparse.Namespace(**{**resumed, "resume": str(path), "folder": folder}), checkpoint


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
        with writing(self.best.parent):
            self.best.parent.mkdir(parents=True, exist_ok=True)
        self.table = ResultsTable(self.folder / "results.csv", keep_until=state.epoch)
        if not state.epoch:
            for old in (self.best, self.last):  # of an earlier run in the same folder
                with writing(old):
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
            plots.plot_batch(pictures_on(batch, "cpu"), batch["targets"], self.names, self.folder / f"train_batch{number}.jpg")

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
