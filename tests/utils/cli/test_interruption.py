"""Commands end soon after a signal, whatever they do."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from graftdet.utils import cli
from graftdet.utils.errors import UserError

ROOT = Path(__file__).resolve().parents[3]
START = """
import os, signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)
from graftdet.utils import cli
from graftdet.utils.cli import interruption
"""
STUCK = """
def main():
    text = "ready"
    while True:
        try:
            print(text, flush=True)
            time.sleep(60)
        except BaseException:
            text = "swallowed"
cli.run(main)
"""
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows ends processes without asking")
SIGNALS = [(signal.SIGTERM, "terminated\n", 143), (signal.SIGINT, "interrupted\n", 130)]


def start(code):
    process = subprocess.Popen(
        [sys.executable, "-c", START + code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        start_new_session=True,
    )
    wait_for(process, "ready\n")
    time.sleep(0.2)  # a signal while it prints would let it print again
    return process


def wait_for(process, line):
    """Read the output up to a line; other lines repeat."""
    while (read := process.stdout.readline()) != line:
        assert read


@pytest.mark.parametrize(("number", "message", "status"), SIGNALS)
def test_a_command_that_is_stuck_ends_after_a_while(number, message, status):
    process = start("interruption.GRACE = 0.5" + STUCK)
    process.send_signal(number)
    wait_for(process, "swallowed\n")
    _, errors = process.communicate(timeout=30)
    assert (errors, process.returncode) == (message, status)


@pytest.mark.parametrize(("number", "message", "status"), SIGNALS)
def test_the_second_signal_ends_it_at_once(number, message, status):
    process = start("interruption.GRACE = 60" + STUCK)
    process.send_signal(number)
    wait_for(process, "swallowed\n")
    time.sleep(0.4)
    process.send_signal(number)
    _, errors = process.communicate(timeout=20)
    assert (errors, process.returncode) == (message, status)


def test_signals_to_a_group_of_processes_are_one():
    fork = "    if not os.fork():\n        interruption.time.sleep(60)\n    while"
    process = start("interruption.BOUNCE = 0; interruption.GRACE = 60" + STUCK.replace("    while", fork))
    os.killpg(process.pid, signal.SIGINT)
    wait_for(process, "swallowed\n")
    time.sleep(0.3)
    assert process.poll() is None  # the signal of its child does not count as a second one
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


@pytest.mark.parametrize(
    "error", [UserError("last.pt: cannot be written"), RuntimeError("worker is killed"), OSError(28)]
)
def test_errors_that_follow_a_signal_are_the_interruption(error, capsys):
    def main():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(60)
        finally:
            raise error

    with pytest.raises(SystemExit) as end:
        cli.run(main)
    assert end.value.code == 143 and capsys.readouterr().err == "terminated\n"


def test_processes_that_end_after_a_signal_raise_nothing():
    """As with torch's loader, whose handler raises at any moment: here while the watching thread is joined, and at exit."""
    code = """
import atexit

def fail(*_):
    raise RuntimeError("worker is killed")

def child_ends():
    os.kill(os.getpid(), signal.SIGCHLD)
    time.sleep(0.01)

class Slow(interruption._Watch):
    def join(self, timeout=None):
        child_ends()

atexit.register(child_ends)

def main():
    signal.signal(signal.SIGCHLD, fail)
    print("ready", flush=True)
    time.sleep(60)

interruption._Watch = Slow
cli.run(main)
"""
    process = start(code)
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=20)[1] == "terminated\n" and process.returncode == 143


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_signal_whose_exception_was_ignored_is_not_forgotten(capsys):
    class Ignores:
        def __del__(self):  # Python prints exceptions in here, and continues
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.01)

    def main():
        ignores = Ignores()
        del ignores

    with pytest.raises(SystemExit) as end:
        cli.run(main)
    assert end.value.code == 143


def test_a_caller_that_continues_is_not_ended_later(monkeypatch):
    monkeypatch.setattr("graftdet.utils.cli.interruption.GRACE", 0.2)
    ended = []
    monkeypatch.setattr("graftdet.utils.cli.interruption._end", ended.append)
    with pytest.raises(SystemExit):
        cli.run(lambda: (os.kill(os.getpid(), signal.SIGTERM), time.sleep(60)))
    time.sleep(0.4)
    assert not ended
