"""What a run tells: progress on the terminal, a table of results, the options it ran with."""

import csv
import io
import os
import platform
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

import yaml
from tqdm import tqdm

from .config import ROOT
from .errors import writing

_PACKAGES = ("torch", "numpy", "opencv-python", "onnx", "onnxruntime")


class Progress:
    """Counts `total` steps: a bar on a terminal, elsewhere a plain line a minute. `quiet` tells nothing.

    Used as a context; `step(text)` counts one and shows `text` (losses, memory ...) beside it.
    """

    def __init__(self, total: int, title: str, quiet: bool = False, every: float = 60.0):
        self.total, self.title, self.quiet, self.every = total, title, quiet, every
        self.done, self.start, self.told = 0, time.monotonic(), time.monotonic()
        terminal = sys.stderr.isatty() and not quiet
        self.bar = tqdm(total=total, desc=title, leave=False, dynamic_ncols=True) if terminal else None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.bar is not None:
            self.bar.close()

    def step(self, text: str = "") -> None:
        """Count one step."""
        self.done += 1
        now = time.monotonic()
        if self.bar is not None:
            self.bar.set_postfix_str(text, refresh=False)
            self.bar.update()
        elif not self.quiet and now - self.told >= self.every:
            self.told = now
            left = duration((now - self.start) / self.done * (self.total - self.done))
            print(f"{self.title}: {self.done}/{self.total} {text}, {left} left", flush=True)


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
        with writing(self.path):
            self.path.write_text(text.getvalue(), encoding="utf-8")

    def add(self, row: dict) -> None:
        """Append one row; None becomes an empty cell, other floats get six significant digits."""
        first = self.columns is None
        self.columns = self.columns or list(row)
        with writing(self.path), open(self.path, "a", newline="", encoding="utf-8") as file:
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
    """The row of `results.csv` for `epoch`, counted from 1: `trained` is a `utils.trainer.EpochResult`, `metrics` those
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
    """Write plain `content` (see `utils.checkpoint.to_plain`) as YAML, in its own order."""
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
    with writing(path):
        Path(path).write_text(text, encoding="utf-8")


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide results, of the platform and of this code ('' unknown)."""
    found = {"python": platform.python_version(), "platform": platform.platform()}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = ""
    return {**found, "commit": commit()}


def commit() -> str:
    """The git commit of this checkout, with '+' when files differ from it; '' where there is no git."""
    if not (ROOT / ".git").exists():
        return ""
    try:
        ask = ["git", "-c", "safe.directory=*", "-C", str(ROOT)]
        settings = {"capture_output": True, "text": True, "timeout": 10, "env": {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}}
        head = subprocess.run([*ask, "rev-parse", "HEAD"], **settings)
        changed = subprocess.run([*ask, "status", "--porcelain", "--untracked-files=no"], **settings)
    except (OSError, subprocess.SubprocessError):
        return ""
    return head.stdout.strip() + ("+" if changed.stdout.strip() else "") if head.returncode == 0 else ""


def duration(seconds: float) -> str:
    """Seconds as 1:02:03 or 2:03."""
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


def _cell(value) -> str:
    return "" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)
