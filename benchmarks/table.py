"""What every table shares: rows with a figure, its ratio to a reference of the same run, the limit and the verdict."""

import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


@dataclass
class Table:
    """Rows are added as they are measured and printed at once: a long table shows what it has so far."""

    title: str
    short: list[str] = field(default_factory=list)
    _begun: bool = False

    def add(
        self,
        what: str,
        figure: str,
        value: float | None = None,
        *,
        at_least: float | None = None,
        at_most: float | None = None,
    ):
        """A row: `figure` as it is shown, `value` what the limit is about (a ratio, or the figure itself), two digits.

        Rows that miss their limit are kept in `short`.
        """
        if not self._begun:
            print(
                f"\n## {self.title}\n\n{machine()}\n\n| what | figure | ratio | limit | verdict |\n|---|---|---|---|---|"
            )
            self._begun = True
        limit = (
            f"at least {at_least:g}" if at_least is not None else f"at most {at_most:g}" if at_most is not None else ""
        )
        good = value is None or not (
            at_least is not None and value < at_least or at_most is not None and value > at_most
        )
        verdict = "" if not limit else "ok" if good else "SHORT"
        if not good:
            self.short.append(what)
        print(f"| {what} | {figure} | {'' if value is None else f'{value:.2f}'} | {limit} | {verdict} |", flush=True)


def machine() -> str:
    """The processor, its cores, the versions and the commit that a table was made with."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    parts = [f"{_processor()}, {cores} cores", f"Python {platform.python_version()}"]
    from importlib.metadata import PackageNotFoundError, version

    for package in ("torch", "onnxruntime", "openvino", "opencv-python"):
        try:
            parts.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    return ", ".join([*parts, f"commit {_commit()}"])


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


def _commit() -> str:
    try:
        told = subprocess.run(
            ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return told.stdout.strip() or "unknown"


def take_turns(calls: list[Callable[[], object]], repeats: int = 20, warmup: int = 2) -> list[float]:
    """The median seconds of each call. They are timed in turns: a machine that slows down slows all of them down."""
    seconds: list[list[float]] = [[] for _ in calls]
    for turn in range(warmup + repeats):
        for call, times in zip(calls, seconds, strict=True):
            start = time.perf_counter()
            call()
            if turn >= warmup:
                times.append(time.perf_counter() - start)
    return [statistics.median(times) for times in seconds]


def data_folder(name: str) -> Path | None:
    """The folder of real data `name` below $DATASETS_DIR; None, and a word about it, where it is not there."""
    folder = Path(os.environ.get("DATASETS_DIR", "datasets")) / name
    if folder.is_dir():
        return folder
    print(f"{folder}: not there, so the rows that need it are left out; set DATASETS_DIR")
    return None
