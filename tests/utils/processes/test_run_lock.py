"""The lock of a run's folder: held by running processes, taken over from those that have ended."""

import json
import logging
import os
import socket
import subprocess
import sys
import threading
import time

import pytest

from graftdet.utils.errors import UserError
from graftdet.utils.processes import run_lock
from graftdet.utils.processes.run_lock import FILE_NAME, Owner, RunLock, check_not_running, read_owner


def write_lock(folder, pid, host=None, started=0, age=0.0):
    path = folder / FILE_NAME
    path.write_text(json.dumps({"pid": pid, "host": host or socket.gethostname(), "started": started}))
    os.utime(path, (time.time() - age,) * 2)
    return path


@pytest.fixture
def other():
    """A process that waits, and its owner entry."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield process, Owner(process.pid, socket.gethostname(), run_lock._start_time(process.pid))
    process.kill()
    process.wait()


def test_a_lock_is_held_until_it_is_released(tmp_path):
    lock = RunLock(tmp_path)
    lock.acquire()
    assert read_owner(tmp_path / FILE_NAME) == Owner.this_process()
    check_not_running(tmp_path)  # the own process may continue its run
    lock.release()
    assert not list(tmp_path.iterdir())


def test_a_run_of_another_process_is_not_written(tmp_path, other):
    process, owner = other
    path = write_lock(tmp_path, owner.pid, started=owner.started)
    for refuse in (lambda: check_not_running(tmp_path), RunLock(tmp_path).acquire):
        with pytest.raises(UserError, match=f"still being written by process {owner.pid} on {socket.gethostname()}"):
            refuse()
    assert read_owner(path) == owner
    RunLock(tmp_path).release()  # of a lock that is not held: without effect
    assert path.exists()
    process.kill()
    process.wait()
    RunLock(tmp_path).acquire()
    assert read_owner(path) == Owner.this_process()


def test_stale_locks_are_taken_over(tmp_path, other, caplog):
    _, owner = other
    stale = [
        {"pid": 2**22 + 1},  # no such process
        {"pid": owner.pid, "started": owner.started + 1},  # the id was used again
        {"pid": 1, "host": "elsewhere", "age": 2 * run_lock.SILENCE},
    ]
    for values in stale if sys.platform.startswith("linux") else stale[::2]:
        write_lock(tmp_path, **values)
        with caplog.at_level(logging.INFO):
            lock = RunLock(tmp_path)
            lock.acquire()
        assert f"process {values['pid']} on" in caplog.text and "taken over" in caplog.text
        lock.release()


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[1]",
        "null",
        '{"pid": 0, "host": "HOST"}',
        '{"pid": -1, "host": "HOST"}',
        '{"pid": 1e400, "host": "HOST"}',
    ]
    + ['{"pid": 99999999999999999999, "host": "HOST"}', '{"pid": 3000000000, "host": "HOST"}', "[" * 100_000, "\xff"],
    ids=lambda content: content[:30],
)
def test_malformed_locks_are_taken_over(tmp_path, content):
    (tmp_path / FILE_NAME).write_text(content.replace("HOST", socket.gethostname()), encoding="latin-1")
    lock = RunLock(tmp_path)
    lock.acquire()
    assert read_owner(tmp_path / FILE_NAME) == Owner.this_process()
    lock.release()


def test_a_lock_that_is_being_written_is_waited_for(tmp_path, other):
    path = tmp_path / FILE_NAME
    path.touch()
    content = json.dumps({"pid": other[1].pid, "host": other[1].host, "started": other[1].started})
    timer = threading.Timer(0.3, path.write_text, [content])
    timer.start()
    with pytest.raises(UserError, match=f"process {other[1].pid} on"):
        RunLock(tmp_path).acquire()
    timer.join()


def test_a_lock_without_start_time_belongs_to_the_process_of_its_id(tmp_path, other):
    write_lock(tmp_path, other[1].pid)
    with pytest.raises(UserError, match=f"process {other[1].pid} on"):
        RunLock(tmp_path).acquire()


def test_a_folder_in_place_of_the_lock_is_an_error(tmp_path):
    (tmp_path / FILE_NAME).mkdir()
    with pytest.raises(UserError, match=r"run\.lock: is a folder, expected a file"):
        RunLock(tmp_path).acquire()
    assert [path.name for path in tmp_path.iterdir()] == [FILE_NAME]


def test_other_machines_show_signs_of_life(tmp_path, monkeypatch):
    write_lock(tmp_path, 1, "elsewhere", age=run_lock.SILENCE / 2)
    with pytest.raises(UserError, match="process 1 on elsewhere"):
        RunLock(tmp_path).acquire()
    (tmp_path / FILE_NAME).unlink()
    monkeypatch.setattr(run_lock, "HEARTBEAT", 0.01)
    lock = RunLock(tmp_path)
    lock.acquire()
    os.utime(tmp_path / FILE_NAME, (1, 1))
    end = time.monotonic() + 5
    while (tmp_path / FILE_NAME).stat().st_mtime < 100 and time.monotonic() < end:
        time.sleep(0.01)
    assert (tmp_path / FILE_NAME).stat().st_mtime > 100
    lock.release()


def test_the_lock_of_an_ended_process_is_removed(tmp_path):
    code = f"from graftdet.utils.processes.run_lock import RunLock; RunLock({str(tmp_path)!r}).acquire()"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert not list(tmp_path.iterdir())
