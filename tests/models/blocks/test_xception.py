"""Xception: the separable convolution, the module with its ReLUs and its shortcut, the published sizes."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from graftdet.models import BLOCKS


@torch.no_grad()
def test_separable_convolution_equals_a_reference():
    torch.manual_seed(0)
    block, x = BLOCKS["SeparableConv"](4, 6, 3, 2), torch.randn(2, 4, 7, 7)
    each = torch.cat(
        [functional.conv2d(x[:, i : i + 1], block.conv1.weight[i : i + 1], stride=2, padding=1) for i in range(4)], 1
    )
    assert torch.allclose(block(x), torch.einsum("oi,bihw->bohw", block.pointwise.weight[:, :, 0, 0], each), atol=1e-5)
    assert not [name for name, _ in block.named_parameters() if name.endswith("bias")]


@torch.no_grad()
@pytest.mark.parametrize(
    ("reps", "s", "relu_first", "grow_first"), [(3, 1, True, True), (2, 2, False, True), (2, 2, True, False)]
)
def test_module_equals_a_reference_and_does_not_modify_its_input(reps, s, relu_first, grow_first):
    torch.manual_seed(0)
    c2 = 8 if s == 1 else 12
    block, x = BLOCKS["XceptionModule"](8, c2, reps, s, relu_first, grow_first).eval(), torch.randn(1, 8, 9, 9)
    passed = x.clone()
    y = x
    separable = [m for m in block.rep if isinstance(m, BLOCKS["SeparableConv"])]
    batch_norms = [m for m in block.rep if isinstance(m, nn.BatchNorm2d)]
    for i, (conv, bn) in enumerate(zip(separable, batch_norms, strict=True)):
        y = bn(conv(y.relu() if i or relu_first else y))
    if s == 2:
        y = functional.max_pool2d(y, 3, 2, 1)
    shortcut = x if s == 1 else block.skipbn(block.skip(x))
    assert torch.allclose(block(x), y + shortcut, atol=1e-5)
    assert torch.equal(x, passed)  # the first ReLU does not change the input
    assert len(separable) == reps
    assert [m.pointwise.out_channels for m in separable] == ([c2] * reps if grow_first else [8] * (reps - 1) + [c2])


def test_published_sizes():
    """299x299 without padding: 37 (block 2), 19 and 10 positions per side."""
    with torch.device("meta"), torch.no_grad():
        maps = BLOCKS["Xception"](3, p=0).eval()(torch.zeros(1, 3, 299, 299))
    assert [tuple(m.shape[1:]) for m in maps] == [(256, 37, 37), (728, 19, 19), (2048, 10, 10)]
