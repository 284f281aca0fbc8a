"""FasterNet (Chen et al., Run, Don't Walk: Chasing Higher FLOPS for Faster Neural Networks, 2023)."""

import torch
from torch import Tensor, nn

from graftdet.models.blocks import BLOCKS
from graftdet.models.blocks.argument_ranges import POSITIVE, POSITIVE_INT
from graftdet.models.blocks.backbone import conv_bn
from graftdet.models.blocks.constructor_checks import OMIT_WIDTH_HINT
from graftdet.models.blocks.csp import C3


@BLOCKS.register(arguments={"n_div": POSITIVE_INT})
class PConv(nn.Module):
    """Partial convolution: 3x3 on the first channels, the others pass unchanged.

    (B, dim, H, W) -> the same.

    Args:
        dim: channels.
        n_div: 1 / n_div of the channels are convolved.

    Source:
        Chen et al., Run, Don't Walk: Chasing Higher FLOPS (FasterNet), 2023, section 3.3.

    Example:
        [-1, 1, PConv, [4]]
    """

    def __init__(self, dim, n_div=4):
        super().__init__()
        if not 1 <= n_div <= dim:
            raise ValueError(f"n_div must be 1 to {dim}, got {n_div}")
        self.num_convolved = dim // n_div
        if self.num_convolved < 4 < n_div:
            raise ValueError(
                f"n_div {n_div} leaves {self.num_convolved} of {dim} channels to the convolution{OMIT_WIDTH_HINT}"
            )
        self.partial_conv3 = nn.Conv2d(self.num_convolved, self.num_convolved, 3, 1, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat((self.partial_conv3(x[:, : self.num_convolved]), x[:, self.num_convolved :]), 1)


@BLOCKS.register(arguments={"n_div": POSITIVE_INT, "mlp_ratio": POSITIVE})
class FasterNetBlock(nn.Module):
    """Partial convolution and a 1x1 MLP with batch norm and ReLU, with a shortcut.

    (B, dim, H, W) -> the same.

    Args:
        dim: channels.
        n_div: 1 / n_div of the channels are convolved by PConv.
        mlp_ratio: width inside the MLP as a multiple of dim.

    Source:
        Chen et al., Run, Don't Walk: Chasing Higher FLOPS (FasterNet), 2023, figure 4. The paper also has drop path,
        and GELU in its smallest network.

    Example:
        [-1, 1, FasterNetBlock, []]
    """

    def __init__(self, dim, n_div=4, mlp_ratio=2):
        super().__init__()
        hidden = int(dim * mlp_ratio)
        self.spatial_mixing = PConv(dim, n_div)
        self.mlp = nn.Sequential(
            *conv_bn(dim, hidden, act=nn.ReLU(inplace=True)), nn.Conv2d(hidden, dim, 1, bias=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.mlp(self.spatial_mixing(x))


@BLOCKS.register("C3_Faster", "C3Faster", arguments={"e": POSITIVE})
class C3_Faster(C3):
    """C3 block of n FasterNet blocks.

    (B, c1, H, W) -> (B, c2, H, W).

    Args:
        c1: input channels.
        c2: output channels.
        n: number of FasterNet blocks (the row's number).
        shortcut: accepted as in other CSP blocks, without effect: a FasterNet block always has a shortcut.
        g: accepted as in other CSP blocks, without effect.
        e: inner width as a fraction of c2, at least 16 channels.

    Source:
        Chen et al., Run, Don't Walk: Chasing Higher FLOPS (FasterNet), 2023, figure 4; C3 of YOLOv5.

    Example:
        [-1, 3, C3_Faster, [64]]
    """

    def inner(self, hidden: int, n: int, shortcut: bool, g: int) -> nn.Module:
        return nn.Sequential(*(FasterNetBlock(hidden) for _ in range(n)))
