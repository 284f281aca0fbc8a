"""Gradients of depthwise convolutions in bfloat16 equal those of nn.Conv2d up to rounding."""

import copy

import pytest
import torch
from torch import nn

from graftdet.models import build_model
from graftdet.models.blocks.conv import Conv, fuse_sequential
from graftdet.utils.training.acceleration import depthwise_gradients
from graftdet.utils.training.acceleration.depthwise_gradients import DepthwiseConv2d, speed_up_depthwise_gradients
from graftdet.utils.training.ema import ModelEMA

SLOW = [  # kernel, stride, padding, bias
    (5, 1, 2, False),
    (7, 1, 3, True),
    (5, 2, 2, False),
    (3, 2, 1, True),
    (4, 2, 1, False),
    (9, 1, 4, False),
    ((1, 5), 1, (0, 2), False),
    ((5, 3), (1, 2), (2, 1), False),
    (3, 3, 0, False),
]


def depthwise(kernel, stride=1, padding=0, bias=False, **options):
    return nn.Conv2d(8, 8, kernel, stride, padding, groups=8, bias=bias, **options).to(
        memory_format=torch.channels_last
    )


def gradients(conv, images, mixed=True, layout=torch.channels_last):
    """Output of a convolution of images (B, C, H, W), and gradients of its input and parameters, all float32."""
    conv = copy.deepcopy(conv)
    images = images.clone().contiguous(memory_format=layout).requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=mixed):
        output = conv(images)
    weights = torch.randn(output.shape, generator=torch.Generator().manual_seed(1))
    output.float().mul(weights).sum().backward()
    return [output.detach().float(), images.grad, *(parameter.grad for parameter in conv.parameters())]


def difference(results, expected):
    """Largest difference, relative to the largest expected value, over all results."""
    return max(((a - b).abs().max() / b.abs().max()).item() for a, b in zip(results, expected, strict=True))


@pytest.mark.parametrize("arguments", SLOW)
def test_gradients_are_those_in_float32_up_to_rounding(arguments):
    torch.manual_seed(0)
    plain, images = depthwise(*arguments), torch.randn(2, 8, 13, 16)
    expected = gradients(plain, images, mixed=False)
    model = nn.Sequential(plain)
    speed_up_depthwise_gradients(model)
    assert type(model[0]) is DepthwiseConv2d
    assert difference(gradients(model[0], images), expected) < 0.02


def test_other_types_and_layouts_are_computed_as_before(monkeypatch):
    monkeypatch.setattr(depthwise_gradients._Convolution, "apply", None)  # it would fail if it were called
    torch.manual_seed(0)
    plain, images = depthwise(5, 1, 2), torch.randn(2, 8, 9, 9)
    model = nn.Sequential(copy.deepcopy(plain))
    speed_up_depthwise_gradients(model)
    for how in ({"mixed": False}, {"layout": torch.contiguous_format}):
        assert difference(gradients(model[0], images, **how), gradients(plain, images, **how)) == 0
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        images = images.contiguous(memory_format=torch.channels_last)
        assert torch.equal(model[0](images), plain(images))


@pytest.mark.parametrize(
    "conv",
    [
        depthwise(3, 1, 1),
        depthwise(5, 1, 4, dilation=2),
        depthwise(5, 1, 2, padding_mode="reflect"),
        depthwise(5, padding="same"),
        depthwise(3, 2, 3),
        nn.Conv2d(8, 16, 5, groups=8),
        nn.Conv2d(8, 8, 5, groups=4),
        nn.Conv2d(1, 1, 5),
    ],
)
def test_other_convolutions_stay(conv):
    speed_up_depthwise_gradients(nn.Sequential(conv))
    assert type(conv) is nn.Conv2d


def test_frozen_weights_and_inputs_receive_no_gradient():
    conv = depthwise(5, 2, 2)
    speed_up_depthwise_gradients(nn.Sequential(conv))
    conv.requires_grad_(False)
    images = torch.randn(1, 8, 9, 9).contiguous(memory_format=torch.channels_last).requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        conv(images).float().sum().backward()
    assert images.grad is not None and conv.weight.grad is None
    conv.requires_grad_(True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        conv(images.detach()).float().sum().backward()
    assert conv.weight.grad.dtype == torch.float32


def test_batch_norms_are_still_merged():
    torch.manual_seed(0)
    block = Conv(8, 8, 5, 1, g=8).eval()
    layers = nn.Sequential(depthwise(5, 1, 2), nn.BatchNorm2d(8)).eval()
    speed_up_depthwise_gradients(nn.Sequential(block, layers))
    images = torch.randn(1, 8, 9, 9)
    for module, fuse in ((block, Conv.fuse), (layers, fuse_sequential)):
        before = module(images)
        fuse(module)
        assert not any(isinstance(part, nn.BatchNorm2d) for part in module.modules())
        torch.testing.assert_close(module(images), before)


def test_copies_of_a_model_have_them():
    model = build_model("mobilenet_v3_small.yaml", nc=3)
    names = set(model.state_dict())
    speed_up_depthwise_gradients(model)
    copied = ModelEMA(model, 0.99, 2000).model
    counts = [sum(type(module) is DepthwiseConv2d for module in one.modules()) for one in (model, copied)]
    assert counts[0] == counts[1] > 5 and set(copied.state_dict()) == names
