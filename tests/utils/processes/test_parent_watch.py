"""A process ends soon after the one that started it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
CHILD = """
import time
from graftdet.utils.processes.parent_watch import end_with_parent
end_with_parent("process 1 of 2", interval=0.1)
print("ready", flush=True)
time.sleep(60)
"""
PARENT = "import subprocess, sys, time; p = subprocess.Popen([sys.executable, '-c', sys.argv[1]]); print(p.pid, flush=True); time.sleep(60)"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows keeps the id of a parent that has ended")
def test_process_ends_after_its_parent():
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, CHILD], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    )
    child = int(parent.stdout.readline())
    assert parent.stdout.readline() == "ready\n"
    time.sleep(0.3)
    os.kill(child, 0)  # runs as long as its parent
    parent.send_signal(signal.SIGKILL)
    _, errors = parent.communicate(timeout=30)  # until the child has closed the pipes
    assert errors == f"error: process 1 of 2: process {parent.pid}, which started it, has ended\n"
