"""Runs that are ended at exact points are resumed bit by bit; `make chaos` is the long version."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
COUNTS = {"exact": 3, "random": 0, "signals": 2, "full": 1, "read-only": 0, "ranks": 1, "epochs": 2}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_ended_runs_are_resumed_exactly():
    flags = [text for name, count in COUNTS.items() for text in (f"--{name}", str(count))]
    command = [sys.executable, "-m", "tests.chaos.kill_harness", *flags]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0 and "7 of 7 resumed runs are equal" in done.stdout, done.stdout + done.stderr
    assert done.stdout.count("status [137]: equal") >= 2, done.stdout  # killed, not over before
    assert "status [143]: equal" in done.stdout and "status [130]: equal" in done.stdout, done.stdout
