"""Overlapping steps of work: while one item is in the last step, the next items are in the steps before it."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from queue import Empty, SimpleQueue
from typing import Any

_END = object()
LIVE_CAPACITY = 2  # items of a live source: one at the caller, one in the steps


class Pipeline:
    """Iterates over the results of `steps` for all `items`, in order. Reading and each step run in their own threads.

    Use it as a context manager: on exit, the threads finish the item they work on, drop the result and end. An error in
    reading or in a step is raised by the iteration, after the results of all items before. `seconds` is the time spent
    in reading and in each step.

    Args:
        items: Iterated in one thread; a generator is closed there.
        steps: Callables; each gets the result of the one before.
        capacity: Maximum number of items that are read and not yet released; the caller releases an item by asking for
            the next one. Bounds the memory.
        live: Whether an item is from a live source, such as a camera. Then the next item is not read before a step can
            work on it, so that it is not outdated by then.
        stop: Called once if the caller leaves before the end; must unblock a read that waits for its source.
    """

    def __init__(
        self,
        items: Iterable,
        steps: list[Callable[[Any], Any]],
        capacity: int = 8,
        live: Callable[[Any], bool] = lambda item: False,
        stop: Callable[[], None] = lambda: None,
    ):
        self._live, self._stop = live, stop
        self._capacity = self._limit = capacity
        self._changed = threading.Condition()
        self._items, self._leaving = 0, False
        # unbounded: `capacity` limits all of them together
        self._queues: list[SimpleQueue[Any]] = [SimpleQueue() for _ in range(len(steps) + 1)]
        self.seconds = [0.0] * (len(steps) + 1)
        self._threads = [threading.Thread(target=self._read, args=(items,), name="read", daemon=True)]
        for index, step in enumerate(steps):
            self._threads.append(
                threading.Thread(target=self._work, args=(index, step), name=f"step {index}", daemon=True)
            )

    def __enter__(self) -> "Pipeline":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        with self._changed:
            self._leaving = True
            self._changed.notify_all()
        if self._threads[0].is_alive():
            self._stop()
        for queue in self._queues:
            queue.put(_END)
        for thread in self._threads:
            thread.join()

    def __iter__(self) -> Iterator:
        while True:
            result = self._next_result()
            if result is _END:
                return
            if isinstance(result, _Failure):
                raise result.error
            yield result
            with self._changed:
                self._items -= 1
                self._changed.notify_all()

    def _next_result(self) -> object:
        while True:  # a wait without timeout would not react to Ctrl-C on every system
            try:
                return self._queues[-1].get(timeout=0.5)
            except Empty:
                continue

    def _read(self, items: Iterable) -> None:
        end: object = _END
        try:
            iterator = iter(items)
            try:
                while self._wait_to_read():
                    start = time.perf_counter()
                    item = next(iterator, _END)
                    self.seconds[0] += time.perf_counter() - start
                    if item is _END:
                        break
                    with self._changed:
                        self._items += 1
                        self._limit = min(self._capacity, LIVE_CAPACITY) if self._live(item) else self._capacity
                    self._queues[0].put(item)
                    del item  # hold no reference while waiting
            finally:
                if hasattr(iterator, "close"):
                    iterator.close()
        except BaseException as error:  # of any kind: raised to the caller
            end = _Failure(error)
        self._queues[0].put(end)

    def _wait_to_read(self) -> bool:
        """Wait until another item may be read; False if the caller leaves."""
        with self._changed:
            self._changed.wait_for(lambda: self._leaving or self._items < self._limit)
            return not self._leaving

    def _work(self, index: int, step: Callable) -> None:
        while True:
            item = self._queues[index].get()
            if item is _END or isinstance(item, _Failure) or self._leaving:
                self._queues[index + 1].put(item if isinstance(item, _Failure) else _END)
                return
            start = time.perf_counter()
            try:
                item = step(item)
            except BaseException as error:
                item = _Failure(error)
            self.seconds[index + 1] += time.perf_counter() - start
            self._queues[index + 1].put(item)
            if isinstance(item, _Failure):
                return
            del item


class _Failure:
    """An error to be raised to the caller."""

    def __init__(self, error: BaseException):
        self.error = error
