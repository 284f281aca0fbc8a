import os

import pytest

import train
from utils.device import default_workers


@pytest.mark.parametrize("cores, processes, workers", [(16, None, 8), (16, "4", 4), (6, "1", 6), (2, "4", 1)])
def test_processes_of_torchrun_share_the_cores(cores, processes, workers, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(cores), raising=False)
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    if processes:
        monkeypatch.setenv("LOCAL_WORLD_SIZE", processes)
    assert default_workers() == workers
    assert train.make_parser().parse_args([]).workers == workers
