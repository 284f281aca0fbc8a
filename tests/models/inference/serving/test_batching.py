"""Micro-batching: order, sizes of batches, errors, and the end."""

import threading
import time

import pytest

from graftdet.models.inference.serving.batching import Batcher


def test_items_that_wait_run_together_and_in_order():
    gate, batches = threading.Event(), []

    def run(items):
        gate.wait(5)
        batches.append(list(items))
        return [10 * item for item in items]

    batcher = Batcher(run, max_batch=4, max_wait=0.05)
    futures = [batcher.submit(item) for item in range(10)]
    gate.set()
    assert [future.result(5) for future in futures] == [10 * item for item in range(10)]
    assert batches == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    batcher.close()


def test_a_single_item_waits_no_longer_than_allowed():
    batcher = Batcher(lambda items: items, max_batch=8, max_wait=0.05)
    start = time.monotonic()
    assert batcher.submit("one").result(5) == "one"
    assert time.monotonic() - start < 2
    batcher.close()


def test_an_error_concerns_its_own_batch():
    def run(items):
        if "bad" in items:
            raise ValueError("no")
        return items

    sizes = []
    batcher = Batcher(run, max_batch=1, max_wait=0, on_batch=sizes.append)
    bad, good = batcher.submit("bad"), batcher.submit("good")
    with pytest.raises(ValueError, match="no"):
        bad.result(5)
    assert good.result(5) == "good" and sizes == [1, 1]
    batcher.close()


def test_close_finishes_what_was_accepted_and_refuses_the_rest():
    batcher = Batcher(lambda items: time.sleep(0.05) or items, max_batch=2, max_wait=0)
    futures = [batcher.submit(item) for item in range(5)]
    cancelled = batcher.submit("cancelled")
    cancelled.cancel()
    batcher.close()
    assert [future.result(0) for future in futures] == list(range(5))
    with pytest.raises(RuntimeError, match="shutting down"):
        batcher.submit(1)
    batcher.close()
