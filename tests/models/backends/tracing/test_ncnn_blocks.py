"""Blocks without operations that ncnn lacks: the same numbers."""

import pytest
import torch
from torch import nn

from graftdet.models.backends.tracing.ncnn_blocks import replace_for_ncnn
from graftdet.models.blocks.conv import Focus
from graftdet.models.blocks.gsconv import GSConv
from graftdet.models.blocks.inception_conv import InceptionConv
from graftdet.models.blocks.ops import Contract, Expand, SpaceToDepth

IN_TURNS = [[1, 1], [2, 2], [1, 1], [1, 2]]


def replaced(block, images):
    """A block before and after replacement: outputs, and the operations of its trace."""
    module = nn.Sequential(block).eval()
    for tensor in block.parameters():
        nn.init.normal_(tensor)
    with torch.no_grad():
        expected = module(images)
        replace_for_ncnn(module)
        assert module[0] is not block
        return expected, module(images), str(torch.jit.trace(module, images).inlined_graph)


@pytest.mark.parametrize("block", [Focus(6, 8, 3), GSConv(6, 8, 3), SpaceToDepth(), Contract(2), Contract(4)])
def test_no_slices_of_steps_and_few_axes(block):
    expected, found, graph = replaced(block, torch.randn(2, 6, 8, 12))
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-5)
    assert "aten::slice" not in graph and "aten::permute" not in graph


@pytest.mark.parametrize("gain", [2, 3])
def test_expand(gain):
    expected, found, graph = replaced(Expand(gain), torch.randn(2, 36, 5, 4))
    assert torch.equal(found, expected) and "aten::permute" not in graph


def test_channels_are_ordered_by_slices():
    block = InceptionConv(6, 8, dilations=IN_TURNS)
    expected, found, graph = replaced(block, torch.randn(2, 6, 8, 12))
    assert torch.equal(found, expected) and "aten::index_select" not in graph
    plain = nn.Sequential(InceptionConv(6, 8))  # channels of a pair are neighbors already
    replace_for_ncnn(plain)
    assert type(plain[0]) is InceptionConv


def test_a_layer_norm_of_one_pixel_is_one_of_a_vector():
    expected, found, _ = replaced(nn.LayerNorm([6, 1, 1]), torch.randn(2, 6, 1, 1))
    torch.testing.assert_close(found, expected)
    others = nn.Sequential(nn.LayerNorm(6), nn.LayerNorm([6, 8, 8]))
    replace_for_ncnn(others)
    assert [type(one) for one in others] == [nn.LayerNorm, nn.LayerNorm]
