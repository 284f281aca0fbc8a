"""Inception v1 (Szegedy et al., Going Deeper with Convolutions, 2015), with batch norm."""

import torch
from torch import Tensor, nn

from graftdet.models.blocks import BLOCKS
from graftdet.models.blocks.argument_ranges import NON_NEGATIVE, POSITIVE_INT
from graftdet.models.blocks.backbone import STRIDES, Backbone, width_scaler
from graftdet.models.blocks.conv import FusePairs
from graftdet.utils.errors import UserError


@BLOCKS.register(arguments={"p": NON_NEGATIVE})
class BasicConv2d(FusePairs, nn.Module):
    """Convolution without bias, batch norm (eps 1e-3) and ReLU: the unit of the Inception networks.

    (B, c1, H, W) -> (B, c2, H', W').

    Args:
        c1: input channels.
        c2: output channels.
        k: kernel size, a number or a pair.
        s: stride.
        p: padding, a number or a pair.

    Source:
        Szegedy et al., Rethinking the Inception Architecture, 2016; names of torchvision.

    Example:
        [-1, 1, BasicConv2d, [64, 3, 2, 1]]
    """

    fuse_pairs = (("conv", "bn"),)

    def __init__(self, c1, c2, k=1, s=1, p=0):
        super().__init__()
        self.conv = nn.Conv2d(c1, c2, _pair(k), s, _pair(p), bias=False)
        self.bn = nn.BatchNorm2d(c2, eps=1e-3)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.bn(self.conv(x)))


def _pair(value):
    return tuple(value) if isinstance(value, (list, tuple)) else value


@BLOCKS.register(
    arguments={
        "n1x1": POSITIVE_INT,
        "n3x3_reduce": POSITIVE_INT,
        "n3x3": POSITIVE_INT,
        "n5x5_reduce": POSITIVE_INT,
        "n5x5": POSITIVE_INT,
        "pool_proj": POSITIVE_INT,
    }
)
class Inception(nn.Module):
    """Inception module: 1x1, 3x3, 5x5 and pooling paths side by side.

    (B, c1, H, W) -> (B, n1x1 + n3x3 + n5x5 + pool_proj, H, W). Batch norm and ReLU follow each convolution.

    Args:
        c1: input channels.
        n1x1: width of the 1x1 path.
        n3x3_reduce: width before the 3x3 convolution.
        n3x3: width of the 3x3 path.
        n5x5_reduce: width before the 5x5 convolution.
        n5x5: width of the 5x5 path.
        pool_proj: width of the pooling path.
        five: kernels of the 5x5 path: "3x3+3x3" (two convolutions), "5x5" (v1) or "3x3" (one, as in the published
            weights).

    Source:
        Szegedy et al., Going Deeper with Convolutions, 2015, section 4, figure 2b; 3x3+3x3 of Szegedy et al.,
        Rethinking the Inception Architecture, 2016, figure 5. Names of torchvision.

    Example:
        [-1, 1, Inception, [16, 24, 32, 4, 8, 8]]
    """

    KERNELS = {"3x3+3x3": (3, 3), "5x5": (5,), "3x3": (3,)}

    def __init__(self, c1, n1x1, n3x3_reduce, n3x3, n5x5_reduce, n5x5, pool_proj, five="3x3+3x3"):
        super().__init__()
        if five not in self.KERNELS:
            raise UserError(f"five: expected one of {list(self.KERNELS)}, got {five!r}")
        wide, c = [], n5x5_reduce
        for k in self.KERNELS[five]:
            wide.append(BasicConv2d(c, n5x5, k, p=k // 2))
            c = n5x5
        self.branch1 = BasicConv2d(c1, n1x1)
        self.branch2 = nn.Sequential(BasicConv2d(c1, n3x3_reduce), BasicConv2d(n3x3_reduce, n3x3, 3, p=1))
        self.branch3 = nn.Sequential(BasicConv2d(c1, n5x5_reduce), *wide)
        self.branch4 = nn.Sequential(nn.MaxPool2d(3, 1, 1), BasicConv2d(c1, pool_proj))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat((self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(x)), 1)


@BLOCKS.register("InceptionV1", "GoogLeNet")
class InceptionV1(Backbone):
    """The Inception v1 (GoogLeNet) backbone without classifiers.

    (B, c1, H, W) -> list of maps: 480, 832 and 1024 channels at strides 8, 16 and 32. Odd sizes are rounded down by the
    3x3 pools, up by the 2x2 one. 6,624,904 parameters with a classifier of 1000 classes.

    Args:
        c1: input channels.
        width: multiplies all widths inside; the width multiple of the model does not apply.
        out: strides of the maps that are returned.

    Source:
        Szegedy et al., Going Deeper with Convolutions, 2015, table 1. As in torchvision's weights: batch norm and 3x3
        kernels in place of 5x5.

    Example:
        [-1, 1, InceptionV1, [1.0]]
    """

    MODULES = (  # name, stride, widths
        ("3a", 8, (64, 96, 128, 16, 32, 32)),
        ("3b", 8, (128, 128, 192, 32, 96, 64)),
        ("4a", 16, (192, 96, 208, 16, 48, 64)),
        ("4b", 16, (160, 112, 224, 24, 64, 64)),
        ("4c", 16, (128, 128, 256, 24, 64, 64)),
        ("4d", 16, (112, 144, 288, 32, 64, 64)),
        ("4e", 16, (256, 160, 320, 32, 128, 128)),
        ("5a", 32, (256, 160, 320, 32, 128, 128)),
        ("5b", 32, (384, 192, 384, 48, 128, 128)),
    )
    POOLS = {"4a": ("maxpool3", 3), "5a": ("maxpool4", 2)}  # before a module: name and kernel

    def __init__(self, c1, width=1.0, out=STRIDES):
        super().__init__()

        w = width_scaler(width)
        layers = [
            ("conv1", BasicConv2d(c1, w(64), 7, 2, 3), 2),
            ("maxpool1", nn.MaxPool2d(3, 2, ceil_mode=True), 4),
            ("conv2", BasicConv2d(w(64), w(64)), 4),
            ("conv3", BasicConv2d(w(64), w(192), 3, p=1), 4),
            ("maxpool2", nn.MaxPool2d(3, 2, ceil_mode=True), 8),
        ]
        c = w(192)
        for name, stride, widths in self.MODULES:
            if name in self.POOLS:
                pool, k = self.POOLS[name]
                layers.append((pool, nn.MaxPool2d(k, 2, ceil_mode=True), stride))
            widths = [w(channels) for channels in widths]
            layers.append((f"inception{name}", Inception(c, *widths, five="3x3"), stride))
            c = widths[0] + widths[2] + widths[4] + widths[5]
        self.stack(layers, out)
