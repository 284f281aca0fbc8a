"""How long threads that wait keep their core. No torch: it reads this when it is loaded."""

import gc
import os
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

SPINS = {"alone": 30_000, "shared": 1000}
"""Turns that torch's threads (GNU OpenMP) spin before they sleep: a millisecond or two, or a thirtieth of that."""


def set_spin_count(least: float = 0.15, meanwhile: Callable[[], object] = lambda: None) -> None:
    """Set GOMP_SPINCOUNT, unless it is set, by what the cores of this process do for others at the moment.

    Threads that spin are at once back at work, but they hold cores that others, and the thread they wait for, could use:
    long where nothing else computes, briefly where the share `least` of the cores is taken or nobody knows. Looking
    takes a tenth of a second, in which `meanwhile` may do something useful in one thread.
    """
    if "GOMP_SPINCOUNT" not in os.environ:
        busy = busy_fraction(meanwhile)
        os.environ["GOMP_SPINCOUNT"] = str(SPINS["alone" if busy is not None and busy < least else "shared"])


def busy_fraction(meanwhile: Callable[[], object] = lambda: None, seconds: float = 0.1) -> float | None:
    """The share, 0 to 1, of the time that this process's cores worked for others while `meanwhile` ran, and for `seconds`
    at least; None where the system does not tell (it is Linux that does)."""
    before, begun, spent = _ticks(), time.perf_counter(), time.process_time()
    meanwhile()
    if before:
        time.sleep(max(seconds - (time.perf_counter() - begun), 0))
    after, own = _ticks(), time.process_time() - spent
    if not before or not after or after[1] <= before[1]:
        return None
    return max(after[0] - before[0] - own * os.sysconf("SC_CLK_TCK"), 0) / (after[1] - before[1])


def _ticks(path: str = "/proc/stat") -> tuple[int, int] | None:
    """Clock ticks since the start: (busy ones, all) of the cores that this process may use."""
    try:
        cores = os.sched_getaffinity(0)
        lines = [line.split() for line in Path(path).read_text(encoding="ascii").splitlines()]
        own = [
            list(map(int, words[1:9]))
            for words in lines
            if words[0][:3] == "cpu" and words[0][3:].isdecimal() and int(words[0][3:]) in cores
        ]
    except (OSError, AttributeError, ValueError, IndexError):
        return None
    total, idle = (
        sum(map(sum, own)),
        sum(row[3] + row[4] for row in own),
    )  # user nice system idle iowait irq softirq steal
    return total - idle, total


def import_before_torch(module: str) -> None:
    """Load `module`, which brings no torch, and meanwhile find out how long threads are to spin (`graftdet.utils.startup`).

    No garbage is collected until `graftdet.utils.cli.run`: what modules are made of stays, and looking through it again and again
    takes a tenth of the time of loading.
    """
    gc.disable()
    set_spin_count(meanwhile=lambda: import_module(module))
