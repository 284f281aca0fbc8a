"""Steps in threads: order, overlap, bounds, errors, and that nothing is left behind."""

import threading
import time

import pytest
from graftdet.utils.pipeline import Pipeline


@pytest.fixture(autouse=True)
def no_thread_is_left():
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


def jitter(item):
    time.sleep(0.001 * (item * 7 % 3))
    return item


def test_order_is_kept_and_every_step_is_done():
    steps = [jitter, lambda item: item * 2, jitter, lambda item: item + 1]
    with Pipeline(range(50), steps, inside=5) as results:
        assert list(results) == [2 * item + 1 for item in range(50)]
    assert len(results.seconds) == 5 and results.seconds[1] > 0.01
    with Pipeline([], [jitter]) as results:
        assert list(results) == []
    with Pipeline("abc", []) as results:
        assert list(results) == ["a", "b", "c"]


def test_steps_overlap():
    """Reading, two steps and the caller are in one place at the same time: none could go on alone."""
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
    with Pipeline(read(), [meet, second], inside=8) as results:
        for item in results:
            if item == 3:
                meeting.wait()
            met.append(item)
    assert met == list(range(8))


@pytest.mark.parametrize("inside", [1, 2, 4])
def test_no_more_is_read_than_is_let_go(inside):
    read = []

    def items():
        for item in range(30):
            read.append(item)
            yield item

    with Pipeline(items(), [lambda item: item] * 3, inside=inside) as results:
        for item in results:
            time.sleep(0.002)
            assert len(read) <= item + inside
        assert len(read) == 30


def test_a_live_item_is_not_read_before_it_can_be_worked_on():
    read = []

    def items():
        for item in range(10):
            read.append(item)
            yield item

    with Pipeline(items(), [lambda item: item] * 3, inside=8, live=lambda item: item >= 4) as results:
        for item in results:
            time.sleep(0.005)
            assert len(read) <= (item + 2 if item >= 4 else 10)


class Broken(Exception):
    pass


@pytest.mark.parametrize("where", ["reading", "first", "last", "caller"])
def test_an_error_comes_in_its_turn(where):
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
    with pytest.raises(Broken), Pipeline(items(), [breaks("first"), jitter, breaks("last")], inside=4) as results:
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

    with Pipeline(endless(), [worked.append], inside=3) as results:
        for _ in zip(range(5), results):
            pass
    assert closed == ["read"] and len(worked) <= 9


def test_leaving_stops_a_reading_that_waits():
    enough = threading.Event()

    def camera():
        yield 1
        enough.wait(timeout=30)

    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt), Pipeline(camera(), [jitter], stop=enough.set) as results:
        for _ in results:
            raise KeyboardInterrupt
    assert time.monotonic() - start < 10


def test_a_body_that_never_iterates_ends_too():
    with Pipeline(range(1000), [jitter] * 2, inside=2):
        pass
