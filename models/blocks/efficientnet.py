"""Blocks of EfficientNet v2 (Tan and Le, EfficientNetV2: Smaller Models and Faster Training, 2021, figure 2)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from graftdet.models.blocks import BLOCKS
from graftdet.models.blocks.argument_ranges import POSITIVE
from graftdet.models.blocks.backbone import conv_bn


class _SqueezeExcite(nn.Module):
    """Squeeze and excitation with `hidden` channels inside, SiLU, sigmoid: (B, c, H, W) -> the same."""

    def __init__(self, c, hidden):
        super().__init__()
        self.fc1 = nn.Conv2d(c, hidden, 1)
        self.fc2 = nn.Conv2d(hidden, c, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.fc2(F.silu(self.fc1(x.mean((2, 3), keepdim=True)))))


class _Inverted(nn.Module):
    """Base of inverted residuals: the layers of `block`, and the input added where the shape stays."""

    def __init__(self, c1, c2, s, expansion, se_ratio):
        super().__init__()
        if s not in (1, 2):
            raise ValueError(f"stride must be 1 or 2, got {s}")
        if expansion < 1 or not 0 <= se_ratio <= 1:
            raise ValueError(f"expansion must be at least 1 and se_ratio 0 to 1, got {expansion} and {se_ratio}")
        self.add = s == 1 and c1 == c2

    def squeeze_excite(self, c1: int, hidden: int, se_ratio: float) -> list[nn.Module]:
        """Squeeze and excitation of the expanded width; the width inside is a fraction of c1."""
        return [_SqueezeExcite(hidden, max(int(c1 * se_ratio), 1))] if se_ratio else []

    def forward(self, x: Tensor) -> Tensor:
        return x + self.block(x) if self.add else self.block(x)


@BLOCKS.register(arguments={"expansion": POSITIVE})
class FusedMBConv(_Inverted):
    """Fused inverted residual: k x k convolution to the expanded width, SE, 1x1 projection.

    (B, c1, H, W) -> (B, c2, H/s, W/s). Without expansion one k x k convolution to c2. SiLU, none behind a projection.
    The input is added where the shape stays.

    Args:
        c1: input channels.
        c2: output channels.
        k: kernel size.
        s: stride, 1 or 2.
        expansion: expanded width as a multiple of c1.
        se_ratio: width inside squeeze and excitation as a fraction of c1; 0 for none.

    Source:
        Tan and Le, EfficientNetV2, 2021, figure 2. The paper also has drop path.

    Example:
        [-1, 1, FusedMBConv, [64, 3, 2, 4]]
    """

    def __init__(self, c1, c2, k=3, s=1, expansion=1, se_ratio=0):
        super().__init__(c1, c2, s, expansion, se_ratio)
        hidden = int(c1 * expansion)
        if hidden == c1 and se_ratio:
            raise ValueError(f"se_ratio is for an expansion above 1, got {se_ratio} and {expansion}; write 0")
        layers = [conv_bn(c1, c2 if hidden == c1 else hidden, k, s, act=nn.SiLU(inplace=True))]
        if hidden != c1:
            layers += [*self.squeeze_excite(c1, hidden, se_ratio), conv_bn(hidden, c2)]
        self.block = nn.Sequential(*layers)


@BLOCKS.register(arguments={"expansion": POSITIVE})
class MBConv(_Inverted):
    """Inverted residual: 1x1 expansion, k x k depthwise convolution, SE, 1x1 projection.

    (B, c1, H, W) -> (B, c2, H/s, W/s). No 1x1 expansion where `expansion` is 1. SiLU, none behind the projection. The
    input is added where the shape stays.

    Args:
        c1: input channels.
        c2: output channels.
        k: kernel size.
        s: stride, 1 or 2.
        expansion: expanded width as a multiple of c1.
        se_ratio: width inside squeeze and excitation as a fraction of c1; 0 for none.

    Source:
        Tan and Le, EfficientNetV2, 2021, figure 2. The paper also has drop path.

    Example:
        [-1, 1, MBConv, [64, 3, 2, 4, 0.25]]
    """

    def __init__(self, c1, c2, k=3, s=1, expansion=4, se_ratio=0.25):
        super().__init__(c1, c2, s, expansion, se_ratio)
        hidden = int(c1 * expansion)
        layers = [] if hidden == c1 else [conv_bn(c1, hidden, act=nn.SiLU(inplace=True))]
        layers.append(conv_bn(hidden, hidden, k, s, g=hidden, act=nn.SiLU(inplace=True)))
        self.block = nn.Sequential(*layers, *self.squeeze_excite(c1, hidden, se_ratio), conv_bn(hidden, c2))
