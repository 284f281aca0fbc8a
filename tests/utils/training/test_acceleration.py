"""What makes a step faster must not change it."""

import contextlib
import copy
import logging

import pytest
import torch
from torch import nn

from graftdet.models import build_model
from graftdet.utils.errors import UserError
from graftdet.utils.training import acceleration
from graftdet.utils.training.acceleration import (
    automatic_batch_size,
    compile_model,
    disable_inplace_activations,
    largest_batch,
    mixed_precision,
)

CPU = torch.device("cpu")


def test_mixed_precision_choices(monkeypatch):
    assert mixed_precision("off", CPU) == (None, None)
    assert mixed_precision("on", CPU) == (torch.bfloat16, None)
    for flags, wanted in ((set(), None), ({"avx512_bf16"}, None), ({"avx512_bf16", "amx_bf16"}, torch.bfloat16)):
        monkeypatch.setattr("graftdet.utils.training.acceleration.cpu_flags", lambda flags=flags: frozenset(flags))
        assert mixed_precision("auto", CPU) == (wanted, None)


@pytest.mark.parametrize("activation", [nn.SiLU, nn.Mish, nn.Hardswish, nn.Hardsigmoid, nn.ReLU])
def test_activations_that_are_not_in_place_give_equal_results(activation):
    torch.manual_seed(0)
    in_place = nn.Sequential(
        nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), activation(inplace=True), nn.Conv2d(4, 2, 1)
    )
    not_in_place = copy.deepcopy(in_place)
    disable_inplace_activations(not_in_place)
    assert not_in_place[2].inplace == (activation is nn.ReLU)  # whose gradient needs only its output
    images = torch.randn(2, 3, 9, 9)
    results = [model(images) for model in (in_place, not_in_place)]
    assert torch.equal(*results)
    for result in results:
        result.square().sum().backward()
    assert all(
        torch.equal(p.grad, q.grad) for p, q in zip(in_place.parameters(), not_in_place.parameters(), strict=True)
    )


def test_a_compiled_model_has_the_same_class_and_state(monkeypatch):
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    names, copied = list(model.state_dict()), copy.deepcopy(model)
    assert compile_model(model, False, CPU) is model and model._compiled_call_impl is None
    monkeypatch.setattr("graftdet.utils.training.acceleration.shutil.which", lambda name: None)
    with pytest.raises(UserError, match="--compile: needs a C.. compiler"):
        compile_model(model, True, CPU)
    monkeypatch.setattr("graftdet.utils.training.acceleration.shutil.which", lambda name: name)
    assert (
        compile_model(model, True, CPU) is model and model._compiled_call_impl is not None
    )  # translated at its first call
    assert list(model.state_dict()) == names and copied._compiled_call_impl is None


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
    assert acceleration._training_memory(model.train(), 2, 64, torch.device("cpu")) == 7 and seen == [1]
    assert all(parameter.grad is None for parameter in model.parameters())
