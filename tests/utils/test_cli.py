"""How scripts end when they are told to."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from utils import cli

ROOT = Path(cli.__file__).parents[1]
CODE = """
import time
from utils import cli

def main():
    try:
        print("ready", flush=True)
        time.sleep(60)
    finally:
        print("tidied up", flush=True)

cli.run(main)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows ends processes without asking")
@pytest.mark.parametrize(("number", "said", "status"), [(signal.SIGTERM, "terminated", 143), (signal.SIGINT, "interrupted", 130)])
def test_a_script_that_is_told_to_end_tidies_up_first(number, said, status):
    start = "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n" + CODE
    process = subprocess.Popen(
        [sys.executable, "-c", start], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert (out, err, process.returncode) == ("tidied up\n", f"{said}\n", status)


def test_the_handler_is_gone_afterwards():
    before = signal.getsignal(signal.SIGTERM)
    cli.run(lambda: None)
    assert signal.getsignal(signal.SIGTERM) is before
