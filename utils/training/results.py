"""What a run tells: progress on the terminal, a table of results, the options it ran with."""

import csv
import io
from pathlib import Path

import yaml
from graftdet.utils.files import write_errors
from graftdet.utils.progress import duration


class ResultsTable:
    """`results.csv`: one row an epoch, counted from 1. The first row decides the columns.

    `keep_until`: rows of later epochs are dropped at the start, those of a run that is resumed before them; 0 begins
    anew. An epoch that is written again replaces nothing: resume with the right `keep_until`.
    """

    def __init__(self, path: str | Path, keep_until: int = 0):
        self.path = Path(path)
        self.columns: list[str] | None = None
        rows = []
        if keep_until and self.path.is_file():
            with open(self.path, newline="", encoding="utf-8") as file:
                reader = csv.DictReader(file)
                rows = [row for row in reader if (row["epoch"] or "").isdecimal() and int(row["epoch"]) <= keep_until]
                self.columns = list(reader.fieldnames or []) or None
        text = io.StringIO()
        if self.columns:
            writer = csv.DictWriter(text, self.columns, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        with write_errors(self.path):
            self.path.write_text(text.getvalue(), encoding="utf-8")

    def add(self, row: dict) -> None:
        """Append one row; None becomes an empty cell, other floats get six significant digits."""
        first = self.columns is None
        self.columns = self.columns or list(row)
        with write_errors(self.path), open(self.path, "a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, self.columns, lineterminator="\n")
            if first:
                writer.writeheader()
            writer.writerow({key: _cell(value) for key, value in row.items()})


def read_measures(path: str | Path, column: str) -> list[tuple[int, float]]:
    """The epochs of a results table, one being written included, and their values in `column`, where there are any."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    whole = text[: text.rfind("\n") + 1]  # the last line may be half of one
    return [(int(row["epoch"]), float(row[column])) for row in csv.DictReader(io.StringIO(whole)) if row.get(column)]


def results_row(epoch: int, seconds: float, trained, metrics: dict | None) -> dict:
    """The row of `results.csv` for `epoch`, counted from 1: `trained` is a `graftdet.utils.training.trainer.EpochResult`, `metrics` those
    of the validation (None: there was none), `seconds` since the start."""
    row = {"epoch": epoch, "time": seconds, "lr": trained.lr}
    row |= {f"train/{name}": value for name, value in trained.losses.items()}
    row["train/images_per_s"] = trained.images_per_s
    return row | {f"val/{name}": (metrics or {}).get(name) for name in ("AP50-95", "AP50", "precision", "recall")}


def epoch_line(epoch: int, epochs: int, row: dict, seconds_left: float) -> str:
    """One line for an epoch's `row` of the results table."""
    told = [f"{key.split('/')[1]} {row[key]:.4g}" for key in row if key.startswith("train/") and row[key] is not None]
    told += [f"{key.split('/')[1]} {row[key]:.3f}" for key in row if key.startswith("val/") and row[key] is not None]
    return f"epoch {epoch}/{epochs}: {', '.join(told)}, {duration(seconds_left)} left"


def save_config(path: str | Path, content: dict) -> None:
    """Write plain `content` (see `graftdet.utils.checkpoint.to_plain`) as YAML, in its own order."""
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
    with write_errors(path):
        Path(path).write_text(text, encoding="utf-8")


def _cell(value) -> str:
    return "" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)
