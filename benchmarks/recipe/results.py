"""The tables of training runs: benchmarks/results/runs.csv, one row per run, and curves.csv, one row per epoch."""

import csv
import dataclasses
import json
import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from graftdet.utils.config import load_yaml
from graftdet.utils.errors import UserError
from graftdet.utils.tables import markdown_table
from graftdet.utils.training.flags import AUTO_WEIGHTS, NO_WEIGHTS

from ..table import ROOT

RESULTS = ROOT / "benchmarks" / "results"
FLAGS = (
    "weights",
    "into",
    "teacher",
    "optimizer",
    "freeze",
    "multi_scale",
    "single_cls",
    "image_weights",
    "rect",
    "cos_lr",
)


@dataclass
class RunRecord:
    """One row of runs.csv. AP is COCO AP at IoU 0.50:0.95, AP50 at 0.50; None where a value is not known."""

    run: str
    dataset: str
    model: str
    recipe: str
    settings: str
    seed: int
    epochs: int
    epochs_run: int
    img: int
    batch_size: int
    best_epoch: int
    val_ap: float
    val_ap50: float
    final_val_ap: float
    eval_split: str
    eval_ap: float | None
    eval_ap50: float | None
    minutes: float | None
    commit: str
    machine: str
    note: str

    @property
    def group(self) -> str:
        """The name that runs of the same settings and different seeds share."""
        return self.run.removesuffix(f"-seed{self.seed}")


@dataclass
class Epoch:
    """One row of curves.csv: seconds since the start of the run and validation AP after an epoch."""

    run: str
    epoch: int
    seconds: int
    val_ap: float


def read_runs(folder: Path = RESULTS) -> list[RunRecord]:
    """Return all runs of runs.csv in `folder`, in the order of the file."""
    return _read(folder / "runs.csv", RunRecord)


def read_curves(folder: Path = RESULTS) -> dict[str, list[Epoch]]:
    """Return the epochs of each run of curves.csv in `folder`, by run name."""
    curves: dict[str, list[Epoch]] = {}
    for row in _read(folder / "curves.csv", Epoch):
        curves.setdefault(row.run, []).append(row)
    return curves


def add_run(record: RunRecord, curve: list[Epoch], folder: Path = RESULTS) -> None:
    """Append a run to both tables in `folder`.

    Raises:
        UserError: If a run of this name exists.
    """
    path = folder / "runs.csv"
    if any(existing.run == record.run for existing in _read(path, RunRecord)):
        raise UserError(f"{path}: run '{record.run}' exists; choose another name or remove its rows from both tables")
    _append(path, [record])
    _append(folder / "curves.csv", curve)


def read_run_folder(folder: Path, group: str, **details: str) -> tuple[RunRecord, list[Epoch]]:
    """Read a folder that train.py has written.

    Args:
        folder: Has config.yaml and results.csv.
        group: Name of the run without its seed.
        details: The columns `machine` and `note`.

    Returns:
        The run without evaluation scores, and its epochs that were validated.

    Raises:
        UserError: If a file is missing, or no epoch was validated.
    """
    config = load_yaml(_existing(folder / "config.yaml"))
    rows = _read_rows(_existing(folder / "results.csv"))
    options, run = config["options"], f"{group}-seed{config['options']['seed']}"
    validated = [row for row in rows if row.get("val/AP50-95")]
    if not validated:
        raise UserError(f"{folder / 'results.csv'}: no epoch was validated")
    best = max(validated, key=lambda row: float(row["val/AP50-95"]))
    curve = [
        Epoch(run, int(row["epoch"]), round(float(row["time"])), _rounded(row["val/AP50-95"])) for row in validated
    ]
    record = RunRecord(
        run=run,
        dataset=_dataset_name(Path(options["data"])),
        model=_model_name(options),
        recipe=config.get("recipe") or Path(options["hyp"]).name,
        settings=_settings(options | {"weights": _initial_weights(config)}),
        seed=options["seed"],
        epochs=options["epochs"],
        epochs_run=int(rows[-1]["epoch"]),
        img=options["img"],
        batch_size=options["batch_size"],
        best_epoch=int(best["epoch"]),
        val_ap=_rounded(best["val/AP50-95"]),
        val_ap50=_rounded(best["val/AP50"]),
        final_val_ap=curve[-1].val_ap,
        eval_split="",
        eval_ap=None,
        eval_ap50=None,
        minutes=round(float(rows[-1]["time"]) / 60, 1),
        commit=_short_commit(config),
        machine=details.get("machine", ""),
        note=details.get("note", ""),
    )
    return record, curve


def with_evaluation(record: RunRecord, metrics: Path, split: str) -> RunRecord:
    """Return `record` with the scores of `metrics`, the metrics.json that val.py has written for `split`."""
    scores = json.loads(_existing(metrics).read_text(encoding="utf-8"))
    ap, ap50 = _rounded(scores["AP50-95"]), _rounded(scores["AP50"])
    return dataclasses.replace(record, eval_split=split, eval_ap=ap, eval_ap50=ap50)


def markdown(records: list[RunRecord], curves: dict[str, list[Epoch]], target: float | None = None) -> str:
    """Return a Markdown table with one row per group: mean and standard deviation over the seeds.

    Args:
        records: The runs, grouped by `RunRecord.group`.
        curves: Epochs by run name, as `read_curves` returns them.
        target: Adds a column with the first epoch of each seed whose validation AP reaches this value.
    """
    head = ["run", "seeds", "val AP", "best epoch", "final val AP", "evaluation AP", "evaluation AP50", "minutes"]
    groups: dict[str, list[RunRecord]] = {}
    for record in records:
        groups.setdefault(record.group, []).append(record)
    rows = []
    for name, runs in groups.items():
        cells = [name, ", ".join(str(run.seed) for run in runs), spread(run.val_ap for run in runs)]
        cells += [", ".join(str(run.best_epoch) for run in runs), spread(run.final_val_ap for run in runs)]
        cells += [spread(run.eval_ap for run in runs), spread(run.eval_ap50 for run in runs)]
        cells.append(spread((run.minutes for run in runs), digits=1))
        if target is not None:
            cells.append(", ".join(_epochs_to(curves.get(run.run, []), target) for run in runs))
        rows.append(cells)
    if target is not None:
        head.append(f"epochs to {target:g}")
    return markdown_table(head, rows)


def spread(values: Iterable[float | None], digits: int = 3) -> str:
    """Return "mean ± standard deviation" of the known values, the mean alone for one, "" for none."""
    known = [value for value in values if value is not None]
    if not known:
        return ""
    deviation = f" ± {statistics.stdev(known):.{digits}f}" if len(known) > 1 else ""
    return f"{statistics.mean(known):.{digits}f}{deviation}"


def _epochs_to(curve: list[Epoch], target: float) -> str:
    return next((str(epoch.epoch) for epoch in curve if epoch.val_ap >= target), "-")


def _settings(options: dict) -> str:
    """Return what differs from the recipe: the values of --set, then flags that change the training."""
    flags = []
    for name in FLAGS:
        value = options.get(name)
        if value:
            values = [] if value is True else [Path(value).name] if name in ("weights", "teacher") else [value]
            flags.append(" ".join([f"--{name.replace('_', '-')}", *map(str, values)]))
    return " ".join([*options.get("set", []), *flags])


def _initial_weights(config: dict) -> str:
    """Return the weights that training started from, "" for random ones."""
    weights = config.get("initial_weights") or config["options"].get("weights") or ""
    return "" if weights in (AUTO_WEIGHTS, NO_WEIGHTS) else weights


def _model_name(options: dict) -> str:
    return Path(options["cfg"] or options["weights"] or "yolov5n.yaml").name


def _dataset_name(data: Path) -> str:
    return data.parent.name if data.stem == "data" else data.stem


def _short_commit(config: dict) -> str:
    """Return the first seven digits of the commit; a trailing '+' marks uncommitted changes."""
    commit = config.get("versions", {}).get("commit", "")
    return commit[:7] + "+" * commit.endswith("+")


def _rounded(value: str | float) -> float:
    return round(float(value), 4)


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise UserError(f"{path}: file not found; expected the folder of a finished run")
    return path


def _read_rows(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _read(path: Path, kind: type) -> list:
    if not path.is_file():
        return []
    types = {field.name: field.type for field in dataclasses.fields(kind)}
    converters = {int: int, float: float, str: str, float | None: lambda text: float(text) if text else None}
    rows = []
    for number, row in enumerate(_read_rows(path), 2):
        try:
            rows.append(kind(**{name: converters[types[name]](row[name]) for name in types}))
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"{path}:{number}: expected the columns {', '.join(types)} ({error})") from None
    return rows


def _append(path: Path, rows: list) -> None:
    if not rows:
        return
    is_new = not path.is_file()
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(dataclasses.asdict(rows[0])), lineterminator="\n")
        if is_new:
            writer.writeheader()
        writer.writerows(dataclasses.asdict(row) for row in rows)
