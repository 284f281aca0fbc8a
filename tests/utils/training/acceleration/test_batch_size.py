import contextlib
import logging
from unittest.mock import MagicMock

import pytest
import torch

from graftdet.models import build_model
from graftdet.utils.distributed import Ranks
from graftdet.utils.errors import UserError
from graftdet.utils.training import trainer as trainer_module
from graftdet.utils.training.acceleration import batch_size
from graftdet.utils.training.acceleration.batch_size import automatic_batch_size, exceeded_memory, largest_batch


def test_the_batch_size_by_memory(caplog):
    """Memory grows by 2 GB per image from 1 GB; the device offers 100 GB."""
    peaks = [3e9, 5e9, 9e9, 17e9]
    assert largest_batch([1, 2, 4, 8], peaks, 100e9) == 48  # 49.5, a multiple of 8
    assert largest_batch([1, 2, 4, 8], peaks, 12e9) == 5 and largest_batch([1, 2], peaks[:2], 1e9) == 1
    assert largest_batch([1], [9e9], 10e9) == 1 and largest_batch([1, 2], [5e9, 5e9], 10e9) == 2
    with caplog.at_level(logging.INFO):
        assert automatic_batch_size(torch.nn.Identity(), 64, torch.device("cpu")) == 16
    assert "--batch-size -1: 16" in caplog.text


def test_the_memory_of_a_batch_is_that_of_a_training_step(monkeypatch):
    """On a device without counters of memory: each batch runs forward and backward, and leaves no gradient."""
    model = build_model("yolov5n.yaml", nc=2)
    seen = []
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda _: None)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda _: seen.append(1) or 7)
    monkeypatch.setattr(torch, "autocast", lambda *_: contextlib.nullcontext())
    assert batch_size._training_memory(model.train(), 2, 64, torch.device("cpu")) == 7 and seen == [1]
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize(
    ("fitting", "processes", "hint"), [(6, 2, "--batch-size 12 fits"), (99, 1, "--batch-size 31 fits")]
)
def test_error_names_the_batch_size_that_fits(fitting, processes, hint, monkeypatch):
    monkeypatch.setattr(batch_size, "_fitting_batch", lambda *_: (fitting, ""))
    error = exceeded_memory(torch.nn.Identity(), 32, 640, torch.device("cuda:0"), processes)
    assert str(error) == f"--batch-size 32: images of 640 pixels do not fit into the memory of cuda:0; {hint}"


def test_training_names_the_batch_size_that_fits(monkeypatch):
    def fail(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(trainer_module, "train_one_epoch", fail)
    monkeypatch.setattr(batch_size, "_fitting_batch", lambda *_: (3, ""))
    batches = MagicMock(batch_size=8, dataset=MagicMock(size=64))
    parts = MagicMock(), batches, MagicMock(), 0, Ranks(), torch.device("cpu"), MagicMock()
    trainer = trainer_module.Trainer(torch.nn.Identity(), *parts)
    with pytest.raises(UserError, match="--batch-size 8: images of 64 pixels .*; --batch-size 3 fits"):
        trainer.train_epoch(0, 1)
