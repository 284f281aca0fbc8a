"""Faster start and shorter waits: how long idle threads of torch spin. No torch: it reads the setting when loaded."""

import gc
import os
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

SPIN_COUNTS = {"idle": 30_000, "shared": 1000}
"""Iterations that idle threads of torch (GNU OpenMP) spin before they sleep: 1 to 2 ms, or a thirtieth of it."""
BUSY = 0.15  # fraction of the cores used by other processes from which the machine counts as shared


def set_spin_count(meanwhile: Callable[[], object] = lambda: None) -> None:
    """Set $GOMP_SPINCOUNT, unless it is set, by the current load from other processes.

    Spinning threads resume work at once, but block cores that others, and the thread they wait for, could use. So they
    spin long on an idle machine, and briefly where other processes use the cores or the load is not known. Measuring
    takes a tenth of a second.

    Args:
        meanwhile: Called during the measurement, in this thread.
    """
    if "GOMP_SPINCOUNT" not in os.environ:
        busy = busy_fraction(meanwhile)
        os.environ["GOMP_SPINCOUNT"] = str(SPIN_COUNTS["idle" if busy is not None and busy < BUSY else "shared"])


def busy_fraction(meanwhile: Callable[[], object] = lambda: None, seconds: float = 0.1) -> float | None:
    """Measure how much of the cores of this process other processes use.

    Args:
        meanwhile: Called during the measurement.
        seconds: Minimum duration of the measurement.

    Returns:
        A fraction from 0 to 1; None if the system does not report it (only Linux does).
    """
    before, start, spent = _ticks(), time.perf_counter(), time.process_time()
    meanwhile()
    if before:
        time.sleep(max(seconds - (time.perf_counter() - start), 0))
    after, own = _ticks(), time.process_time() - spent
    if not before or not after or after[1] <= before[1]:
        return None
    return max(after[0] - before[0] - own * os.sysconf("SC_CLK_TCK"), 0) / (after[1] - before[1])


def _ticks(path: str = "/proc/stat") -> tuple[int, int] | None:
    """Clock ticks (busy, all) since boot of the cores that this process may use."""
    try:
        cores = os.sched_getaffinity(0)
        lines = [line.split() for line in Path(path).read_text(encoding="ascii").splitlines()]
        rows = [  # user nice system idle iowait irq softirq steal
            list(map(int, fields[1:9]))
            for fields in lines
            if fields[0][:3] == "cpu" and fields[0][3:].isdecimal() and int(fields[0][3:]) in cores
        ]
    except (OSError, AttributeError, ValueError, IndexError):
        return None
    total, idle = sum(map(sum, rows)), sum(row[3] + row[4] for row in rows)
    return total - idle, total


def import_before_torch(module: str) -> None:
    """Import `module`, which does not import torch, while measuring the load for `set_spin_count`.

    Disables garbage collection until `graftdet.utils.cli.run`: modules stay alive, and scanning them repeatedly takes a
    tenth of the time of loading.
    """
    gc.disable()
    set_spin_count(meanwhile=lambda: import_module(module))
