"""One block of bytes that a process fills and its workers read without copying, forked or spawned. No torch.

On Linux it is an unnamed file in memory (memfd): it needs no room in /dev/shm, which containers keep small, and is
gone with its process however that ends. Elsewhere it is a temporary file, mapped.
"""

import mmap
import os
import tempfile
import weakref

import numpy as np


class SharedFile:
    """Append arrays, then view their bytes. Pickles as the way to find the file, never as its content."""

    def __init__(self):
        if hasattr(os, "memfd_create"):
            self._handle, self.path = os.memfd_create("pictures"), None
        else:
            self._handle, self.path = tempfile.mkstemp(prefix="graftdet-pictures-")
        self._owner = os.getpid()
        self._length = 0
        self._map = None
        weakref.finalize(self, _remove, self._handle, self.path, self._owner)

    def append(self, array: np.ndarray) -> int:
        """Add the bytes of `array`; returns their offset. Raises `OSError` when there is no room."""
        data = memoryview(np.ascontiguousarray(array)).cast("B")
        offset = self._length
        written = 0
        while written < len(data):
            written += os.write(self._handle, data[written:])
        self._length += written
        return offset

    def view(self, offset: int, count: int) -> np.ndarray | None:
        """`count` bytes from `offset` as a read-only uint8 array; None when this process cannot reach the file."""
        if self._map is None or self._map is not False and len(self._map) < offset + count:
            self._map = self._open()
        if self._map is False:  # once and for all
            return None
        return np.frombuffer(self._map, np.uint8, count, offset)

    def _open(self):
        try:
            if self._handle is not None:
                return mmap.mmap(self._handle, self._length, access=mmap.ACCESS_READ)
            with open(self.path or f"/proc/{self._owner}/fd/{self._theirs}", "rb") as file:
                return mmap.mmap(file.fileno(), self._length, access=mmap.ACCESS_READ)
        except (OSError, ValueError):
            return False

    def __getstate__(self):
        return {"theirs": self._handle, "path": self.path, "owner": self._owner, "length": self._length}

    def __setstate__(self, state):
        self._handle, self._map = None, None
        self._theirs, self.path, self._owner, self._length = (state[k] for k in ("theirs", "path", "owner", "length"))


def _remove(handle: int, path: str | None, owner: int) -> None:
    if os.getpid() != owner:  # a forked worker that ends must not take the file away
        return
    os.close(handle)
    if path:
        try:
            os.unlink(path)
        except OSError:
            pass  # Windows keeps it while a worker has it mapped; the temporary folder is the system's to clean
