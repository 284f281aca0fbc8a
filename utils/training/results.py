"""Files of a training run in plain text: the table of results and the configuration."""

import csv
import io
import logging
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from graftdet.utils.errors import UserError
from graftdet.utils.files import write_atomically, write_errors
from graftdet.utils.progress import duration
from graftdet.utils.tables import read_csv_table
from graftdet.utils.text import valid_utf8

if TYPE_CHECKING:
    from graftdet.utils.training.trainer import EpochResult

logger = logging.getLogger(__name__)

METRICS = ("AP50-95", "AP50", "precision", "recall")


@dataclass(frozen=True)
class TrainResult:
    """Result of a training run.

    Attributes:
        folder: Folder of the run, with results.csv, config.yaml, charts and weights.
        best_weights: Checkpoint of the best epoch.
        last_weights: Checkpoint of the last epoch.
        epochs: Number of epochs trained, less than asked for after early stopping.
        best_epoch: The best epoch, counted from 1.
        metrics: Metrics of the best weights on the validation split (see `Evaluation.metrics`).
        per_class: Metrics per class (see `Evaluation.per_class`).
    """

    folder: Path
    best_weights: Path
    last_weights: Path
    epochs: int
    best_epoch: int
    metrics: dict[str, float]
    per_class: list[dict[str, Any]]


class ResultsTable:
    """`results.csv`: one row per epoch, counted from 1 (0: the initial weights). A row may add columns at the end.

    Args:
        path: The file.
        completed_epochs: Epochs of a resumed run: their rows stay, later ones are dropped; 0 starts a new table.
    """

    def __init__(self, path: str | Path, completed_epochs: int = 0):
        self.path = Path(path)
        self.columns: list[str] | None = None
        rows = []
        if completed_epochs and self.path.is_file():
            rows = [
                row
                for row in self._read()
                if re.fullmatch("[0-9]{1,9}", row["epoch"]) and int(row["epoch"]) <= completed_epochs
            ]
        if completed_epochs and (found := len({int(row["epoch"]) for row in rows} - {0})) < completed_epochs:
            epochs = f"{found} of {completed_epochs} completed epochs"
            logger.warning(f"{self.path}: has rows of {epochs}; the others are missing from its charts")
        self._rewrite(rows)

    def _read(self) -> list[dict[str, str]]:
        """The rows of the file; its columns become those of the table. Raises `UserError`."""
        columns, rows = read_csv_table(self.path)
        if columns and "epoch" not in columns:
            names = ", ".join(columns)
            raise UserError(f"{self.path}: has no column 'epoch' but {names:.80}; it was edited, remove or restore it")
        self.columns = columns or None
        return rows

    def _rewrite(self, rows: list[dict[str, Any]]) -> None:
        """Replace the file."""
        text = io.StringIO()
        if self.columns:
            writer = csv.DictWriter(text, self.columns, lineterminator="\n", extrasaction="ignore")
            writer.writeheader()
            writer.writerows(rows)
        write_atomically(self.path, text.getvalue(), sync=True)

    def add(self, row: dict[str, Any]) -> None:
        """Append one row, which is then on the disk; None becomes an empty cell, floats get six significant digits."""
        is_first = self.columns is None
        self.columns = self.columns or list(row)
        if new := [name for name in row if name not in self.columns]:  # the table is of an earlier version
            rows = self._read()
            self.columns = [*self.columns, *new]
            self._rewrite(rows)
        with write_errors(self.path), open(self.path, "a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, self.columns, lineterminator="\n")
            if is_first:
                writer.writeheader()
            writer.writerow({key: _cell(value) for key, value in row.items()})
            file.flush()
            os.fsync(file.fileno())


def read_column(path: str | Path, column: str) -> list[tuple[int, float]]:
    """Return (epoch, value) of each row of a results table with a value in `column`; it may be being written.

    Raises:
        UserError: If it is not such a table.
    """
    try:
        rows = read_csv_table(path)[1]
        return [(int(row["epoch"]), float(row[column])) for row in rows if row.get(column)]
    except FileNotFoundError:
        return []
    except UserError:
        raise
    except (KeyError, ValueError) as error:
        raise UserError(f"{path}: is not a table of results ({error}); it was damaged or edited") from None


def results_row(
    epoch: int,
    seconds: float,
    trained: "EpochResult | None",
    metrics: dict[str, float] | None,
    losses: dict[str, float] | None = None,
) -> dict[str, Any]:
    """Return a row of `results.csv`.

    Args:
        epoch: The epoch, counted from 1; 0 for the initial weights.
        seconds: Time since the start of the run.
        trained: Losses, speed and learning rate; None for the initial weights.
        metrics: Metrics of the validation; None without one.
        losses: Losses of the validation by name.
    """
    row: dict[str, Any] = {"epoch": epoch, "time": seconds}
    if trained:
        row["lr"] = trained.lr
        row |= {f"train/{name}": value for name, value in trained.losses.items()}
        row["train/images_per_s"] = trained.images_per_s
    row |= {f"val/{name}": (metrics or {}).get(name) for name in METRICS}
    return row | {f"val/{name}": value for name, value in (losses or {}).items()}


def epoch_line(epoch: int, epochs: int, row: dict[str, Any], seconds_left: float) -> str:
    """Return one line about an epoch from its row of the results table."""
    speed = "train/images_per_s"
    losses = [key for key in row if key.startswith("train/") and key != speed and row[key] is not None]
    values = [f"{key.split('/')[1]} {row[key]:.4g}" for key in losses]
    values += [f"{name} {row[f'val/{name}']:.3f}" for name in METRICS if row[f"val/{name}"] is not None]
    others = [key for key in row if key.startswith("val/") and key.removeprefix("val/") not in METRICS]
    values += [f"{key} {row[key]:.4g}" for key in others]
    values += [f"{row[speed]:.1f} images/s"] if row.get(speed) else []
    return f"epoch {epoch}/{epochs}: {', '.join(values)}, {duration(seconds_left)} left"


def save_config(path: str | Path, content: dict[str, Any]) -> None:
    """Write plain data (see `graftdet.utils.checkpoint.to_plain`) as YAML, in the order of `content`."""
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
    write_atomically(path, valid_utf8(text), sync=True)


def _cell(value: object) -> str:
    return "" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)
