"""Steps in threads: order, overlap, bounds, errors, and that no thread remains."""

import threading
import time

import pytest

from graftdet.utils.pipeline import Pipeline


@pytest.fixture(autouse=True)
def no_thread_remains():
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


def jitter(item):
    time.sleep(0.001 * (item * 7 % 3))
    return item


def test_results_are_in_order_and_every_step_is_run():
    steps = [jitter, lambda item: item * 2, jitter, lambda item: item + 1]
    with Pipeline(range(50), steps, capacity=5) as results:
        assert list(results) == [2 * item + 1 for item in range(50)]
    assert len(results.seconds) == 5 and results.seconds[1] > 0.01
    with Pipeline([], [jitter]) as results:
        assert list(results) == []
    with Pipeline("abc", []) as results:
        assert list(results) == ["a", "b", "c"]


def test_steps_overlap():
    """Reading, two steps and the caller meet at a barrier: none could continue alone."""
    meeting = threading.Barrier(4, timeout=20)
    met = []

    def meet(item):
        if item in met_at:
            meeting.wait()
        return item

    def read():
        for item in range(8):
            if item == 6:
                meeting.wait()
            yield item

    met_at = {5}
    second = lambda item: (meeting.wait() if item == 4 else None, item)[1]  # noqa: E731
    with Pipeline(read(), [meet, second], capacity=8) as results:
        for item in results:
            if item == 3:
                meeting.wait()
            met.append(item)
    assert met == list(range(8))


@pytest.mark.parametrize("capacity", [1, 2, 4])
def test_the_capacity_limits_what_is_read(capacity):
    read = []

    def items():
        for item in range(30):
            read.append(item)
            yield item

    with Pipeline(items(), [lambda item: item] * 3, capacity=capacity) as results:
        for item in results:
            time.sleep(0.002)
            assert len(read) <= item + capacity
        assert len(read) == 30


def test_a_live_item_is_not_read_before_it_can_be_worked_on():
    read = []

    def items():
        for item in range(10):
            read.append(item)
            yield item

    with Pipeline(items(), [lambda item: item] * 3, capacity=8, live=lambda item: item >= 4) as results:
        for item in results:
            time.sleep(0.005)
            assert len(read) <= (item + 2 if item >= 4 else 10)


class Broken(Exception):
    pass


@pytest.mark.parametrize("where", ["reading", "first", "last", "caller"])
def test_an_error_is_raised_after_the_results_before_it(where):
    closed = []

    def items():
        try:
            for item in range(100):
                if where == "reading" and item == 7:
                    raise Broken
                yield item
        finally:
            closed.append(True)

    def breaks(name):
        def step(item):
            if where == name and item == 7:
                raise Broken
            return item

        return step

    seen = []
    with pytest.raises(Broken), Pipeline(items(), [breaks("first"), jitter, breaks("last")], capacity=4) as results:
        for item in results:
            seen.append(breaks("caller")(item))
    assert seen == list(range(7)) and closed == [True]


def test_leaving_early_drops_the_rest_and_closes_the_source():
    closed, worked = [], []

    def endless():
        try:
            item = 0
            while True:
                yield item
                item += 1
        finally:
            closed.append(threading.current_thread().name)

    with Pipeline(endless(), [worked.append], capacity=3) as results:
        for _ in zip(range(5), results):
            pass
    assert closed == ["read"] and len(worked) <= 9


def test_leaving_stops_a_waiting_read():
    enough = threading.Event()

    def camera():
        yield 1
        enough.wait(timeout=30)

    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt), Pipeline(camera(), [jitter], stop=enough.set) as results:
        for _ in results:
            raise KeyboardInterrupt
    assert time.monotonic() - start < 10


def test_a_body_that_never_iterates_ends():
    with Pipeline(range(1000), [jitter] * 2, capacity=2):
        pass
