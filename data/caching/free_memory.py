"""The free memory of the machine, with the standard library only."""

import ctypes
import os
import sys
from pathlib import Path

_CGROUPS = (  # (limit, usage) of version 2 and version 1
    (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")),
    (Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"), Path("/sys/fs/cgroup/memory/memory.usage_in_bytes")),
)


def free_memory() -> int | None:
    """Return the bytes that can be allocated without swapping, within the limits of a container; None if unknown."""
    if sys.platform == "win32":
        return _windows()
    free = _linux(Path("/proc/meminfo"))
    if free is None:
        return _half_of_total()
    limits = [left for left in map(_cgroup, _CGROUPS) if left is not None]
    return max(min([free, *limits]), 0)


def _linux(meminfo: Path) -> int | None:
    try:
        for line in meminfo.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return None


def _cgroup(files: tuple[Path, Path]) -> int | None:
    """Bytes left below the limit of a container, not counting its file cache, which can be freed; None without one."""
    try:
        limit, used = (int(file.read_text()) for file in files)
    except (OSError, ValueError):
        return None
    return limit - used + _inactive_file(files[0].with_name("memory.stat"))


def _inactive_file(stat: Path) -> int:
    """Bytes of the inactive file cache of a container, including its subgroups; 0 if unknown."""
    try:
        values = dict(line.split() for line in stat.read_text().splitlines())
        return int(values.get("total_inactive_file", values.get("inactive_file", 0)))  # version 1 has both
    except (OSError, ValueError):
        return 0


def _half_of_total() -> int | None:
    """Half of the total memory, where only that is reported (macOS)."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    except (ValueError, OSError, AttributeError):
        return None


def _windows() -> int | None:
    class Status(ctypes.Structure):
        _fields_ = [("length", ctypes.c_ulong), ("load", ctypes.c_ulong)] + [
            (name, ctypes.c_ulonglong)
            for name in ("total", "free", "page_total", "page_free", "virtual_total", "virtual_free", "extended")
        ]

    status = Status(length=ctypes.sizeof(Status))
    if not ctypes.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status)):  # type: ignore[attr-defined]
        return None
    return status.free
