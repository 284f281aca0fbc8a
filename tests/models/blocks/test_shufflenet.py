"""ShuffleNet v1 and v2: the shuffle, which channels reach which, groups, multiply-adds of the paper."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from graftdet.models import BLOCKS


def test_shuffle_interleaves_the_groups():
    x = torch.arange(6.0).view(1, 6, 1, 1)
    assert BLOCKS["ChannelShuffle"](2)(x).flatten().tolist() == [0, 3, 1, 4, 2, 5]
    assert BLOCKS["ChannelShuffle"](3)(x).flatten().tolist() == [0, 2, 4, 1, 3, 5]
    assert torch.equal(BLOCKS["ChannelShuffle"](3)(BLOCKS["ChannelShuffle"](2)(x)), x)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_shuffle_preserves_the_memory_format(layout):
    x = torch.arange(2.0 * 6 * 3 * 4).view(2, 6, 3, 4).contiguous(memory_format=layout)
    for groups, order in ((2, [0, 3, 1, 4, 2, 5]), (3, [0, 2, 4, 1, 3, 5])):
        shuffled = BLOCKS["ChannelShuffle"](groups)(x)
        assert torch.equal(shuffled, x[:, order]) and shuffled.is_contiguous(memory_format=layout)


def reach(block, c1):
    """(c2, c1) bool: which input channels an output channel depends on."""
    torch.manual_seed(0)
    x = torch.rand(1, c1, 4, 4, requires_grad=True)
    y = block.eval()(x)
    rows = []
    for channel in range(y.shape[1]):
        (gradient,) = torch.autograd.grad(y[0, channel].sum(), x, retain_graph=True)
        rows.append(gradient[0].abs().sum((1, 2)) > 0)
    return torch.stack(rows)


def test_shuffle_mixes_the_groups_of_grouped_convolutions():
    grouped = BLOCKS["PointwiseConv"](8, 8, 2)
    assert reach(torch.nn.Sequential(grouped, BLOCKS["PointwiseConv"](8, 8, 2)), 8).float().mean() == 0.5
    mixed = torch.nn.Sequential(grouped, BLOCKS["ChannelShuffle"](2), BLOCKS["PointwiseConv"](8, 8, 2))
    assert reach(mixed, 8).all()


@torch.no_grad()
def test_v1_unit_adds_or_concatenates():
    torch.manual_seed(0)
    x = torch.rand(1, 12, 6, 6)
    unit = BLOCKS["ShuffleNetUnit"](12, 12, 3, 1, 3).eval()
    y = unit.expand(unit.depthwise(unit.shuffle(unit.relu(unit.bottleneck(x)))))
    assert torch.allclose(unit(x), (x + y).relu())
    wider = BLOCKS["ShuffleNetUnit"](12, 24, 3, 2, 3).eval()
    out = wider(x)
    assert out.shape == (1, 24, 3, 3)
    assert torch.allclose(out[:, :12], torch.nn.functional.avg_pool2d(x, 3, 2, 1))
    assert wider.expand.pointwise[0].out_channels == 12  # c2 - c1


@pytest.mark.parametrize(("c1", "stage", "s", "groups"), [(24, 2, 2, 1), (240, 2, 1, 3), (240, 3, 2, 3)])
def test_the_first_convolution_of_stage_2_is_not_grouped(c1, stage, s, groups):
    with torch.device("meta"):
        unit = BLOCKS["ShuffleNetUnit"](c1, 240 * s if c1 == 240 else 240, stage, s, 3)
    assert unit.bottleneck.pointwise[0].groups == groups
    assert unit.expand.pointwise[0].groups == 3


@pytest.mark.parametrize(("groups", "stated"), [(1, 143), (2, 140), (3, 137), (4, 133), (8, 137)])
def test_v1_multiply_adds_are_close_to_the_paper(groups, stated):
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        maps = BLOCKS["ShuffleNetV1"](3, 1.0, groups).eval()(torch.zeros(1, 3, 224, 224))
    widths = {1: 144, 2: 200, 3: 240, 4: 272, 8: 384}
    assert [m.shape[1] for m in maps] == [widths[groups] * k for k in (1, 2, 4)]
    assert counter.get_total_flops() / 2e6 + maps[-1].shape[1] / 1e3 == pytest.approx(stated, rel=0.012)


@torch.no_grad()
def test_v2_unit_passes_half_of_its_channels_through():
    torch.manual_seed(0)
    unit, x = BLOCKS["ShuffleNetV2Unit"](8, 8, 1).eval(), torch.rand(1, 8, 4, 4)
    y = unit(x)
    assert torch.equal(y[:, 0::2], x[:, :4])
    assert torch.allclose(y[:, 1::2], unit.branch2(x[:, 4:]))


@torch.no_grad()
def test_v2_strided_unit_interleaves_two_branches():
    torch.manual_seed(0)
    unit, x = BLOCKS["ShuffleNetV2Unit"](8, 12, 2).eval(), torch.rand(1, 8, 5, 4)
    y = unit(x)
    assert y.shape == (1, 12, 3, 2)
    assert torch.allclose(y[:, 0::2], unit.branch1(x))
    assert torch.allclose(y[:, 1::2], unit.branch2(x))
