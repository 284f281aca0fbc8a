"""What a row raises while the model runs ends in one line with its file, row, input and the line of the plugin."""

import pytest
import torch

from graftdet.models import build_model, load_plugins
from graftdet.utils.errors import UserError
from graftdet.utils.training.acceleration.preparation import prepare_for_training
from tests.models.graph.test_plugins import write

pytestmark = pytest.mark.usefixtures("restore_registry")
PLUGIN = """import torch
from torch import nn


class NeedsEven(nn.Module):
    def forward(self, x):
        return self.halves(x)

    def halves(self, x):
        b, c, h, w = x.shape
        return x.view(b, c, h // 2, 2, w).flatten(2, 3)


class InPlace(nn.Module):
    def __init__(self, c1):
        super().__init__()

    def forward(self, x):
        return x.mul_(0.5)


class Typed(nn.Module):
    def forward(self, x):
        return x if x.shape[0] < 2 else x + "1"
"""
YAML = """nc: 1
activation: nn.Sigmoid()
anchors: 3
backbone:
  - [-1, 1, Conv, [8, 3, 2]]
  - [-1, 1, {0}, []]
  - [-1, 1, Conv, [8, 1]]
head:
  - [[-1], 1, Detect, [nc, anchors]]
"""


@pytest.fixture
def model_of_plugin(tmp_path):
    load_plugins([write(tmp_path / "my_blocks.py", PLUGIN)])
    return lambda module: build_model(write(tmp_path / "m.yaml", YAML.format(module)))


@pytest.mark.parametrize("training", [False, True])
def test_an_error_in_a_row_names_it(model_of_plugin, training):
    model = model_of_plugin("NeedsEven").train(training)
    model(torch.rand(2, 3, 64, 64))
    with pytest.raises(UserError) as caught:
        model(torch.rand(2, 3, 70, 64))
    text = str(caught.value)
    assert (
        "m.yaml:6:" in text and "error[cannot-run] row 1 (backbone row 1) NeedsEven: fails on input 2x8x35x32: " in text
    )
    assert text.endswith("(my_blocks.py:11)") and isinstance(caught.value.__cause__, RuntimeError)


def test_errors_that_are_no_runtime_errors_are_named_as_well(model_of_plugin):
    with pytest.raises(UserError, match=r"row 1 .*Typed: fails on input 2x8x32x32: .*str.* \(my_blocks.py:24\)"):
        model_of_plugin("Typed").train()(torch.rand(2, 3, 64, 64))


def test_running_out_of_memory_is_no_error_of_a_row(model_of_plugin, monkeypatch):
    model = model_of_plugin("Typed")

    def fail(x):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(model.model[1], "forward", fail)
    with pytest.raises(torch.OutOfMemoryError):
        model(torch.rand(1, 3, 64, 64))


def test_a_row_that_cannot_be_trained_is_reported_before_training(model_of_plugin):
    model = model_of_plugin("InPlace")
    with pytest.raises(
        UserError, match=r"row 1 .*InPlace: fails on input 2x8x32x32: changes its input.*my_blocks.py:14"
    ):
        prepare_for_training(model, torch.device("cpu"), (3, 64, 64), model.model, model.block_error)
