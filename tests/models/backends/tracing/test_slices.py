"""Blocks without slices of steps: the same numbers."""

import pytest
import torch
from torch import nn

from graftdet.models.backends.tracing.slices import replace_strided_slices
from graftdet.models.blocks.conv import Focus
from graftdet.models.blocks.gsconv import GSConv
from graftdet.models.blocks.ops import SpaceToDepth


@pytest.mark.parametrize("block", [Focus(6, 8, 3), GSConv(6, 8, 3), SpaceToDepth()])
def test_the_same_numbers(block):
    images = torch.randn(2, 6, 8, 12)
    module = nn.Sequential(block).eval()
    with torch.no_grad():
        expected = module(images)
        replace_strided_slices(module)
        assert module[0] is not block
        torch.testing.assert_close(module(images), expected, rtol=0, atol=1e-6)
        assert "aten::slice" not in str(torch.jit.trace(module, images).inlined_graph)
