"""The table that all benchmarks print: result, ratio to a reference of the same run, limit and verdict."""

import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from graftdet.utils.environment import commit
from graftdet.utils.tables import markdown_row, markdown_table

ROOT = Path(__file__).resolve().parents[1]
COLUMNS = ["what", "figure", "ratio", "limit", "verdict"]


@dataclass
class Table:
    """Prints each row as soon as it is added, so that a long run shows its results so far.

    Args:
        title: Printed above the table.
        short: Rows that missed their limit.
    """

    title: str
    short: list[str] = field(default_factory=list)
    _started: bool = False

    def add(
        self,
        what: str,
        figure: str,
        value: float | None = None,
        *,
        at_least: float | None = None,
        at_most: float | None = None,
    ) -> None:
        """Print a row.

        Args:
            what: What was measured.
            figure: The result as text.
            value: What the limit applies to: the ratio to a reference, or the result itself.
            at_least: Lower limit of `value`.
            at_most: Upper limit of `value`.
        """
        if not self._started:
            print(f"\n## {self.title}\n\n{machine()}\n\n{markdown_table(COLUMNS, [])}")
            self._started = True
        limit = (
            f"at least {at_least:g}" if at_least is not None else f"at most {at_most:g}" if at_most is not None else ""
        )
        good = value is None or not (
            (at_least is not None and value < at_least) or (at_most is not None and value > at_most)
        )
        verdict = "" if not limit else "ok" if good else "SHORT"
        if not good:
            self.short.append(what)
        print(markdown_row([what, figure, "" if value is None else f"{value:.2f}", limit, verdict]), flush=True)


def machine() -> str:
    """Return processor, number of cores, versions and commit."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    parts = [f"{_processor()}, {cores} cores", f"Python {platform.python_version()}"]
    for package in ("torch", "onnxruntime", "openvino", "opencv-python"):
        try:
            parts.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    revision = commit()
    return ", ".join([*parts, f"commit {revision[:7] + '+' * revision.endswith('+') or 'unknown'}"])


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    flags = next((line for line in lines if line.startswith("flags")), "").split()
    extras = [
        name for flag, name in (("avx512f", "AVX-512"), ("avx512_bf16", "BF16"), ("amx_bf16", "AMX")) if flag in flags
    ]
    return " ".join([names[0] if names else platform.machine(), *extras])


def time_alternately(calls: list[Callable[[], object]], repeats: int = 20, warmup: int = 2) -> list[float]:
    """Return the median seconds of each call.

    The calls are timed alternately, so that changes of the machine's speed affect all of them.

    Args:
        calls: What to time.
        repeats: Timed runs of each.
        warmup: Runs of each before that.
    """
    seconds: list[list[float]] = [[] for _ in calls]
    for number in range(warmup + repeats):
        for call, times in zip(calls, seconds, strict=True):
            start = time.perf_counter()
            call()
            if number >= warmup:
                times.append(time.perf_counter() - start)
    return [statistics.median(times) for times in seconds]


def data_folder(name: str) -> Path | None:
    """Return the folder `name` below $DATASETS_DIR; if it does not exist, print that and return None."""
    folder = Path(os.environ.get("DATASETS_DIR", "datasets")) / name
    if folder.is_dir():
        return folder
    print(f"{folder}: no such folder; rows that need it are skipped (set DATASETS_DIR)")
    return None
