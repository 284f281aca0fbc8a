"""One row becomes a layer: widths, numbers of repeats, torch layers, named arguments."""

import pytest
import torch
from torch import nn

from graftdet.models.spec.row import scale_depth
from graftdet.models.spec.scales import scale_width
from graftdet.utils.errors import UserError
from tests.models.graph.small_models import model_of


@pytest.mark.parametrize(
    ("width", "multiple", "expected"), [(116, 1.0, 120), (64, 0.25, 16), (255, 1.0, 256), (8, 0.1, 8)]
)
def test_scale_width(width, multiple, expected):
    assert scale_width(width, multiple) == expected


@pytest.mark.parametrize(
    ("number", "multiple", "expected"), [(1, 3.0, 1), (3, 0.33, 1), (9, 0.33, 3), (6, 0.33, 2), (3, 1.33, 4)]
)
def test_scale_depth(number, multiple, expected):
    assert scale_depth(number, multiple) == expected


def test_width_is_scaled_whatever_its_value():
    # 21 = anchors * (5 + nc): an output width like that of a head is scaled like any other
    model = model_of([-1, 1, "Conv", [21, 1, 1]], width_multiple=0.5)
    assert model.shapes[0][0] == 16


def test_only_the_first_of_repeated_blocks_changes_stride_and_width():
    model = model_of([-1, 3, "Conv", [32, 3, 2]])
    assert model.shapes[0] == (32, 320, 320)
    assert [m.conv.in_channels for m in model.model[0]] == [3, 32, 32]


def test_number_is_an_argument_of_c3_and_stacks_other_blocks():
    model = model_of([-1, 4, "C3", [16]], [-1, 4, "Bottleneck", [16]], depth_multiple=0.5)
    assert len(model.model[0].m) == 2 and len(model.model[1]) == 2


def test_torch_layers_by_name():
    model = model_of(
        [-1, 1, "nn.Conv2d", [16, 3, 2, 1]],
        [-1, 1, "nn.BatchNorm2d", [999]],
        [-1, 1, "nn.ReLU", []],
        [-1, 1, "nn.ConvTranspose2d", [8, 2, 2]],
        [-1, 1, "nn.GroupNorm", [4]],
        [-1, 1, "nn.PixelUnshuffle", [2]],
    )
    assert [s[0] for s in model.shapes[:6]] == [16, 16, 16, 8, 8, 32]


def test_keyword_arguments_and_names():
    model = model_of(
        [-1, 1, "Conv", {"c2": 16, "k": 3, "s": 2}, "p1"],
        [-1, 1, "Conv", [16, {"act": "nn.ReLU()"}]],
        [["p1", -1], 1, "Concat", [1]],
    )
    assert isinstance(model.model[1].act, nn.ReLU) and model.shapes[2][0] == 32


def test_powers_of_ten_without_a_point_are_numbers():
    """YAML reads 1e-4 as text."""
    rows = [-1, 1, "SimAM", [16, "1e-4"]], [-1, 1, "C3", [16, {"e": "5E-1"}]], [-1, 1, "nn.LeakyReLU", ["-1e-1"]]
    model = model_of([-1, 1, "Conv", [16]], *rows)
    assert (
        model.model[1].e_lambda == 1e-4
        and model.model[2].cv1.conv.out_channels == 8
        and model.model[3].negative_slope == -0.1
    )
    with pytest.raises(UserError, match="'k' must be a whole number"):
        model_of([-1, 1, "Conv", [16, "3e0"]])


def test_lazy_layers_get_their_width():
    model = model_of([-1, 1, "Conv", [16]], [-1, 1, "nn.LazyConv2d", [24, 3, 1, 1]], [-1, 1, "nn.LazyBatchNorm2d", []])
    assert model.shapes[2][0] == 24 and model.train()(torch.rand(2, 3, 32, 32))
