"""Threads of torch beside other processes: how many compute, and whether idle ones spin.

Spinning threads resume work at once, but block cores that other processes, and the thread they wait for, could use. No
torch at import: GNU OpenMP reads its settings when torch is loaded.
"""

import contextlib
import logging
import math
import os
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from graftdet.utils.processor import usable_cores

logger = logging.getLogger(__name__)

SPIN_COUNT = 30_000
"""Iterations that idle threads of torch (GNU OpenMP) spin before they sleep: 1 to 2 ms."""
BUSY = 0.15  # fraction of the cores used by other processes from which idle threads do not spin
SPIN_SECONDS, NUMBER_SECONDS = 1.0, 10.0  # least time between two decisions about spinning and about the number
MAX_PATIENCE = 64  # measurements in a row that must allow more threads, where that was taken back before
NUMBER_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")  # where one is set, the number of threads is constant


_process_start: "CpuTimes | None" = None


def set_up_spinning() -> None:
    """Let idle threads of torch spin briefly, and not at all while there is a `SleepingTeam`.

    To be called before torch is imported. Variables that the user has set stay. The load is measured from here on.
    """
    global _process_start
    _process_start = CpuTimes.now()
    if not {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} & os.environ.keys():
        os.environ["GOMP_SPINCOUNT"] = str(SPIN_COUNT)
        os.environ["OMP_WAIT_POLICY"] = "passive"  # no spinning when there are more threads than cores


@dataclass(frozen=True)
class CpuTimes:
    """CPU time since boot of the cores that this process may use, and its own since its start, in clock ticks.

    Attributes:
        busy, total: Ticks of the cores, without and with idle ones. What other virtual machines took is not busy: fewer
            threads would not help.
        own: Ticks of this process and its child processes, those that have ended included.
        clock: Seconds of a clock.
    """

    busy: float
    total: float
    own: float
    clock: float

    @classmethod
    def now(cls) -> "CpuTimes | None":
        """Read them; None if the system does not report them (only Linux does)."""
        ticks = _ticks()
        if not ticks:
            return None
        loaded = sys.modules.get("multiprocessing")
        running = sum(_process_ticks(child.pid) for child in loaded.active_children()) if loaded else 0
        used = os.times()
        seconds = used.user + used.system + used.children_user + used.children_system
        return cls(*ticks, seconds * os.sysconf("SC_CLK_TCK") + running, time.monotonic())

    def used_by_others(self, later: "CpuTimes") -> float:
        """Return the fraction of the cores, from 0 to 1, that other processes used from here to `later`."""
        total = later.total - self.total
        others = later.busy - self.busy - max(later.own - self.own, 0)
        return min(max(others / total, 0.0), 1.0) if total > 0 else 0.0


def load_since(before: CpuTimes | None) -> float:
    """Return the fraction of the cores, from 0 to 1, that other processes used since `before`; 0 if it is unknown."""
    now = CpuTimes.now()
    return before.used_by_others(now) if before and now else 0.0


def load_since_start() -> float:
    """Return `load_since` the start of the process; 0 where `set_up_spinning` was not called."""
    return load_since(_process_start)


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
    total, idle = sum(map(sum, rows)), sum(row[3] + row[4] + row[7] for row in rows)
    return total - idle, total


def _process_ticks(pid: int | None) -> int:
    """Clock ticks that a process used; 0 if it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])  # utime and stime
    except (OSError, ValueError, IndexError):
        return 0


class SleepingTeam:
    """Threads that only sleep. While they exist, GNU OpenMP has more threads than cores, and its idle threads sleep.

    OpenMP has no call that changes how long threads spin. But GNU OpenMP compares the number of its threads with that
    of the cores each time a thread begins to wait, and does not spin where threads are more.
    """

    def __init__(self, missing: int):
        """Start `missing` threads (at least 1), plus one that waits for `end`."""
        self._end, ready = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, args=(missing + 1, ready), daemon=True)
        self._thread.start()
        ready.wait()

    def _run(self, size: int, ready: threading.Event) -> None:
        import torch

        try:
            openmp = _gnu_openmp()
            if openmp:
                torch.get_num_threads()  # first gives this thread the number of the process
                openmp.omp_set_num_threads(size)  # of this thread alone
                torch.zeros(1 << 17).add_(1)  # large enough to be computed by all threads, which starts them
        finally:
            ready.set()
        self._end.wait()

    def end(self) -> None:
        """End these threads."""
        self._end.set()
        self._thread.join()


def _gnu_openmp() -> Any:
    """The library that torch has loaded, if it is GNU OpenMP; else None."""
    import ctypes

    try:
        lines = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace").splitlines()
        path = next((line.split(maxsplit=5)[5] for line in lines if "libgomp" in line), None)
        return ctypes.CDLL(path) if path else None
    except OSError:
        return None


@dataclass
class ThreadControl:
    """Adapts the threads of torch to the load from other processes, between two batches.

    Where others compute, idle threads do not spin; that changes no result. Where they do so for 20 seconds, only as
    many threads compute as there are cores left: threads that wait for one without a core lose more than their core is
    worth. Sums over another number of threads may differ in the last digit, so short loads do not change the number.

    Attributes:
        limit: The largest number of threads.
        constant: Never change the number.
        began: CPU times from which the load is measured.
    """

    limit: int
    constant: bool
    began: CpuTimes | None

    def __post_init__(self) -> None:
        self.threads = self.limit
        self._team: SleepingTeam | None = None
        self._spin_from = self._number_from = self.began
        self._counts: list[int] = []  # numbers of threads that the last measurements allow
        self._patience, self._grew = 2, False

    def update(self) -> None:
        """Measure the load since the last measurements, if they are old enough, and adapt the threads.

        Raises nothing and returns at once where the system does not report the load.
        """
        if self.limit == 1 or not self._spin_from or not self._number_from:
            return
        if time.monotonic() < self._spin_from.clock + SPIN_SECONDS:
            return
        now = CpuTimes.now()
        if not now:
            return
        busy, self._spin_from = self._spin_from.used_by_others(now), now
        self._set_spinning(busy < BUSY)
        if not self.constant and now.clock >= self._number_from.clock + NUMBER_SECONDS:
            busy, self._number_from = self._number_from.used_by_others(now), now
            self._choose_number(busy)

    def _choose_number(self, busy: float) -> None:
        """Change the number where several measurements agree."""
        fitting = max(1, math.floor(self.limit * (1 - busy) + 0.5))
        self._counts = [*self._counts, fitting][-MAX_PATIENCE:]
        less, more = self._counts[-2:], self._counts[-self._patience :]
        if len(less) == 2 and max(less) < self.threads:
            chosen = max(less)
        elif len(more) == self._patience and min(more) > self.threads:
            chosen = min(more)
        else:
            return
        if chosen < self.threads and self._grew:
            self._patience = min(2 * self._patience, MAX_PATIENCE)
        self._grew = chosen > self.threads
        self._set_number(chosen, busy)

    def _set_number(self, number: int, busy: float) -> None:
        import torch

        self.threads, self._counts = number, []
        torch.set_num_threads(number)
        if self._team:
            self._set_spinning(True)
            self._set_spinning(False)
        logger.info(
            f"other processes use {busy:.0%} of the cores: torch computes with {number} of {self.limit} threads "
            f"(results may differ in the last digit; OMP_NUM_THREADS={self.limit} keeps the number)"
        )

    def _set_spinning(self, spin: bool) -> None:
        if spin and self._team:
            self._team.end()
            self._team = None
        elif not spin and not self._team and self.threads > 1:
            self._team = SleepingTeam(max(usable_cores() - self.threads + 1, 1))

    def close(self) -> None:
        """Restore threads and spinning."""
        import torch

        self._set_spinning(True)
        if self.threads != self.limit:
            torch.set_num_threads(self.limit)


_active: ThreadControl | None = None


@contextlib.contextmanager
def sharing_cores(device_type: str, constant: bool = False) -> Iterator[None]:
    """Let `adapt_threads` follow the load inside. Does nothing on other devices than "cpu", and below torchrun.

    Args:
        device_type: Type of the device that computes.
        constant: Never change the number of threads, as where OMP_NUM_THREADS is set.
    """
    global _active
    if device_type != "cpu" or int(os.environ.get("WORLD_SIZE", 1)) > 1 or _active:
        yield
        return
    import torch

    constant = constant or any(os.environ.get(name) for name in NUMBER_VARIABLES)
    _active = ThreadControl(torch.get_num_threads(), constant, _process_start or CpuTimes.now())
    try:
        yield
    finally:
        _active.close()
        _active = None


def adapt_threads() -> None:
    """Adapt the threads of torch to the load; to be called between batches by the thread that computes them."""
    if _active:
        _active.update()
