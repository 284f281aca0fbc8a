"""Many small readings at once: they wait for the disk, not for the processor."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice


def map_threads(work: Callable, items: Iterable, threads: int = 8, batch: int = 64) -> Iterator:
    """Yield (item, work(item)) in order. A task is a `batch` of items; a few batches a thread are kept waiting."""
    items = iter(items)

    def tasks():
        while some := list(islice(items, batch)):
            yield some

    def several(some):
        return [(item, work(item)) for item in some]

    with ThreadPoolExecutor(threads) as pool:
        waiting: deque = deque()
        for some in tasks():
            waiting.append(pool.submit(several, some))
            if len(waiting) >= 4 * threads:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()


class Listings:
    """Whether files are there, at the price of one listing a folder instead of one question a file."""

    def __init__(self):
        self._names: dict[str, set[str]] = {}

    def has(self, path: str) -> bool:
        start = path.rfind(os.sep) + 1
        folder, name = path[:start], path[start:]
        if folder not in self._names:
            try:
                self._names[folder] = set(os.listdir(folder or "."))
            except (OSError, ValueError):
                self._names[folder] = set()
        # some file systems take other spellings of a name: ask them before calling a file missing
        return name in self._names[folder] or os.path.exists(path)
