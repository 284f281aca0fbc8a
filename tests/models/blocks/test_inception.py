"""Inception (order of paths, kernels of the 5x5 path, factorized kernels, reductions), and InceptionConv, each of whose
output channels equals a convolution of its own with its own dilations.
"""

import pytest
import torch
from torch import nn
from torch.nn import functional

from graftdet.models import BLOCKS


def make(block_name, *args):
    torch.manual_seed(0)
    return BLOCKS[block_name](*args).eval()


def kernels(module):
    return [m.kernel_size for m in module.modules() if isinstance(m, nn.Conv2d)]


@torch.no_grad()
def test_v1_module_concatenates_four_branches_in_order():
    block, x = make("Inception", 8, 4, 6, 8, 2, 3, 5), torch.randn(1, 8, 6, 6)
    parts = block(x).split([4, 8, 3, 5], 1)
    for part, path in zip(parts, (block.branch1, block.branch2, block.branch3, block.branch4), strict=True):
        assert torch.equal(part, path(x))
    assert torch.equal(parts[3], block.branch4[1](nn.functional.max_pool2d(x, 3, 1, 1)))


@pytest.mark.parametrize(("five", "expected"), [("3x3+3x3", [1, 3, 3]), ("5x5", [1, 5]), ("3x3", [1, 3])])
def test_kernels_of_the_5x5_branch(five, expected):
    assert kernels(make("Inception", 8, 4, 6, 8, 2, 3, 5, five).branch3) == [(k, k) for k in expected]


def seen(block, size=21):
    """Size (h, w) of what the middle of the output depends on."""
    x = torch.rand(1, block[0].conv.in_channels, size, size, requires_grad=True)
    for m in block.modules():
        if isinstance(m, nn.Conv2d):
            nn.init.constant_(m.weight, 0.1)
    nn.Sequential(*block)(x)[0, :, size // 2, size // 2].sum().backward()
    positions = x.grad[0].abs().sum(0).nonzero()
    return tuple((positions.max(0).values - positions.min(0).values + 1).tolist())


def test_factorized_branches_have_the_receptive_field_of_the_original_kernels():
    c = make("InceptionC", 8, 64, 0.125)
    once = [getattr(c, f"branch7x7_{i}") for i in (1, 2, 3)]
    twice = [getattr(c, f"branch7x7dbl_{i}") for i in (1, 2, 3, 4, 5)]
    assert [k for m in once for k in kernels(m)] == [(1, 1), (1, 7), (7, 1)]
    assert [k for m in twice for k in kernels(m)] == [(1, 1), (7, 1), (1, 7), (7, 1), (1, 7)]
    assert seen(nn.ModuleList(once)) == (7, 7)
    assert seen(nn.ModuleList(twice)) == (13, 13)
    assert seen(make("Inception", 8, 4, 6, 8, 2, 3, 5).branch3) == (5, 5)


@torch.no_grad()
def test_expanded_module_splits_its_last_convolutions():
    block, x = make("InceptionE", 8, 0.125), torch.randn(1, 8, 5, 5)
    y = block.branch3x3_1(x)
    parts = block(x).split([40, 48, 48, 48, 48, 24], 1)
    assert torch.equal(parts[1], block.branch3x3_2a(y))
    assert torch.equal(parts[2], block.branch3x3_2b(y))
    assert torch.equal(parts[5], block.branch_pool(nn.functional.avg_pool2d(x, 3, 1, 1)))
    assert kernels(block)[2:4] == [(1, 3), (3, 1)]


@pytest.mark.parametrize(
    ("block_name", "args", "width"),
    [
        ("InceptionB", (288,), 768),
        ("InceptionD", (768,), 1280),
        ("InceptionResNetReduction", (1088,), 2080),
        ("Mixed_7a", (), 2080),
    ],
)
def test_reductions_halve_the_size_with_and_without_padding(block_name, args, width):
    with torch.device("meta"), torch.no_grad():
        block, plain = BLOCKS[block_name](*args).eval(), BLOCKS[block_name](*args, p=0).eval()
        c1 = args[0] if args else 1088
        assert block(torch.zeros(1, c1, 16, 16)).shape == (1, width, 8, 8)
        assert plain(torch.zeros(1, c1, 17, 17)).shape == (1, width, 8, 8)
        assert plain(torch.zeros(1, c1, 16, 16)).shape == (1, width, 7, 7)
    assert {k: v.shape for k, v in block.state_dict().items()} == {k: v.shape for k, v in plain.state_dict().items()}


@torch.no_grad()
def test_inception_resnet_reduction_concatenates_four_branches_in_order():
    block, x = make("Mixed_7a", 8, 0.03125), torch.randn(1, 8, 6, 6)
    parts = block(x).split([12, 9, 10, 8], 1)
    for part, path in zip(parts, (block.branch0, block.branch1, block.branch2, block.branch3), strict=True):
        assert torch.equal(part, path(x))


def test_v3_modules_have_the_published_widths():
    with torch.device("meta"), torch.no_grad():
        for block_name, args, c1, c2 in [
            ("InceptionA", (32,), 192, 256),
            ("InceptionA", (64,), 256, 288),
            ("InceptionC", (160,), 768, 768),
            ("InceptionE", (), 1280, 2048),
        ]:
            assert BLOCKS[block_name](c1, *args).eval()(torch.zeros(1, c1, 8, 8)).shape == (1, c2, 8, 8)


def test_v3_without_padding_has_the_published_sizes():
    """299x299: 35, 17 and 8 positions per side."""
    with torch.device("meta"), torch.no_grad():
        maps = BLOCKS["InceptionV3"](3, p=0).eval()(torch.zeros(1, 3, 299, 299))
    assert [tuple(m.shape[1:]) for m in maps] == [(288, 35, 35), (768, 17, 17), (2048, 8, 8)]


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
