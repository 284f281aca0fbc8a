"""How long threads spin: by the load that /proc/stat tells of."""

import gc

import pytest
from graftdet.utils import cli
from graftdet.utils import startup as start
from graftdet.utils import startup as threads


@pytest.mark.parametrize("busy, spins", [(0.0, "30000"), (0.1, "30000"), (0.6, "1000"), (None, "1000")])
def test_by_load(monkeypatch, busy, spins):
    monkeypatch.setenv("GOMP_SPINCOUNT", "")  # so that it is as before afterwards
    monkeypatch.delenv("GOMP_SPINCOUNT")
    monkeypatch.setattr(threads, "busy_fraction", lambda meanwhile: busy)
    threads.set_spin_count()
    assert threads.os.environ["GOMP_SPINCOUNT"] == spins


def test_what_is_set_stays(monkeypatch):
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    monkeypatch.setattr(threads, "busy_fraction", None)
    threads.set_spin_count()
    assert threads.os.environ["GOMP_SPINCOUNT"] == "7"


def test_ticks_of_own_cores(tmp_path, monkeypatch):
    stat = tmp_path / "stat"
    stat.write_text(
        "cpu  9 9 9 9 9 9 9 9 0 0\ncpu0 1 2 3 40 5 6 7 8 0 0\ncpu1 100 0 0 0 0 0 0 0 0 0\nintr 5\n", encoding="ascii"
    )
    monkeypatch.setattr(threads.os, "sched_getaffinity", lambda _: {0}, raising=False)
    assert threads._ticks(stat) == (27, 72)
    assert threads._ticks(tmp_path / "none") is None
    before = iter([(10, 100), (40, 160), None])
    monkeypatch.setattr(threads, "_ticks", lambda: next(before))
    assert threads.busy_fraction(seconds=0) == pytest.approx(0.5, abs=0.01)
    monkeypatch.setattr(threads, "_ticks", lambda: None)
    assert threads.busy_fraction(seconds=0) is None


def test_own_work_is_not_that_of_others(monkeypatch):
    ticks, spent, done = iter([(10, 100), (60, 200)]), iter([1.0, 1.4]), []
    monkeypatch.setattr(threads, "_ticks", lambda: next(ticks))
    monkeypatch.setattr(threads.time, "process_time", lambda: next(spent))
    monkeypatch.setattr(threads.os, "sysconf", lambda _: 100, raising=False)
    assert threads.busy_fraction(lambda: done.append(1), 0) == pytest.approx(0.1) and done == [1]


def test_no_garbage_is_collected_while_modules_load(monkeypatch):
    loaded = []
    monkeypatch.setattr(start, "set_spin_count", lambda meanwhile: loaded.append(meanwhile()))
    try:
        start.import_before_torch("graftdet.utils.errors")
        assert not gc.isenabled() and loaded[0].UserError
        cli.run(lambda: loaded.append(gc.isenabled()))
        assert loaded[1] and gc.isenabled()
    finally:
        gc.enable()
        gc.unfreeze()
