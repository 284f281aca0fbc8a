"""Micro-batching: images that arrive at nearly the same time run through the model together."""

import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any


class Batcher:
    """Collects items from any thread and runs them in batches, in a thread of its own.

    A batch starts when it is full, or `max_wait` seconds after its first item.

    Args:
        run: Called with a list of items; returns one result per item, in order.
        max_batch: Maximum number of items per batch.
        max_wait: Seconds that an item waits for others.
        on_batch: Called with the number of items of each batch.
    """

    def __init__(
        self,
        run: Callable[[list[Any]], Sequence[Any]],
        max_batch: int,
        max_wait: float,
        on_batch: Callable[[int], None] = lambda size: None,
    ):
        self._run, self._max_batch, self._max_wait, self._on_batch = run, max_batch, max_wait, on_batch
        self._items: queue.SimpleQueue[tuple[Any, Future] | None] = queue.SimpleQueue()
        self._lock, self._closed = threading.Lock(), False
        self._thread = threading.Thread(target=self._work, name="batches", daemon=True)
        self._thread.start()

    def submit(self, item: Any) -> Future:
        """Add an item; the future has its result, or the error of its batch. Raises `RuntimeError` after `close`."""
        future: Future = Future()
        with self._lock:  # nothing is added behind the end
            if self._closed:
                raise RuntimeError("the server is shutting down")
            self._items.put((item, future))
        return future

    def close(self) -> None:
        """Finish all items that were added, then end the thread."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._items.put(None)
        self._thread.join()

    def _work(self) -> None:
        is_open = True
        while is_open:
            batch, is_open = self._collect()
            batch = [(item, future) for item, future in batch if future.set_running_or_notify_cancel()]
            if batch:
                self._on_batch(len(batch))
                self._finish(batch)

    def _collect(self) -> tuple[list[tuple[Any, Future]], bool]:
        """The next batch, and whether more may follow."""
        first = self._items.get()
        if first is None:
            return [], False
        batch, deadline = [first], time.monotonic() + self._max_wait
        while len(batch) < self._max_batch:
            try:
                entry = self._items.get(timeout=max(deadline - time.monotonic(), 0))
            except queue.Empty:
                break
            if entry is None:
                return batch, False
            batch.append(entry)
        return batch, True

    def _finish(self, batch: list[tuple[Any, Future]]) -> None:
        try:
            results = self._run([item for item, _ in batch])
        except Exception as error:  # reported to each caller; the next batch may succeed
            for _, future in batch:
                future.set_exception(error)
            return
        for (_, future), result in zip(batch, results, strict=True):
            future.set_result(result)
