"""How scripts start and end."""

import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from graftdet.utils import cli
from graftdet.utils.errors import UserError
from graftdet.utils.tables import text_table

ROOT = Path(__file__).resolve().parents[3]
CODE = """
import time
from utils import cli

def main():
    try:
        print("ready", flush=True)
        time.sleep(60)
    finally:
        print("cleaned up", flush=True)

cli.run(main)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows ends processes without asking")
@pytest.mark.parametrize(
    ("number", "message", "status"), [(signal.SIGTERM, "terminated", 143), (signal.SIGINT, "interrupted", 130)]
)
def test_a_script_cleans_up_after_a_signal(number, message, status):
    start = "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n" + CODE
    process = subprocess.Popen(
        [sys.executable, "-c", start], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert (out, err, process.returncode) == ("cleaned up\n", f"{message}\n", status)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows ends processes without asking")
def test_errors_of_what_ended_with_the_script_are_not_reported(capsys):
    """Processes of a loader receive a signal to the whole group, too, and torch then raises in the script."""

    def main():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(60)
        finally:
            raise RuntimeError("DataLoader worker is killed by signal")

    with pytest.raises(SystemExit) as end:
        cli.run(main)
    assert end.value.code == 143 and capsys.readouterr().err == "terminated\n"


def test_characters_outside_the_encoding_of_the_output_raise_no_error():
    code = "import sys; from graftdet.utils import cli; cli.run(lambda: (print('\u732b cat'), print('\u732b', file=sys.stderr)))"
    environment = {**os.environ, "PYTHONIOENCODING": "cp1252", "PYTHONUTF8": "0"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, env=environment)
    assert (done.returncode, done.stdout, done.stderr) == (0, "? cat\n", "\\u732b\n")


def test_streams_without_an_encoding_are_not_changed(monkeypatch):
    class Window:
        def write(self, text):
            """As in some development tools."""

    monkeypatch.setattr(sys, "stdout", Window())
    monkeypatch.setattr(sys, "stderr", None)
    cli.run(lambda: print("text"))


def test_flags_of_a_command_are_suggested(capsys):
    parser = cli.ArgumentParser(prog="data")
    commands = parser.add_subparsers(dest="command")
    commands.add_parser("check").add_argument("--json", action="store_true")
    commands.add_parser("draw").add_argument("--jsn-like")
    with pytest.raises(SystemExit):
        parser.parse_args(["check", "--jsn"])
    assert capsys.readouterr().err == "data: error: unknown argument '--jsn'; did you mean '--json'?\n"


def test_the_signal_handler_is_removed():
    before = signal.getsignal(signal.SIGTERM)
    cli.run(lambda: None)
    assert signal.getsignal(signal.SIGTERM) is before


def test_log_messages_go_to_two_streams(capsys):
    logger = logging.getLogger("graftdet.models.something")

    def main():
        logger.info("100 %% of %d rows", 3)
        logger.warning("row 3 is unused")
        logger.error("row 4 is unknown")
        logger.debug("not shown")

    cli.run(main)
    cli.run(main)  # the second call adds no second handler
    out, err = capsys.readouterr()
    assert out == 2 * "100 % of 3 rows\n"
    assert err == 2 * "warning: row 3 is unused\nerror: row 4 is unknown\n"


def test_a_closed_pipe_ends_a_script_that_logs():
    code = "import logging; from graftdet.utils import cli; cli.run(lambda: [logging.getLogger('graftdet').info('x' * 99) for _ in range(99999)])"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT)
    process.stdout.readline()
    process.stdout.close()
    assert (process.stderr.read(), process.wait(timeout=60)) == (b"", 1)


@pytest.mark.parametrize("verbose", [False, True])
def test_an_error_is_one_line_and_has_its_traceback_on_demand(verbose, capsys, monkeypatch):
    monkeypatch.setattr(cli._Verbose, "is_given", False)
    parser = cli.ArgumentParser()
    commands = parser.add_subparsers(dest="command")
    commands.add_parser("check")

    def fail():
        options = parser.parse_args(["check", *["--verbose"] * verbose])
        assert vars(options) == {"command": "check"}
        raise UserError("x.yaml: wrong") from RuntimeError("inner")

    with pytest.raises(SystemExit) as stop:
        cli.run(fail)
    lines = capsys.readouterr().err.splitlines()
    assert stop.value.code == 2 and lines[-1] == "error: x.yaml: wrong"
    assert ("RuntimeError: inner" in lines) == verbose and (len(lines) == 1) == (not verbose)


def test_escape_sequences_are_not_printed(capsys):
    def main():
        logging.getLogger("graftdet.x").info("class \x1b[2J")
        print(text_table(["class"], [["\x1b]0;title\x07"]]))
        raise UserError("\x1b[31m.jpg: is empty")

    with pytest.raises(SystemExit):
        cli.run(main)
    with pytest.raises(SystemExit):
        cli.ArgumentParser(prog="train.py").parse_args(["\x1b[2J"])
    out, err = capsys.readouterr()
    assert "\x1b" not in out + err and "class \\x1b[2J" in out and "\\x1b[31m.jpg: is empty" in err


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 40 bytes")]
)
def test_exhausted_memory_is_one_line(error, capsys):
    def main():
        raise error

    with pytest.raises(SystemExit) as end:
        cli.run(main)
    text = capsys.readouterr().err
    assert end.value.code == 2 and text.startswith("error: out of memory") and text.count("\n") == 1
