"""How long threads spin, by the load that /proc/stat reports."""

import gc
import sys

import pytest

from graftdet.utils import cli, startup


@pytest.mark.parametrize(("busy", "count"), [(0.0, "30000"), (0.1, "30000"), (0.6, "1000"), (None, "1000")])
def test_spin_count_by_load(monkeypatch, busy, count):
    monkeypatch.setenv("GOMP_SPINCOUNT", "")  # so that it is restored afterwards
    monkeypatch.delenv("GOMP_SPINCOUNT")
    monkeypatch.setattr(startup, "busy_fraction", lambda meanwhile: busy)
    startup.set_spin_count()
    assert startup.os.environ["GOMP_SPINCOUNT"] == count


def test_a_spin_count_in_the_environment_is_not_changed(monkeypatch):
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    monkeypatch.setattr(startup, "busy_fraction", None)
    startup.set_spin_count()
    assert startup.os.environ["GOMP_SPINCOUNT"] == "7"


def test_ticks_of_own_cores(tmp_path, monkeypatch):
    stat = tmp_path / "stat"
    stat.write_text(
        "cpu  9 9 9 9 9 9 9 9 0 0\ncpu0 1 2 3 40 5 6 7 8 0 0\ncpu1 100 0 0 0 0 0 0 0 0 0\nintr 5\n", encoding="ascii"
    )
    monkeypatch.setattr(startup.os, "sched_getaffinity", lambda _: {0}, raising=False)
    assert startup._ticks(stat) == (27, 72)
    assert startup._ticks(tmp_path / "missing") is None
    readings = iter([(10, 100), (40, 160), None])
    monkeypatch.setattr(startup, "_ticks", lambda: next(readings))
    assert startup.busy_fraction(seconds=0) == pytest.approx(0.5, abs=0.01)
    monkeypatch.setattr(startup, "_ticks", lambda: None)
    assert startup.busy_fraction(seconds=0) is None


def test_own_work_does_not_count(monkeypatch):
    ticks, spent, done = iter([(10, 100), (60, 200)]), iter([1.0, 1.4]), []
    monkeypatch.setattr(startup, "_ticks", lambda: next(ticks))
    monkeypatch.setattr(startup.time, "process_time", lambda: next(spent))
    monkeypatch.setattr(startup.os, "sysconf", lambda _: 100, raising=False)
    assert startup.busy_fraction(lambda: done.append(1), 0) == pytest.approx(0.1) and done == [1]


def test_no_garbage_collection_while_modules_load(monkeypatch):
    loaded = []
    monkeypatch.setattr(startup, "set_spin_count", lambda meanwhile: loaded.append(meanwhile()))
    try:
        monkeypatch.setattr(sys, "argv", ["script"])
        startup.parse_and_prepare(cli.ArgumentParser, "graftdet.utils.errors")
        assert not gc.isenabled() and loaded[0].UserError
        cli.run(lambda: loaded.append(gc.isenabled()))
        assert loaded[1] and gc.isenabled()
    finally:
        gc.enable()
        gc.unfreeze()
