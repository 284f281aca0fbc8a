import os

import pytest

from graftdet.utils.device import default_workers


@pytest.mark.parametrize(("cores", "processes", "workers"), [(16, None, 8), (16, "4", 4), (6, "1", 6), (2, "4", 1)])
def test_processes_of_torchrun_share_the_cores(cores, processes, workers, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(cores), raising=False)
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    if processes:
        monkeypatch.setenv("LOCAL_WORLD_SIZE", processes)
    assert default_workers() == default_workers("cuda") == workers


@pytest.mark.parametrize(
    ("cores", "processes", "workers"), [(2, "1", 1), (8, "1", 1), (16, "1", 2), (16, "2", 1), (128, "1", 8)]
)
def test_training_on_the_cpu_leaves_most_cores_to_torch(cores, processes, workers, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(cores), raising=False)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", processes)
    assert default_workers("cpu") == workers
