"""HorNet (Rao et al., HorNet: Efficient High-Order Spatial Interactions with Recursive Gated Convolutions, 2022)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from graftdet.models.blocks import BLOCKS
from graftdet.models.blocks.argument_ranges import POSITIVE_INT
from graftdet.models.blocks.constructor_checks import check_same_width


class _RecursiveGatedConv(nn.Module):
    """g^n convolution (section 3.1, equation 5): (B, c, H, W) -> the same.

    Features of rising width are multiplied one after the other with the result so far.
    """

    def __init__(self, c, order):
        super().__init__()
        self.widths = [c >> i for i in reversed(range(order))]
        gates = sum(self.widths)
        self.proj_in = nn.Conv2d(c, self.widths[0] + gates, 1)
        self.dwconv = nn.Conv2d(gates, gates, 7, padding=3, groups=gates)
        self.proj_out = nn.Conv2d(c, c, 1)
        self.pws = nn.ModuleList(
            nn.Conv2d(narrow, wide, 1) for narrow, wide in zip(self.widths, self.widths[1:], strict=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        parts = self.proj_in(x)
        x, gates = parts[:, : self.widths[0]], self.dwconv(parts[:, self.widths[0] :])
        first, *others = gates.split(self.widths, 1)
        x = x * first
        for pointwise, gate in zip(self.pws, others, strict=True):
            x = pointwise(x) * gate
        return self.proj_out(x)


@BLOCKS.register(arguments={"order": POSITIVE_INT})
class HorBlock(nn.Module):
    """Recursive gated convolution and a GELU MLP of four times the width, each with layer norm, scale and shortcut.

    (B, c1, H, W) -> the same; c1 must be a multiple of 2^(order - 1).

    Args:
        c1: input channels.
        c2: output channels, equal to c1; may be omitted.
        layer_scale_init_value: initial value of the layer scales `gamma1` and `gamma2`.
        order: number of multiplications.

    Source:
        Rao et al., HorNet, 2022, section 3.1, figure 2. The paper has drop path, and an order from 2 to 5 by stage.

    Example:
        [-1, 1, HorBlock, [64]]
    """

    def __init__(self, c1, c2=None, layer_scale_init_value=1e-6, order=5):
        super().__init__()
        check_same_width(c1, c2, "order: 5")
        if c1 % (1 << (order - 1)):
            raise ValueError(f"halves its channels {order - 1} times; {c1} is not a multiple of {1 << (order - 1)}")
        self.norm1, self.norm2 = nn.LayerNorm(c1, eps=1e-6), nn.LayerNorm(c1, eps=1e-6)
        self.gnconv = _RecursiveGatedConv(c1, order)
        self.pwconv1, self.pwconv2 = nn.Linear(c1, 4 * c1), nn.Linear(4 * c1, c1)
        self.gamma1 = nn.Parameter(torch.full((c1,), float(layer_scale_init_value)))
        self.gamma2 = nn.Parameter(torch.full((c1,), float(layer_scale_init_value)))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm1(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        x = x + self.gamma1[:, None, None] * self.gnconv(y)
        y = self.norm2(x.permute(0, 2, 3, 1))
        y = self.gamma2 * self.pwconv2(F.gelu(self.pwconv1(y)))
        return x + y.permute(0, 3, 1, 2)
