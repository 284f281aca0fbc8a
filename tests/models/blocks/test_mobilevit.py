"""MobileViT: attention against torch's own, which positions attend to each other, odd sizes."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from graftdet.models import BLOCKS
from graftdet.models.blocks.mobilevit import PatchAttention


@torch.no_grad()
def test_attention_equals_the_one_of_torch():
    torch.manual_seed(0)
    attention, x = PatchAttention(12, 4), torch.randn(2, 7, 12)
    q, k, v = (part.view(2, 7, 4, 3).transpose(1, 2) for part in attention.qkv(x).chunk(3, 2))
    want = attention.proj(functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(2, 7, 12))
    assert torch.allclose(attention(x), want, atol=1e-6)


def only_transformer(block):
    """The block with convolutions that only pass on: what is left is the cutting into patches and the attention."""
    c = block.conv_1x1.in_channels
    block.conv_kxk = nn.Identity()
    block.conv_1x1.weight.data = torch.eye(c).view(c, c, 1, 1)
    block.conv_proj = nn.Identity()
    block.conv_fusion = Second(c)
    return block


class Second(nn.Module):
    """Of the joined maps the second one."""

    def __init__(self, c):
        super().__init__()
        self.c = c

    def forward(self, x):
        return x[:, self.c :]


def test_pixels_attend_to_the_same_position_in_all_patches():
    torch.manual_seed(0)
    block = only_transformer(BLOCKS["MobileViTBlock"](8, 8, 8, 1).eval())
    x = torch.randn(1, 8, 4, 6, requires_grad=True)
    y = block(x)
    for row, column in ((0, 0), (1, 2), (3, 5)):
        (gradient,) = torch.autograd.grad(y[0, :, row, column].square().sum(), x, retain_graph=True)
        seen = {tuple(p) for p in (gradient[0].abs().sum(0) > 0).nonzero().tolist()}
        assert seen == {(r, c) for r in range(row % 2, 4, 2) for c in range(column % 2, 6, 2)}


@torch.no_grad()
def test_patches_equal_a_reference_with_loops():
    """Each spot of the 2x2 patches is a sequence of its own, patches in reading order."""
    torch.manual_seed(0)
    block, x = only_transformer(BLOCKS["MobileViTBlock"](8, 8, 8, 2).eval()), torch.randn(2, 8, 4, 6)
    want = torch.empty_like(x)
    for b in range(2):
        for i in range(2):
            for j in range(2):
                tokens = torch.stack([x[b, :, r, c] for r in range(i, 4, 2) for c in range(j, 6, 2)])[None]
                result = iter(block.norm(block.transformer(tokens))[0])
                for r in range(i, 4, 2):
                    for c in range(j, 6, 2):
                        want[b, :, r, c] = next(result)
    assert torch.allclose(block(x), want, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize(("h", "w"), [(5, 4), (4, 7), (5, 7), (1, 1)])
def test_odd_sizes_repeat_the_last_row_and_column(h, w):
    torch.manual_seed(0)
    block, x = only_transformer(BLOCKS["MobileViTBlock"](8, 8, 8, 1).eval()), torch.randn(1, 8, h, w)
    even = functional.pad(x, (0, w % 2, 0, h % 2), mode="replicate")
    assert torch.allclose(block(x), block(even)[:, :, :h, :w], atol=1e-6)


def test_layers_and_widths_of_xs():
    with torch.device("meta"):
        net = BLOCKS["MobileViT"](3, "xs", last=True)
    blocks = [m for m in net.modules() if isinstance(m, BLOCKS["MobileViTBlock"])]
    assert [(len(b.transformer), b.norm.normalized_shape[0]) for b in blocks] == [(2, 96), (4, 120), (3, 144)]
    assert all(
        layer.attn.heads == 4 and layer.mlp.fc1.out_features == 2 * b.norm.normalized_shape[0]
        for b in blocks
        for layer in b.transformer
    )
    assert math.isclose(blocks[0].transformer[0].attn.scale, 24**-0.5)
