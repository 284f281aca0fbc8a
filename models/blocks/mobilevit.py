"""MobileViT (Mehta and Rastegari, MobileViT: Light-weight, Mobile-friendly Vision Transformer, 2021).

Weights are named as in timm.
"""

import torch
from torch import Tensor, nn

from graftdet.models.blocks import BLOCKS
from graftdet.models.blocks.argument_ranges import POSITIVE, POSITIVE_INT
from graftdet.models.blocks.backbone import STRIDES, Backbone, make_divisible, width_scaler
from graftdet.models.blocks.conv import FusePairs
from graftdet.utils.errors import UserError


class ConvNormAct(FusePairs, nn.Module):
    """Convolution without bias, batch norm and, if `act`, SiLU: (B, c1, H, W) -> (B, c2, H/s, W/s)."""

    fuse_pairs = (("conv", "bn"),)

    def __init__(self, c1, c2, k=1, s=1, g=1, act=True):
        super().__init__()
        self.conv = nn.Conv2d(c1, c2, k, s, k // 2, groups=g, bias=False)
        self.bn = nn.BatchNorm2d(c2)
        self.act = nn.SiLU(inplace=True) if act else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.bn(self.conv(x)))


class _Inverted(nn.Module):
    """MobileNet v2's inverted residual with SiLU (appendix A): (B, c1, H, W) -> (B, c2, H/s, W/s)."""

    def __init__(self, c1, c2, s, t):
        super().__init__()
        hidden = make_divisible(c1 * t)
        self.conv1_1x1 = ConvNormAct(c1, hidden)
        self.conv2_kxk = ConvNormAct(hidden, hidden, 3, s, hidden)
        self.conv3_1x1 = ConvNormAct(hidden, c2, act=False)
        self.add = s == 1 and c1 == c2

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv3_1x1(self.conv2_kxk(self.conv1_1x1(x)))
        return x + y if self.add else y


class PatchAttention(nn.Module):
    """Self-attention of `heads` heads (Vaswani et al., 2017): (B, N, c) -> (B, N, c)."""

    def __init__(self, c, heads):
        super().__init__()
        if c % heads:
            raise ValueError(f"{heads} attention heads need a width divisible by {heads}, got {c}")
        self.heads = heads
        self.scale = (c // heads) ** -0.5
        self.qkv = nn.Linear(c, 3 * c)
        self.proj = nn.Linear(c, c)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (
            self.qkv(x).unflatten(2, (3, self.heads, -1)).transpose(1, 3).unbind(2)
        )  # (B, heads, N, c / heads) each
        weights = (q @ k.transpose(2, 3) * self.scale).softmax(3)
        return self.proj((weights @ v).transpose(1, 2).flatten(2))


class _Mlp(nn.Module):
    """Two linear layers with SiLU between: (B, N, c) -> (B, N, c)."""

    def __init__(self, c, hidden):
        super().__init__()
        self.fc1 = nn.Linear(c, hidden)
        self.act = nn.SiLU(inplace=True)
        self.fc2 = nn.Linear(hidden, c)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.act(self.fc1(x)))


class _Transformer(nn.Module):
    """Attention and linear layers, a layer norm before and a shortcut around each: (B, N, c) -> (B, N, c)."""

    def __init__(self, c, heads, ratio):
        super().__init__()
        self.norm1 = nn.LayerNorm(c)
        self.attn = PatchAttention(c, heads)
        self.norm2 = nn.LayerNorm(c)
        self.mlp = _Mlp(c, round(c * ratio))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


@BLOCKS.register(arguments={"dim": POSITIVE_INT, "depth": POSITIVE_INT, "heads": POSITIVE_INT, "ratio": POSITIVE})
class MobileViTBlock(nn.Module):
    """Transformer over the positions of a map, with a 3x3 convolution before and after it.

    (B, c1, H, W) -> (B, c2, H, W). The map is cut into 2x2 patches; a position attends to the same position of all
    patches. For odd sizes the last row or column is repeated (the published code resizes). Memory grows with the square
    of H x W.

    Args:
        c1: input channels.
        c2: output channels.
        dim: width of the transformer; the width multiple does not apply.
        depth: number of transformer layers.
        heads: number of attention heads; dim must be a multiple of it.
        ratio: width inside the MLP as a multiple of dim.

    Source:
        Mehta and Rastegari, MobileViT, 2021, section 3.1, figure 1b. Names of timm.

    Example:
        [-1, 1, MobileViTBlock, [64, 96, 2]]
    """

    patch = 2

    def __init__(self, c1, c2, dim=96, depth=2, heads=4, ratio=2.0):
        super().__init__()
        self.conv_kxk = ConvNormAct(c1, c1, 3)
        self.conv_1x1 = nn.Conv2d(c1, dim, 1, bias=False)
        self.transformer = nn.Sequential(*(_Transformer(dim, heads, ratio) for _ in range(depth)))
        self.norm = nn.LayerNorm(dim)
        self.conv_proj = ConvNormAct(dim, c2)
        self.conv_fusion = ConvNormAct(c1 + c2, c2, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv_1x1(self.conv_kxk(x))
        height, width = y.shape[2:]
        y = self._padded(y)
        b, c, h, w = y.shape
        p, rows, columns = self.patch, h // self.patch, w // self.patch
        y = y.reshape(b, c, rows, p, columns, p).permute(0, 3, 5, 2, 4, 1)  # (B, p, p, rows, columns, c)
        y = self.norm(self.transformer(y.reshape(b * p * p, rows * columns, c)))
        y = y.reshape(b, p, p, rows, columns, c).permute(0, 5, 3, 1, 4, 2).reshape(b, c, h, w)
        y = self.conv_proj(y[:, :, :height, :width])
        return self.conv_fusion(torch.cat((x, y), 1))

    def _padded(self, y):
        """Repeat the last row and column where the size is odd, in a way that exports for all sizes."""
        y = torch.cat((y, y[:, :, y.shape[2] - y.shape[2] % self.patch :]), 2)
        return torch.cat((y, y[:, :, :, y.shape[3] - y.shape[3] % self.patch :]), 3)


@BLOCKS.register()
class MobileViT(Backbone):
    """The MobileViT backbone (xxs, xs or s) without its classifier.

    (B, c1, H, W) -> list of maps: 64, 80 and 96 channels (xs) at strides 8, 16 and 32. With `last` and a classifier of
    1000 classes 2,317,848 parameters (xs).

    Args:
        c1: input channels.
        variant: "xxs", "xs" or "s".
        width: multiplies the widths outside the transformers.
        out: strides of the maps that are returned.
        last: the map at stride 32 is that of the last 1x1 convolution, of 384 channels (xs).

    Source:
        Mehta and Rastegari, MobileViT, 2021, table 4. Names of timm.

    Example:
        [-1, 1, MobileViT, [xs]]
    """

    VARIANTS = {  # widths of stem, stages and last convolution; widths of the transformers; expansion
        "xxs": ((16, 16, 24, 48, 64, 80, 320), (64, 80, 96), 2),
        "xs": ((16, 32, 48, 64, 80, 96, 384), (96, 120, 144), 4),
        "s": ((16, 32, 64, 96, 128, 160, 640), (144, 192, 240), 4),
    }
    DEPTHS = (2, 4, 3)

    def __init__(self, c1, variant="xs", width=1.0, out=STRIDES, last=False):
        super().__init__()
        if variant not in self.VARIANTS:
            raise UserError(f"variant: expected one of {', '.join(self.VARIANTS)}, got {variant!r}")
        widths, dims, t = self.VARIANTS[variant]
        stem, *stages, final = map(width_scaler(width), widths)
        layers = [
            ("stem", ConvNormAct(c1, stem, 3, 2), 2),
            ("stages.0.0", _Inverted(stem, stages[0], 1, t), 2),
            ("stages.1.0", _Inverted(stages[0], stages[1], 2, t), 4),
            ("stages.1.1", _Inverted(stages[1], stages[1], 1, t), 4),
            ("stages.1.2", _Inverted(stages[1], stages[1], 1, t), 4),
        ]
        for i, (dim, depth, stride) in enumerate(zip(dims, self.DEPTHS, STRIDES, strict=True), start=2):
            layers.append((f"stages.{i}.0", _Inverted(stages[i - 1], stages[i], 2, t), stride))
            layers.append((f"stages.{i}.1", MobileViTBlock(stages[i], stages[i], dim, depth), stride))
        if last:
            layers.append(("final_conv", ConvNormAct(stages[4], final), 32))
        self.stack(layers, out)
