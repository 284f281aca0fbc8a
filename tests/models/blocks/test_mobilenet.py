"""MobileNet v1, v2 and v3: the order of layers against plain functions, shortcuts, gates."""

import pytest
import torch
from torch.nn import functional

from graftdet.models import BLOCKS


def norm(x, bn):
    """Batch norm in eval mode, written out."""
    scale = bn.weight / (bn.running_var + bn.eps).sqrt()
    return (x - bn.running_mean.view(1, -1, 1, 1)) * scale.view(1, -1, 1, 1) + bn.bias.view(1, -1, 1, 1)


def make(block_name, *args):
    torch.manual_seed(0)
    block = BLOCKS[block_name](*args).eval()
    for m in block.modules():
        if isinstance(m, torch.nn.BatchNorm2d):
            m.running_mean.normal_(0, 0.1)
            m.running_var.uniform_(0.5, 1.5)
    return block


@torch.no_grad()
def test_depthwise_separable_convolution_equals_a_reference():
    block, x = make("DepthwiseSeparableConv", 4, 6, 3, 2), torch.randn(2, 4, 7, 7)
    each = [functional.conv2d(x[:, i : i + 1], block.conv_dw.weight[i : i + 1], stride=2, padding=1) for i in range(4)]
    y = norm(torch.cat(each, 1), block.bn1).relu()
    y = torch.einsum("oi,bihw->bohw", block.conv_pw.weight[:, :, 0, 0], y)
    assert torch.allclose(block(x), norm(y, block.bn2).relu(), atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize(
    ("c2", "s", "t", "shortcut"), [(4, 1, 6, True), (4, 2, 6, False), (6, 1, 6, False), (4, 1, 1, True)]
)
def test_linear_bottleneck_equals_a_reference(c2, s, t, shortcut):
    block, x = make("LinearBottleneck", 4, c2, s, t), torch.randn(2, 4, 8, 8)
    *convs, project, last_norm = block.conv
    assert len(convs) == (1 if t == 1 else 2)
    y = x
    for conv, bn, _ in convs:
        y = norm(functional.conv2d(y, conv.weight, None, conv.stride, conv.padding, 1, conv.groups), bn).clamp(0, 6)
    y = norm(functional.conv2d(y, project.weight), last_norm)  # no activation: negative values stay
    assert y.min() < 0
    assert torch.allclose(block(x), x + y if shortcut else y, atol=1e-5)
    assert convs[-1][0].groups == convs[-1][0].in_channels == 4 * t


@torch.no_grad()
def test_squeeze_and_excitation_equals_a_reference():
    block, x = make("SqueezeExcitation", 8, 4), torch.randn(2, 8, 5, 3)
    mean = x.mean((2, 3))
    gate = mean @ block.fc1.weight[:, :, 0, 0].T + block.fc1.bias
    gate = gate.relu() @ block.fc2.weight[:, :, 0, 0].T + block.fc2.bias
    gate = ((gate + 3) / 6).clamp(0, 1)
    assert torch.allclose(block(x), x * gate[:, :, None, None], atol=1e-6)
    assert block.fc1.out_channels == 2


@torch.no_grad()
@pytest.mark.parametrize(("hs", "act"), [(True, lambda y: y * ((y + 3).clamp(0, 6) / 6)), (False, torch.relu)])
def test_v3_block_applies_the_activation_before_the_gate(hs, act):
    block, x = make("MobileNetV3Block", 4, 4, 16, 5, 1, True, hs), torch.randn(2, 4, 8, 8)
    expand, depthwise, gate, project = block.block
    y = act(norm(functional.conv2d(x, expand[0].weight), expand[1]))
    y = act(norm(functional.conv2d(y, depthwise[0].weight, padding=2, groups=16), depthwise[1]))
    y = norm(functional.conv2d(gate(y), project[0].weight), project[1])
    assert torch.allclose(block(x), x + y, atol=1e-5)
    assert gate.fc1.out_channels == 8  # a quarter of 16, rounded to multiples of 8


def test_hard_activations_at_sample_values():
    x = torch.tensor([-4.0, -3.0, -1.0, 0.0, 1.0, 3.0, 5.0])
    assert BLOCKS["HardSigmoid"]()(x).tolist() == pytest.approx([0, 0, 1 / 3, 0.5, 2 / 3, 1, 1])
    assert BLOCKS["HardSwish"]()(x).tolist() == pytest.approx([0, 0, -1 / 3, 0, 2 / 3, 3, 5])


def test_published_parameter_counts_of_other_widths():
    """Parameters of other published widths, with a classifier of 1000 classes (torchvision's and timm's counts)."""
    with torch.device("meta"):
        v2 = BLOCKS["MobileNetV2"](3, 0.5, last=True), BLOCKS["MobileNetV2"](3, 1.4, last=True)
    counts = [
        sum(p.numel() for p in net.parameters()) + (w + 1) * 1000 for net, w in zip(v2, (1280, 1792), strict=True)
    ]
    assert counts == [1_968_680, 6_108_776]
