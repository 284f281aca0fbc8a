"""Output of native code and subprocesses is captured, and the streams are as before afterwards."""

import logging
import os
import subprocess
import sys

import pytest

from graftdet.utils.processes.native_output import captured_output


def test_output_of_every_kind_is_captured(capfd):
    print("before")
    with captured_output() as lines:
        print("python")
        os.write(2, b"native\n\n")
        subprocess.run([sys.executable, "-c", "print('child')"], check=True)
    print("after", file=sys.stderr)
    assert sorted(lines) == ["child", "native", "python"]
    assert capfd.readouterr() == ("before\n", "after\n")


def test_an_error_restores_the_streams(capfd):
    with pytest.raises(KeyError), captured_output() as lines:
        os.write(1, b"half")
        raise KeyError
    os.write(1, b"after")
    assert lines == ["half"] and capfd.readouterr().out == "after"


def test_handlers_that_a_library_creates_inside_do_no_harm_later(capfd):
    logger, before = logging.getLogger("library"), logging.getLogger().handlers[:]
    with captured_output():
        logger.addHandler(logging.StreamHandler())
        logging.getLogger().addHandler(logging.StreamHandler())
    logger.error("later")
    assert logging.getLogger().handlers == before and "Traceback" not in capfd.readouterr().err
    logger.handlers.clear()
