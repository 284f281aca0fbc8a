"""Runs that are killed at exact points are resumed bit by bit; `make chaos` is the long version."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_killed_runs_are_resumed_exactly():
    command = [sys.executable, "-m", "tests.chaos.kill_harness", "--exact", "4", "--random", "0", "--epochs", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0 and "4 of 4 resumed runs are equal" in done.stdout, done.stdout + done.stderr
    assert done.stdout.count("status 137: equal") >= 2, done.stdout  # killed, not over before
