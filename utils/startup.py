"""Faster start and shorter waits: how long idle threads of torch spin. No torch: it reads the setting when loaded."""

import gc
import os
import time
from argparse import ArgumentParser
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path

from graftdet.utils import cli

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


def run_script(name: str, arguments: Sequence[str]) -> None:
    """Import a script and call its `main`, as if its file was run.

    Args:
        name: Name of the script's module, such as `graftdet.train`.
        arguments: Its command line; `sys.argv` holds the same.
    """
    global _script
    _script = name
    import_module(name).main(arguments)


_script = ""  # the module that `run_script` runs


def is_script(name: str) -> bool:
    """Whether the module of this `__name__` is the script that the process runs."""
    return name in ("__main__", _script)


def parse_and_prepare(make_parser: Callable[[], ArgumentParser], light_module: str = "") -> None:
    """Prepare the import of torch by a script, after its command line was parsed: --help and wrong flags end here.

    Disables garbage collection until `graftdet.utils.cli.run`: modules stay alive, and scanning them repeatedly takes a
    tenth of the time of loading.

    Args:
        make_parser: Returns the parser of the script.
        light_module: Module without torch that the script needs anyway, imported while the load is measured for
            `set_spin_count`; without one, it is not measured.
    """
    cli.run(lambda: make_parser().parse_args())
    gc.disable()
    if light_module:
        set_spin_count(meanwhile=lambda: import_module(light_module))
