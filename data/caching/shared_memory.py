"""A block of bytes that one process fills and its workers read without copying, forked or spawned. No torch.

On Linux it is an unnamed file in memory (memfd): it needs no space in /dev/shm, which is small in containers, and is
freed with its process however that ends. Elsewhere it is a temporary file, mapped.
"""

import contextlib
import mmap
import os
import tempfile
import weakref

import numpy as np


class SharedFile:
    """Append arrays, then view their bytes. It is pickled as a reference to the file, without its content."""

    def __init__(self):
        if hasattr(os, "memfd_create"):
            self._handle, self.path = os.memfd_create("images"), None
        else:
            self._handle, self.path = tempfile.mkstemp(prefix="graftdet-images-")
        self._owner = os.getpid()
        self._length = 0
        self._map = None
        weakref.finalize(self, _remove, self._handle, self.path, self._owner)

    def append(self, array: np.ndarray) -> int:
        """Append the bytes of an array.

        Returns:
            Their offset.

        Raises:
            OSError: if memory (or the disk) is full.
        """
        data = np.ascontiguousarray(array).data.cast("B")
        offset = self._length
        written = 0
        while written < len(data):
            written += os.write(self._handle, data[written:])
        self._length += written
        return offset

    def view(self, offset: int, count: int) -> np.ndarray | None:
        """Return `count` bytes as a read-only uint8 array; None if this process cannot access the file."""
        if self._map is None or (self._map is not False and len(self._map) < offset + count):
            self._map = self._open()
        if self._map is False:  # not accessible
            return None
        return np.frombuffer(self._map, np.uint8, count, offset)

    def _open(self) -> mmap.mmap | bool:
        try:
            if self._handle is not None:
                return mmap.mmap(self._handle, self._length, access=mmap.ACCESS_READ)
            with open(self.path or f"/proc/{self._owner}/fd/{self._owner_handle}", "rb") as file:
                return mmap.mmap(file.fileno(), self._length, access=mmap.ACCESS_READ)
        except (OSError, ValueError):
            return False

    def __getstate__(self) -> dict:
        return {"handle": self._handle, "path": self.path, "owner": self._owner, "length": self._length}

    def __setstate__(self, state: dict) -> None:
        self._handle, self._map = None, None
        self._owner_handle, self.path = state["handle"], state["path"]
        self._owner, self._length = state["owner"], state["length"]


def _remove(handle: int, path: str | None, owner: int) -> None:
    if os.getpid() != owner:  # a forked worker that ends must not delete the file
        return
    os.close(handle)
    if path:
        with contextlib.suppress(OSError):  # Windows locks it while a worker has it mapped
            os.unlink(path)
