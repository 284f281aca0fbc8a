"""Runs that are killed at exact points are resumed bit by bit; `make chaos` is the long version."""

import os

import pytest

if not hasattr(os, "fork"):
    pytest.skip("needs fork", allow_module_level=True)
from tests.chaos.kill_harness import Trainings, kill_at, wait


@pytest.fixture(scope="module")
def trainings(tmp_path_factory):
    """Two epochs each."""
    return Trainings(tmp_path_factory.mktemp("chaos"), epochs=2)


@pytest.fixture(scope="module")
def whole(trainings):
    """The outcome of a run that was not killed."""
    assert wait(trainings.start("whole")) == 0, (trainings.folder / "whole.log").read_text()
    return trainings.outcome("whole")


@pytest.mark.parametrize(
    ("function", "number", "after"),
    [("replace", 4, False), ("fsync", 3, True), ("link", 0, True)],
)
def test_a_killed_run_is_resumed_exactly(function, number, after, trainings, whole, one_thread):
    name = f"{function}{number}"
    assert wait(trainings.start(name, kill_at(function, number, after))) == 137, "the run was over before"
    assert trainings.check(name, whole) == ""
