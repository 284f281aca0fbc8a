"""Number of threads and spinning, by the load that /proc/stat reports."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from graftdet.utils import threads
from graftdet.utils.threads import CpuTimes, ThreadControl

ROOT = Path(threads.__file__).resolve().parents[1]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, ("30000", "passive")),
        ({"GOMP_SPINCOUNT": "7"}, ("7", None)),
        ({"OMP_WAIT_POLICY": "active"}, (None, "active")),
    ],
)
def test_variables_that_are_set_stay(monkeypatch, given, expected):
    names = "GOMP_SPINCOUNT", "OMP_WAIT_POLICY"
    monkeypatch.setattr(threads, "_process_start", None)
    for name in names:
        monkeypatch.setenv(name, "")  # so that it is restored afterwards
        monkeypatch.delenv(name)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    threads.set_up_spinning()
    assert tuple(os.environ.get(name) for name in names) == expected


def test_ticks_of_own_cores(tmp_path, monkeypatch):
    stat = tmp_path / "stat"
    stat.write_text(
        "cpu  9 9 9 9 9 9 9 9 0 0\ncpu0 1 2 3 40 5 6 7 8 0 0\ncpu1 100 0 0 0 0 0 0 0 0 0\nintr 5\n", encoding="ascii"
    )
    monkeypatch.setattr(threads.os, "sched_getaffinity", lambda _: {0}, raising=False)
    assert threads._ticks(stat) == (19, 72)  # neither idle, nor waiting for disks, nor taken by other machines
    assert threads._ticks(tmp_path / "missing") is None
    monkeypatch.setattr(threads, "_ticks", lambda: None)
    assert CpuTimes.now() is None


def test_work_of_this_process_and_its_children_does_not_count(monkeypatch):
    class Child:
        pid = 5

    monkeypatch.setattr(threads.os, "sysconf", lambda _: 100, raising=False)
    ticks, children = iter([(10, 100), (60, 200)]), iter([[], [Child]])
    spent = iter([os.times_result((1.0, 0.0, 0.0, 0.0, 0.0)), os.times_result((1.05, 0.05, 0.05, 0.05, 9.0))])
    monkeypatch.setattr(threads, "_ticks", lambda: next(ticks))
    monkeypatch.setattr(threads, "_process_ticks", lambda pid: 20 if pid == 5 else 0)
    monkeypatch.setattr(threads.os, "times", lambda: next(spent))
    monkeypatch.setattr("multiprocessing.active_children", lambda: next(children))
    before, after = CpuTimes.now(), CpuTimes.now()
    assert before.used_by_others(after) == pytest.approx(0.1)
    assert before.used_by_others(before) == 0


def test_ticks_of_a_process():
    assert threads._process_ticks(os.getpid()) > 0
    assert threads._process_ticks(2**30) == 0


class Machine:
    """Cores whose load by others is `busy` between two updates, `seconds` apart; records what a control does."""

    def __init__(self, monkeypatch, cores=2, **options):
        self.times, self.numbers, self.teams = CpuTimes(0, 0, 0, 0), [], []
        machine = self

        class Team:
            def __init__(self, missing):
                machine.teams.append(missing)

            def end(self):
                machine.teams.append("end")

        monkeypatch.setattr(threads, "SleepingTeam", Team)
        monkeypatch.setattr(threads, "usable_cores", lambda: cores)
        monkeypatch.setattr(CpuTimes, "now", lambda: self.times)
        monkeypatch.setattr(threads.time, "monotonic", lambda: self.times.clock)
        monkeypatch.setattr(torch, "set_num_threads", self.numbers.append)
        self.control = ThreadControl(options.get("limit", cores), options.get("constant", False), self.times)

    def run(self, busy, times=1, seconds=10.0):
        for _ in range(times):
            before, ticks = self.times, 100 * seconds
            self.times = CpuTimes(before.busy + busy * ticks, before.total + ticks, 0, before.clock + seconds)
            self.control.update()
        return self.control.threads


def test_the_number_is_that_of_the_cores_that_are_left(monkeypatch):
    assert Machine(monkeypatch).run(0.5, times=2) == 1
    assert Machine(monkeypatch).run(0.2, times=2) == 2
    assert Machine(monkeypatch, cores=8).run(0.5, times=2) == 4
    assert Machine(monkeypatch, cores=8).run(1.0, times=2) == 1


def test_load_of_less_than_20_seconds_does_not_change_the_number(monkeypatch):
    machine = Machine(monkeypatch)
    assert machine.run(0.9, times=3, seconds=5) == 2 and not machine.numbers
    assert machine.run(0.9, seconds=5) == 1


def test_the_number_follows_lasting_load(monkeypatch, caplog):
    machine = Machine(monkeypatch)
    assert machine.run(0) == 2
    assert machine.run(0.5) == 2  # a short burst
    assert machine.run(0) == 2
    with caplog.at_level("INFO"):
        assert machine.run(0.5, times=2) == 1
    assert "50% of the cores" in caplog.text and "1 of 2 threads" in caplog.text
    assert machine.run(0.5, times=5) == 1
    assert machine.run(0) == 1
    assert machine.run(0) == 2
    assert machine.numbers == [1, 2]


def test_threads_that_were_one_too_many_return_later_each_time(monkeypatch):
    machine, waited = Machine(monkeypatch), []
    machine.run(0.5, times=2)
    for _ in range(3):
        count = 1
        while machine.run(0) == 1:
            count += 1
        waited.append(count)
        assert machine.run(0.5, times=2) == 1
    assert waited == [2, 4, 8]


def test_a_constant_number_stays_and_only_spinning_follows(monkeypatch):
    machine = Machine(monkeypatch, constant=True)
    assert machine.run(0.9, times=4) == 2
    assert machine.teams == [1] and not machine.numbers
    machine.run(0)
    machine.run(0.9)
    machine.control.close()
    assert machine.teams == [1, "end", 1, "end"] and not machine.numbers


def test_spinning_follows_after_a_second(monkeypatch):
    machine = Machine(monkeypatch)
    machine.run(0.9, seconds=0.5)
    assert not machine.teams
    machine.run(0.9, seconds=0.5)
    assert machine.teams == [1]


def test_enough_threads_sleep_when_fewer_compute(monkeypatch):
    machine = Machine(monkeypatch, cores=8)
    machine.run(0.5, times=2)
    assert machine.teams == [1, "end", 5]  # 4 compute and 5 sleep: more than 8
    machine.control.close()
    assert machine.numbers == [4, 8]


def test_nothing_is_measured_for_one_thread_or_without_proc(monkeypatch):
    machine = Machine(monkeypatch, limit=1)
    machine.run(0.9, times=3)
    assert not machine.teams and not machine.numbers
    control = ThreadControl(2, False, None)
    control.update()
    control.close()
    assert control.threads == 2 and not machine.teams


def test_load_is_followed_inside_the_context_on_a_cpu_alone(monkeypatch):
    updates = []
    monkeypatch.setattr(ThreadControl, "update", lambda control: updates.append(control.constant))
    for name in threads.NUMBER_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    threads.adapt_threads()
    with threads.sharing_cores("cuda"):
        threads.adapt_threads()
    assert not updates
    with threads.sharing_cores("cpu"):
        with threads.sharing_cores("cpu", constant=True):  # of a validation inside: the outer one holds
            threads.adapt_threads()
        threads.adapt_threads()
    with threads.sharing_cores("cpu", constant=True):
        threads.adapt_threads()
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    with threads.sharing_cores("cpu"):
        threads.adapt_threads()
    monkeypatch.setenv("WORLD_SIZE", "2")
    with threads.sharing_cores("cpu"):
        threads.adapt_threads()
    threads.adapt_threads()
    assert updates == [False, False, True, True]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs GNU OpenMP and /proc")
def test_sleeping_threads_exist_until_they_are_ended():
    code = """if True:
        import os
        import torch
        from graftdet.utils import threads
        torch.set_num_threads(2)
        torch.zeros(1 << 17).add_(1)
        assert threads._gnu_openmp().omp_get_max_threads() == 2
        count = lambda: len(os.listdir("/proc/self/task"))
        before, team = count(), threads.SleepingTeam(3)
        inside = count() - before
        team.end()
        while count() > before:  # threads of OpenMP end after the one that started them
            pass
        print(inside, torch.get_num_threads())
    """
    environment = {key: value for key, value in os.environ.items() if key not in threads.NUMBER_VARIABLES}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60, cwd=ROOT
    )
    assert done.stdout.split() == ["4", "2"], done.stderr
