"""Reading many small files from several threads: reading waits for the disk, not for the processor."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_threads(
    work: Callable[[Item], Result], items: Iterable[Item], threads: int = 8, batch: int = 64
) -> Iterator[tuple[Item, Result]]:
    """Apply a function to items from several threads, in order.

    Args:
        work: the function.
        items: its arguments, one at a time.
        threads: number of threads.
        batch: items per task; at most four tasks per thread are queued.

    Yields:
        (item, `work(item)`) in the order of the items.
    """
    items = iter(items)

    def run_batch(chunk: list[Item]) -> list[tuple[Item, Result]]:
        return [(item, work(item)) for item in chunk]

    with ThreadPoolExecutor(threads) as pool:
        queue: deque = deque()
        while chunk := list(islice(items, batch)):
            queue.append(pool.submit(run_batch, chunk))
            if len(queue) >= 4 * threads:
                yield from queue.popleft().result()
        while queue:
            yield from queue.popleft().result()


class DirectoryListings:
    """Checks whether files exist by listing each folder once instead of asking for each file."""

    def __init__(self):
        self._names: dict[str, set[str]] = {}

    def contains(self, path: str) -> bool:
        """Return whether the file exists."""
        start = path.rfind(os.sep) + 1
        folder, name = path[:start], path[start:]
        # some file systems accept other spellings of a name: ask them before calling a file missing
        return name in (self._names.get(folder) or self.names(folder)) or os.path.exists(path)

    def names(self, folder: str) -> set[str]:
        """Return the names in a folder, which ends with a separator; none if it cannot be listed."""
        if folder not in self._names:
            try:
                self._names[folder] = set(os.listdir(folder or "."))
            except (OSError, ValueError):
                self._names[folder] = set()
        return self._names[folder]
