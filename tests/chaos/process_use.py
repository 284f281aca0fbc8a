"""Memory, handles and threads of a process and its children over time, and whether they grow. Linux only."""

import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

MEMORY_GROWTH, MEMORY_MB = 1.05, 16.0  # what allocators and the counters of the system fluctuate by
MORE = 2  # handles or threads


@dataclass(frozen=True)
class Use:
    """What a process and its children use: resident memory [MB], open handles, threads."""

    memory_mb: float
    handles: int
    threads: int


def use_of(process: int) -> Use | None:
    """What a process and its children use now; None where it has ended."""
    memory, handles, threads = 0.0, 0, 0
    waiting = [process]
    while waiting:
        folder = Path("/proc") / str(waiting.pop())
        try:
            fields = dict(line.split(":", 1) for line in (folder / "status").read_text().splitlines())
            if "VmRSS" in fields:
                memory += int(fields["VmRSS"].split()[0]) / 1024
                threads += int(fields["Threads"])
                handles += len(list((folder / "fd").iterdir()))
            for task in (folder / "task").iterdir():
                waiting += [int(child) for child in (task / "children").read_text().split()]
        except (OSError, ValueError):
            continue  # ended in this moment
    return Use(memory, handles, threads) if memory else None


def watch(process: subprocess.Popen, seconds: float | None = None, interval: float = 0.5) -> list[Use]:
    """What a process uses until it ends, or for a number of seconds."""
    uses, start = [], time.monotonic()
    while process.poll() is None and (seconds is None or time.monotonic() - start < seconds):
        if use := use_of(process.pid):
            uses.append(use)
        time.sleep(interval)
    return uses


def growth(uses: list[Use]) -> tuple[Use, Use, list[str]]:
    """Compare the end of a process with the time after its start.

    The first third is left out: libraries allocate their buffers there.

    Returns:
        Medians of the second and of the last third, without the last samples, and what has grown.
    """
    third = len(uses) // 3
    table = np.array([(use.memory_mb, use.handles, use.threads) for use in uses], float)  # (n, 3)
    early, late = np.median(table[third : 2 * third], 0), np.median(table[2 * third : -2], 0)
    found = []
    if late[0] > early[0] * MEMORY_GROWTH + MEMORY_MB:
        found.append(f"memory from {early[0]:.0f} to {late[0]:.0f} MB")
    for index, name in ((1, "handles"), (2, "threads")):
        if late[index] > early[index] + MORE:
            found.append(f"{name} from {early[index]:.0f} to {late[index]:.0f}")
    first, last = (Use(float(part[0]), int(part[1]), int(part[2])) for part in (early, late))
    return first, last, found
