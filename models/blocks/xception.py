"""Xception (Chollet, Xception: Deep Learning with Depthwise Separable Convolutions, 2017)."""

from torch import Tensor, nn

from graftdet.models.blocks import BLOCKS
from graftdet.models.blocks.argument_ranges import NON_NEGATIVE, POSITIVE_INT
from graftdet.models.blocks.backbone import STRIDES, Backbone, width_scaler
from graftdet.models.blocks.conv import FusePairs, fuse_pair, same_padding


@BLOCKS.register("SeparableConv", "SeparableConv2d", "SeperableConv2d", arguments={"p": NON_NEGATIVE})
class SeparableConv(nn.Module):
    """Depthwise k x k and 1x1 convolution without batch norm and activation.

    (B, c1, H, W) -> (B, c2, H/s, W/s). Weights are named `conv1` and `pointwise`, as published.

    Args:
        c1: input channels.
        c2: output channels.
        k: kernel size of the depthwise convolution.
        s: stride.
        p: padding; None keeps the size at stride 1.
        d: dilation.

    Source:
        Chollet, Xception, 2017, section 3, in the usual order of both convolutions.

    Example:
        [-1, 1, SeparableConv, [64, 3]]
    """

    def __init__(self, c1, c2, k=3, s=1, p=None, d=1):
        super().__init__()
        self.conv1 = nn.Conv2d(c1, c1, k, s, same_padding(k, p, d), d, groups=c1, bias=False)
        self.pointwise = nn.Conv2d(c1, c2, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.pointwise(self.conv1(x))


@BLOCKS.register(arguments={"reps": POSITIVE_INT})
class XceptionModule(FusePairs, nn.Module):
    """Repeated ReLU, separable convolution and batch norm, a strided max pool, and a shortcut.

    (B, c1, H, W) -> (B, c2, H/s, W/s). The shortcut is a 1x1 convolution with batch norm where the shape changes.
    Weights are named as published (`rep.1.conv1`, `skip`, `skipbn`).

    Args:
        c1: input channels.
        c2: output channels.
        reps: number of separable convolutions.
        s: stride.
        relu_first: start with a ReLU.
        grow_first: change the width in the first separable convolution; False: in the last.

    Source:
        Chollet, Xception, 2017, figure 5.

    Example:
        [-1, 1, XceptionModule, [64, 2, 2]]
    """

    fuse_pairs = (("skip", "skipbn"),)

    def __init__(self, c1, c2, reps=2, s=1, relu_first=True, grow_first=True):
        super().__init__()
        if reps < 1:
            raise ValueError(f"reps must be at least 1, got {reps}")
        self.skip = nn.Conv2d(c1, c2, 1, s, bias=False) if c1 != c2 or s != 1 else nn.Identity()
        self.skipbn = nn.BatchNorm2d(c2) if c1 != c2 or s != 1 else nn.Identity()
        grows = 0 if grow_first else reps - 1
        layers = []
        for i in range(reps):
            wide_in, wide_out = (c2 if i > grows else c1), (c2 if i >= grows else c1)
            # the first ReLU must not change the module's input, which the shortcut reads too
            layers += [nn.ReLU(inplace=i > 0), SeparableConv(wide_in, wide_out), nn.BatchNorm2d(wide_out)]
        if s != 1:
            layers.append(nn.MaxPool2d(3, s, 1))
        self.rep = nn.Sequential(*(layers if relu_first else layers[1:]))

    def forward(self, x: Tensor) -> Tensor:
        return self.rep(x) + self.skipbn(self.skip(x))

    def fuse(self) -> None:
        super().fuse()
        for i in range(len(self.rep) - 1):
            if isinstance(self.rep[i], SeparableConv):
                _fuse_separable(self.rep, str(i), str(i + 1))


def _fuse_separable(parent: nn.Module, conv: str, bn: str) -> None:
    """Merge the batch norm `bn` of `parent` into the 1x1 convolution of its separable convolution `conv`."""
    if isinstance(parent._modules[bn], nn.BatchNorm2d):
        pair = nn.Module()
        pair.conv, pair.bn = parent._modules[conv].pointwise, parent._modules[bn]
        fuse_pair(pair, "conv", "bn")
        parent._modules[conv].pointwise, parent._modules[bn] = pair.conv, pair.bn


@BLOCKS.register(arguments={"p": NON_NEGATIVE})
class Xception(Backbone):
    """The Xception backbone without its classifier.

    (B, c1, H, W) -> list of maps: 256, 728 and 2048 channels at strides 8, 16 and 32. 22,855,952 parameters with a
    classifier of 1000 classes.

    Args:
        c1: input channels.
        width: multiplies all widths inside; the width multiple of the model does not apply.
        out: strides of the maps that are returned.
        p: padding of the two convolutions of the stem: 1 halves every size, rounded up; 0 is the published form for
            299x299.

    Source:
        Chollet, Xception, 2017, figure 5. Weights are named as published (`block1.rep.0.conv1`).

    Example:
        [-1, 1, Xception, [0.5]]
    """

    def __init__(self, c1, width=1.0, out=STRIDES, p=1):
        super().__init__()

        w = width_scaler(width)
        layers = [
            ("conv1", nn.Conv2d(c1, w(32), 3, 2, p, bias=False), 2),
            ("bn1", nn.BatchNorm2d(w(32)), 2),
            ("act1", nn.ReLU(inplace=True), 2),
            ("conv2", nn.Conv2d(w(32), w(64), 3, 1, p, bias=False), 2),
            ("bn2", nn.BatchNorm2d(w(64)), 2),
            ("act2", nn.ReLU(inplace=True), 2),
            ("block1", XceptionModule(w(64), w(128), 2, 2, relu_first=False), 4),
            ("block2", XceptionModule(w(128), w(256), 2, 2), 8),
            ("block3", XceptionModule(w(256), w(728), 2, 2), 16),
            *((f"block{i}", XceptionModule(w(728), w(728), 3), 16) for i in range(4, 12)),
            ("block12", XceptionModule(w(728), w(1024), 2, 2, grow_first=False), 32),
            ("conv3", SeparableConv(w(1024), w(1536)), 32),
            ("bn3", nn.BatchNorm2d(w(1536)), 32),
            ("act3", nn.ReLU(inplace=True), 32),
            ("conv4", SeparableConv(w(1536), w(2048)), 32),
            ("bn4", nn.BatchNorm2d(w(2048)), 32),
            ("act4", nn.ReLU(inplace=True), 32),
        ]
        self.stack(layers, out)

    def fuse(self) -> None:
        super().fuse()
        for conv, bn in (("conv3", "bn3"), ("conv4", "bn4")):
            if conv in self._modules:
                _fuse_separable(self, conv, bn)
