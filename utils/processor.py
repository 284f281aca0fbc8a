"""The processor of this machine. No torch."""

import functools
import os
import platform
from pathlib import Path

_CPUINFO = Path("/proc/cpuinfo")


@functools.cache
def cpu_flags() -> frozenset[str]:
    """Return the instruction sets listed in /proc/cpuinfo; empty on systems without this file."""
    return frozenset(_cpuinfo().get("flags", "").split())


def has_bfloat16() -> bool:
    """Return whether the processor has instructions for bfloat16; without, it is emulated slowly."""
    return bool(cpu_flags() & {"avx512_bf16", "amx_bf16"})


def processor_name() -> str:
    """Return the model of the processor, as far as the system says it."""
    return _cpuinfo().get("model name") or platform.processor() or platform.machine()


def usable_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _cpuinfo() -> dict[str, str]:
    """What the system says of the first core; {} where there is no such file."""
    try:
        first = _CPUINFO.read_text(errors="replace").split("\n\n")[0]
    except OSError:
        return {}
    pairs = (line.partition(":") for line in first.splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}
