"""Upsampling by kernels that follow from the map, in place of `nn.Upsample`."""

from functools import reduce

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from graftdet.models.blocks import BLOCKS
from graftdet.models.blocks.argument_ranges import POSITIVE_INT
from graftdet.models.blocks.constructor_checks import check_odd_kernels, check_same_width
from graftdet.models.blocks.conv import Conv


@BLOCKS.register(
    small_first=("scale", "k_up", "k_enc", "c_mid"),
    arguments={"c_mid": POSITIVE_INT, "scale": POSITIVE_INT},
)
class CARAFE(nn.Module):
    """Upsampling by kernels that are predicted for each position.

    (B, c1, H, W) -> (B, c1, scale H, scale W). Args that begin with a number below 8 are (scale, k_up, k_enc, c_mid),
    as in rows `[2]` and `[2, 5, 3, 64]`.

    Args:
        c1: input channels.
        c2: output channels, equal to c1; may be omitted.
        k_enc: odd kernel size of the convolution that predicts the kernels.
        k_up: odd size of the predicted kernels.
        c_mid: channels of the map from which they are predicted.
        scale: factor of height and width.

    Source:
        Wang et al., CARAFE: Content-Aware ReAssembly of FEatures, 2019, section 3.2. The first convolution has batch
        norm and activation, the second one batch norm, as in model files.

    Example:
        [-1, 1, CARAFE, [64]]
    """

    def __init__(self, c1, c2=None, k_enc=3, k_up=5, c_mid=64, scale=2):
        super().__init__()
        check_same_width(c1, c2, "scale: 2")
        check_odd_kernels(k_enc, k_up)
        self.scale, self.k_up = scale, k_up
        self.comp = Conv(c1, c_mid, 1)
        self.enc = Conv(c_mid, (scale * k_up) ** 2, k_enc, act=False)

    def forward(self, x: Tensor) -> Tensor:
        kernels = F.softmax(F.pixel_shuffle(self.enc(self.comp(x)), self.scale), 1)  # (B, k_up^2, scale H, scale W)
        x = F.interpolate(x, scale_factor=float(self.scale), mode="nearest")
        (h, w), side = x.shape[2:], self.scale * (self.k_up // 2)
        x = F.pad(x, (side, side, side, side))
        offsets = range(0, 2 * side + 1, self.scale)
        views = (x[:, :, i : i + h, j : j + w] for i in offsets for j in offsets)  # neighbors in rows, then columns
        return reduce(torch.add, (view * kernels[:, k : k + 1] for k, view in enumerate(views)))
