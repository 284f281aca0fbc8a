"""InceptionConv: each output channel against a convolution of its own with its own dilations."""

import pytest
import torch
from torch.nn import functional

from graftdet.models import BLOCKS


def channels_of(block):
    """Output channel -> (dilations, kernel) as the block was built."""
    channels_by_index = {}
    for (pair, own), conv in zip(block.channels.items(), block.conv_list, strict=True):
        for index, channel in enumerate(own):
            channels_by_index[channel] = (pair, conv.weight[index : index + 1])
    return [channels_by_index[channel] for channel in sorted(channels_by_index)]


@torch.no_grad()
@pytest.mark.parametrize("k", [3, 5])
@pytest.mark.parametrize("s", [1, 2])
def test_each_channel_has_its_own_dilations(k, s):
    torch.manual_seed(0)
    pairs = [[1, 1], [2, 1], [1, 1], [1, 1], [4, 3], [2, 1], [1, 2]]
    block = BLOCKS["InceptionConv"](3, 7, k, s, pairs, act=False).eval()
    assert len(block.conv_list) == 4  # equal pairs are one convolution
    assert [list(pair) for pair, _ in channels_of(block)] == pairs
    x = torch.randn(2, 3, 17, 19)
    expected = []
    for (dh, dw), weight in channels_of(block):
        padding = (dh * (k // 2), dw * (k // 2))
        expected.append(functional.conv2d(x, weight, None, s, padding, (dh, dw)))
    assert torch.allclose(block(x), torch.cat(expected, 1) / (1 + 1e-5) ** 0.5, atol=1e-5)


def test_receptive_field_follows_the_dilations_of_the_channel():
    block = BLOCKS["InceptionConv"](1, 2, 3, 1, [[1, 3], [2, 1]]).eval()
    x = torch.rand(1, 1, 15, 15, requires_grad=True)
    y = block(x)
    for channel, expected in ((0, ([6, 7, 8], [4, 7, 10])), (1, ([5, 7, 9], [6, 7, 8]))):
        (gradient,) = torch.autograd.grad(y[0, channel, 7, 7], x, retain_graph=True)
        rows, columns = gradient[0, 0].nonzero().T
        assert (sorted(set(rows.tolist())), sorted(set(columns.tolist()))) == expected


@pytest.mark.parametrize(
    ("channels", "expected"), [(4, [0, 1, 2, 3]), (8, [0, 0, 1, 1, 2, 2, 3, 3]), (6, [0, 0, 1, 2, 2, 3])]
)
def test_default_dilations_are_distributed_over_the_channels(channels, expected):
    pairs = [(1, 1), (1, 2), (2, 1), (2, 2)]
    block = BLOCKS["InceptionConv"](2, channels)
    assert [pairs.index(pair) for pair, _ in channels_of(block)] == expected
    assert sum(p.numel() for p in block.conv_list.parameters()) == channels * 2 * 9  # what a plain 3x3 has


@torch.no_grad()
def test_fusing_preserves_the_order_of_channels():
    torch.manual_seed(0)
    block = BLOCKS["InceptionConv"](3, 5, 3, 1, [[1, 1], [2, 2], [1, 1], [1, 1], [2, 2]]).eval()
    block.bn.weight.copy_(torch.arange(1.0, 6.0))
    block.bn.bias.copy_(torch.arange(5.0))
    x = torch.randn(1, 3, 9, 9)
    before = block(x)
    block.fuse()
    block.fuse()  # once more changes nothing
    assert torch.allclose(block(x), before, atol=1e-5)
