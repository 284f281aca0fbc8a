"""Colors on terminals, --quiet."""

import io
import logging
import re

import pytest

from graftdet.utils import cli
from graftdet.utils.cli import console
from graftdet.utils.errors import UserError
from graftdet.utils.progress import Progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


def terminals(monkeypatch):
    """Standard output and error become terminals; both, in that order."""
    for name in ("NO_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(console.os, "name", "posix")
    streams = Terminal(), Terminal()
    monkeypatch.setattr("sys.stdout", streams[0])
    monkeypatch.setattr("sys.stderr", streams[1])
    return streams


def report():
    logger = logging.getLogger("graftdet.test")
    logger.info("epoch 1, best", extra={"color": "green"})
    logger.info("plain \x1b[31m")
    logger.warning("row 3")
    raise UserError("x.yaml:3:1: error[row-name]: no: error: name")


def run(main):
    with pytest.raises(SystemExit):
        cli.run(main)


def test_terminals_show_colors(monkeypatch):
    streams = terminals(monkeypatch)
    run(report)
    out, err = (stream.getvalue() for stream in streams)
    assert out == "\033[32mepoch 1, best\033[0m\nplain \\x1b[31m\n"
    warning, error = err.splitlines()
    assert warning == "\033[33mwarning:\033[0m row 3"
    assert error == "\033[31merror:\033[0m x.yaml:3:1: error[row-name]: no: error: name"


@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_colors_can_be_disabled(monkeypatch, name, value):
    streams = terminals(monkeypatch)
    monkeypatch.setenv(name, value)
    run(report)
    assert not any("\033" in stream.getvalue() for stream in streams)


def test_files_have_no_colors(capsys):
    run(report)
    assert "\033" not in "".join(capsys.readouterr())


def test_quiet_leaves_results_warnings_and_errors(capsys):
    def main():
        cli.ArgumentParser().parse_args(["--quiet"])
        logging.getLogger("graftdet.test").log(console.RESULT, "AP50-95 0.5")
        with Progress(1, "epoch", interval=0) as progress:
            progress.step()
        report()

    run(main)
    out, err = capsys.readouterr()
    assert out == "AP50-95 0.5\n" and err.startswith("warning: row 3\n") and "epoch" not in err
    run(report)  # the next command of this process is not quiet
    assert "epoch 1, best" in capsys.readouterr().out


def test_a_bar_shows_losses_throughput_and_time_left(monkeypatch):
    streams = terminals(monkeypatch)
    with Progress(4, "epoch 1/3") as progress:
        progress.step("box 1.5, 20.0 images/s")
        progress._bar.refresh()
    shown = streams[1].getvalue()
    assert re.search(r"epoch 1/3  25%\|.*\| 1/4 \[\d\d:\d\d, [\d:]+ left, box 1.5, 20.0 images/s\]", shown)


def test_warnings_only(caplog):
    console.configure_logging()
    logger = logging.getLogger("graftdet.test")
    with pytest.raises(RuntimeError), console.warnings_only():
        logger.info("table")
        logger.warning("row 3")
        raise RuntimeError
    logger.info("saved")
    assert [record.getMessage() for record in caplog.records] == ["row 3", "saved"]
