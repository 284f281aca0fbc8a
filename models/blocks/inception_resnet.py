"""Inception-ResNet v2 (Szegedy et al., Inception-v4, Inception-ResNet and the Impact of Residual Connections, 2017)."""

import torch
from torch import Tensor, nn

from graftdet.models.blocks import BLOCKS
from graftdet.models.blocks.argument_ranges import NON_NEGATIVE
from graftdet.models.blocks.backbone import check_width_factor
from graftdet.models.blocks.inception import BasicConv2d


@BLOCKS.register("InceptionResNetReduction", "Mixed_7a", arguments={"p": NON_NEGATIVE})
class InceptionResNetReduction(nn.Module):
    """Reduction-B of Inception-ResNet v2: three strided convolution paths and a max pool, concatenated.

    (B, c1, H, W) -> (B, 992 + c1, H/2, W/2): 1088 channels become 2080.

    Args:
        c1: input channels.
        width: multiplies all widths inside; the width multiple of the model does not apply.
        p: padding of the strided layers: 1 halves every size, rounded up; 0 is the published form (17x17 to 8x8).

    Source:
        Szegedy et al., Inception-v4, Inception-ResNet, 2017, section 3.2, figure 18. Names of timm, which calls it
        Mixed_7a.

    Example:
        [-1, 1, InceptionResNetReduction, [0.25]]
    """

    def __init__(self, c1=1088, width=1.0, p=1):
        super().__init__()
        check_width_factor(width)

        def w(channels):
            return max(round(channels * width), 1)

        self.branch0 = nn.Sequential(BasicConv2d(c1, w(256)), BasicConv2d(w(256), w(384), 3, 2, p))
        self.branch1 = nn.Sequential(BasicConv2d(c1, w(256)), BasicConv2d(w(256), w(288), 3, 2, p))
        self.branch2 = nn.Sequential(
            BasicConv2d(c1, w(256)), BasicConv2d(w(256), w(288), 3, p=1), BasicConv2d(w(288), w(320), 3, 2, p)
        )
        self.branch3 = nn.MaxPool2d(3, 2, p)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat((self.branch0(x), self.branch1(x), self.branch2(x), self.branch3(x)), 1)
