"""What makes a step faster must not change it."""

import copy

import pytest
import torch
from torch import nn

from graftdet.utils.errors import UserError
from graftdet.utils.training.acceleration.preparation import compile_model, disable_inplace_activations

CPU = torch.device("cpu")


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
    monkeypatch.setattr("graftdet.utils.training.acceleration.preparation.shutil.which", lambda name: None)
    with pytest.raises(UserError, match="--compile: needs a C.. compiler"):
        compile_model(model, True, CPU)
    monkeypatch.setattr("graftdet.utils.training.acceleration.preparation.shutil.which", lambda name: name)
    assert (
        compile_model(model, True, CPU) is model and model._compiled_call_impl is not None
    )  # translated at its first call
    assert list(model.state_dict()) == names and copied._compiled_call_impl is None
