"""Shapes of rows: found on an empty batch, equal to those of an image, and without torch's compiler."""

import subprocess
import sys

import pytest
import torch
from torch import nn

from graftdet.models import BLOCKS, build_model
from graftdet.models.graph import shape_inference as probe
from graftdet.utils.config import ROOT
from graftdet.utils.errors import UserError

SHAPES = [(16, 20, 24), [(16, 20, 24), (8, 20, 24)]]


def on_an_image(module, inputs):
    with torch.no_grad(), probe.evaluating(module):
        shapes = inputs if isinstance(inputs, list) else [inputs]
        maps = [torch.rand(1, *shape) for shape in shapes]
        return tuple(module(maps if isinstance(inputs, list) else maps[0]).shape[1:])


@pytest.mark.parametrize(
    ("name", "args", "inputs"),
    [
        ("Conv", (16, 24, 3, 2), SHAPES[0]),
        ("C3", (16, 24, 2), SHAPES[0]),
        ("C3TR", (16, 24, 1), SHAPES[0]),
        ("SPPF", (16, 24), SHAPES[0]),
        ("C3_GhostModule", (16, 24, 1), SHAPES[0]),  # needs an image
        ("Concat", (), SHAPES[1]),
        ("nn.PixelUnshuffle", (2,), SHAPES[0]),  # torch returns an empty batch as it is
    ],
)
def test_shapes_are_those_of_an_image(name, args, inputs):
    block = (getattr(nn, name[3:]) if name.startswith("nn.") else BLOCKS[name])(*args).train()
    assert probe.output_shapes(block, inputs) == on_an_image(block, inputs)
    assert all(module.training for module in block.modules())


class NeedsAnImage(nn.Module):
    """Fails on an empty batch and on a tensor without data."""

    def forward(self, x):
        return x[:, : 1 + int(x[0].sum() >= 0)]


def test_a_block_that_reads_its_values():
    assert probe.output_shapes(NeedsAnImage(), (3, 8, 8)) == (2, 8, 8)


class Quarters(nn.Module):
    """A view that is right for even sides alone."""

    def forward(self, x):
        b, c, h, w = x.shape
        return x.view(b, c, h // 2, 2, w // 2, 2)[:, :, :, 0, :, 0]


def test_a_view_that_does_not_fit_is_an_error():
    assert probe.output_shapes(Quarters(), (3, 8, 6)) == (3, 4, 3)
    with pytest.raises(RuntimeError, match="size"):
        probe.output_shapes(Quarters(), (3, 8, 7))


def test_an_output_that_is_no_map_is_an_error_as_with_an_image():
    with pytest.raises(UserError, match=r"gives shape \(1, 192\)"):
        probe.output_shapes(nn.Flatten(), (3, 8, 8))


def test_errors_are_those_with_an_image():
    with pytest.raises(RuntimeError, match="to have 4 channels, but got 3 channels"):
        probe.output_shapes(nn.Conv2d(4, 8, 3), (3, 8, 8))


def test_building_a_model_imports_no_compiler():
    """torch imports it, and sympy, for shapes on the meta device: two seconds at the start of every script."""
    code = "import sys; from graftdet.models import build_model; build_model('yolov5n.yaml'); print({'sympy', 'torch._dynamo'} & {*sys.modules})"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "set()"


def test_every_row_of_a_model_has_the_shape_of_an_image():
    model = build_model("yolov5n.yaml").eval()
    maps, seen = torch.zeros(1, 3, 64, 64), []
    hooks = [layer.register_forward_hook(lambda m, i, output: seen.append(output.shape)) for layer in model.model[:-1]]
    model.raw_outputs(maps)
    assert len(hooks) == len(seen)
    assert [(c, h * 10, w * 10) for _, c, h, w in seen] == model.shapes[:-1]


@pytest.mark.parametrize("activation", ["SiLU", "ReLU", "Hardswish", "Sigmoid"])
def test_rows_without_memory_have_the_shapes_of_real_ones(activation):
    def block():
        return nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), getattr(nn, activation)(), nn.MaxPool2d(2))

    with torch.device("meta"):
        unreal = block()
    assert probe.output_shapes(unreal, (3, 64, 48)) == probe.output_shapes(block(), (3, 64, 48)) == (8, 16, 12)


def test_a_batch_norm_of_another_width_is_an_error_without_memory():
    with torch.device("meta"):
        block = nn.Sequential(nn.Conv2d(3, 8, 1), nn.BatchNorm2d(16))
    with pytest.raises(RuntimeError):
        probe.output_shapes(block, (3, 8, 8))
