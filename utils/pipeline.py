"""Work in steps that overlap: while one item is in the last step, those after it are in the steps before."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from queue import Empty, SimpleQueue

_END = object()
LIVE_INSIDE = 2  # of a live source: one that the caller has, one that is being worked on


class Pipeline:
    """Iterates over `items` after all `steps`, in order; reading and each step run in a thread of their own.

    Args:
        items: what is read, in one thread; a generator is closed there.
        steps: callables, each with what the one before returns.
        inside: at most so many items have been read and not yet been let go by the caller, who does so when it asks for
            the next: this bounds the memory.
        live: tells of an item whether it comes from a source that goes on by itself, such as a camera. Its next item is
            not read before it can be worked on, so that it is not an old one by then.
        stop: called once when the caller leaves before the end: makes a reading that waits for its source return.

    An error in reading or in a step is raised by the iteration in its turn, after the results of all items before.
    To be used as a context manager: leaving it, in whatever way, ends the threads and waits for them. What they have
    begun they finish, and its result is dropped. `seconds` has the time spent in reading and in each step.
    """

    def __init__(
        self,
        items: Iterable,
        steps: list[Callable],
        inside: int = 8,
        live: Callable[[object], bool] = lambda item: False,
        stop: Callable[[], None] = lambda: None,
    ):
        self._live, self._stop = live, stop
        self._most = self._limit = inside
        self._room = threading.Condition()
        self._inside, self._leaving = 0, False
        self._queues = [SimpleQueue() for _ in range(len(steps) + 1)]  # never full: `inside` bounds them all together
        self.seconds = [0.0] * (len(steps) + 1)
        self._threads = [threading.Thread(target=self._read, args=(items,), name="read", daemon=True)]
        for place, step in enumerate(steps):
            self._threads.append(
                threading.Thread(target=self._work, args=(place, step), name=f"step {place}", daemon=True)
            )

    def __enter__(self) -> "Pipeline":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error) -> None:
        with self._room:
            self._leaving = True
            self._room.notify_all()
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
            with self._room:
                self._inside -= 1
                self._room.notify_all()

    def _next_result(self):
        while True:  # a wait without an end would not hear Ctrl-C on every system
            try:
                return self._queues[-1].get(timeout=0.5)
            except Empty:
                continue

    def _read(self, items: Iterable) -> None:
        end: object = _END
        try:
            iterator = iter(items)
            try:
                while self._wait_for_room():
                    start = time.perf_counter()
                    item = next(iterator, _END)
                    self.seconds[0] += time.perf_counter() - start
                    if item is _END:
                        break
                    with self._room:
                        self._inside += 1
                        self._limit = min(self._most, LIVE_INSIDE) if self._live(item) else self._most
                    self._queues[0].put(item)
                    del item  # while it waits for room nothing is held here
            finally:
                if hasattr(iterator, "close"):
                    iterator.close()
        except BaseException as error:  # whatever it is, it belongs to the caller
            end = _Failure(error)
        self._queues[0].put(end)

    def _wait_for_room(self) -> bool:
        """Wait until another item may be read; False when the caller leaves."""
        with self._room:
            self._room.wait_for(lambda: self._leaving or self._inside < self._limit)
            return not self._leaving

    def _work(self, place: int, step: Callable) -> None:
        while True:
            item = self._queues[place].get()
            if item is _END or isinstance(item, _Failure) or self._leaving:
                self._queues[place + 1].put(item if isinstance(item, _Failure) else _END)
                return
            start = time.perf_counter()
            try:
                item = step(item)
            except BaseException as error:
                item = _Failure(error)
            self.seconds[place + 1] += time.perf_counter() - start
            self._queues[place + 1].put(item)
            if isinstance(item, _Failure):
                return
            del item


class _Failure:
    """An error on its way to the caller."""

    def __init__(self, error: BaseException):
        self.error = error
