"""How much memory is free, with the standard library only."""

import ctypes
import os
import sys
from pathlib import Path


def free_memory() -> int | None:
    """Bytes a program may still take without swapping, within the limits of a container; None when nobody tells."""
    if sys.platform == "win32":
        return _windows()
    free = _linux(Path("/proc/meminfo"))
    if free is None:
        return _half_of_all()
    limits = [left for left in map(_cgroup, _CGROUPS) if left is not None]
    return max(min([free, *limits]), 0)


_CGROUPS = (
    (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")),
    (Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"), Path("/sys/fs/cgroup/memory/memory.usage_in_bytes")),
)


def _linux(meminfo: Path) -> int | None:
    try:
        for line in meminfo.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return None


def _cgroup(files: tuple[Path, Path]) -> int | None:
    """Bytes left below a container's limit, its cache of files, which makes room, not counted; None without one ('max')."""
    try:
        limit, used = (int(file.read_text()) for file in files)
    except (OSError, ValueError):
        return None
    return limit - used + _inactive_file(files[0].with_name("memory.stat"))


def _inactive_file(stat: Path) -> int:
    """Bytes of files that a container keeps in memory unused, those of groups in it too; 0 when nobody tells."""
    try:
        told = dict(line.split() for line in stat.read_text().splitlines())
        return int(told.get("total_inactive_file", told.get("inactive_file", 0)))  # version 1 has both, 2 the latter
    except (OSError, ValueError):
        return 0


def _half_of_all() -> int | None:
    """macOS tells the total only: take half of it as free."""
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
    if not ctypes.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status)):
        return None
    return status.free
