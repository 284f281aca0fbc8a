"""ResNet stages (He et al., Deep Residual Learning for Image Recognition, 2016)."""

from torch import Tensor, nn

from graftdet.models.blocks import BLOCKS
from graftdet.models.blocks.argument_ranges import POSITIVE_INT
from graftdet.models.blocks.conv import Conv

_RELU = "nn.ReLU(inplace=True)"


class _ResNetBlock(nn.Module):
    """1x1, strided 3x3 and 1x1 convolution with a shortcut (figure 5): (B, c1, H, W) -> (B, e c2, H/s, W/s)."""

    def __init__(self, c1, c2, s, e):
        super().__init__()
        self.cv1 = Conv(c1, c2, 1, act=_RELU)
        self.cv2 = Conv(c2, c2, 3, s, act=_RELU)
        self.cv3 = Conv(c2, e * c2, 1, act=False)
        same = s == 1 and c1 == e * c2
        self.shortcut = nn.Identity() if same else Conv(c1, e * c2, 1, s, act=False)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.cv3(self.cv2(self.cv1(x))) + self.shortcut(x))


@BLOCKS.register(rule="plain", arguments={name: POSITIVE_INT for name in ("c1", "c2", "s", "n", "e")})
class ResNetLayer(nn.Module):
    """Stage of ResNet: n bottleneck blocks, of which the first one strides; or the stem of the network.

    (B, c1, H, W) -> (B, e c2, H/s, W/s); the stem (B, c1, H, W) -> (B, c2, H/4, W/4). A row gives all arguments, c1
    too; the width multiple does not apply.

    Args:
        c1: input channels.
        c2: width of the 3x3 convolutions; output channels of the stem.
        s: stride of the first block.
        is_first: the stem: a strided 7x7 convolution and a strided max pool.
        n: number of blocks.
        e: output channels of a block as a multiple of c2.

    Source:
        He et al., Deep Residual Learning, 2016, table 1, figure 5; stride in the 3x3 convolution as in torchvision.

    Example:
        [-1, 1, ResNetLayer, [64, 64, 1, False, 3]]
    """

    def __init__(self, c1, c2, s=1, is_first=False, n=1, e=4):
        super().__init__()
        if is_first:
            self.layer = nn.Sequential(Conv(c1, c2, 7, 2, 3, act=_RELU), nn.MaxPool2d(3, 2, 1))
        else:
            rest = (_ResNetBlock(e * c2, c2, 1, e) for _ in range(n - 1))
            self.layer = nn.Sequential(_ResNetBlock(c1, c2, s, e), *rest)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)
