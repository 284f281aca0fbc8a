"""Xception (Chollet, Xception: Deep Learning with Depthwise Separable Convolutions, 2017)."""

from graftdet.models.blocks import BLOCKS
from graftdet.models.blocks.argument_ranges import NON_NEGATIVE, POSITIVE_INT
from graftdet.models.blocks.backbone import STRIDES, Backbone, scaled
from graftdet.models.blocks.conv import FusePairs, _fuse_pair, same_padding
from torch import nn


@BLOCKS.register("SeparableConv", "SeparableConv2d", "SeperableConv2d", arguments={"p": NON_NEGATIVE})
class SeparableConv(nn.Module):
    """k x k depth-wise, then 1x1 convolution, no norm and nothing between them (section 3, the usual order).

    (B, c1, H, W) -> (B, c2, H/s, W/s). Weights are named `conv1` and `pointwise`, as in published weights.
    """

    def __init__(self, c1, c2, k=3, s=1, p=None, d=1):
        super().__init__()
        self.conv1 = nn.Conv2d(c1, c1, k, s, same_padding(k, p, d), d, groups=c1, bias=False)
        self.pointwise = nn.Conv2d(c1, c2, 1, bias=False)

    def forward(self, x):
        return self.pointwise(self.conv1(x))


@BLOCKS.register(arguments={"reps": POSITIVE_INT})
class XceptionModule(FusePairs, nn.Module):
    """`reps` times ReLU, separable convolution and batch norm, a 3x3 max pool that strides, a shortcut (figure 5).

    (B, c1, H, W) -> (B, c2, H/s, W/s). The shortcut is a strided 1x1 convolution with batch norm where size or width
    change. `relu_first` leaves the first ReLU out when false; `grow_first` widens in the first separable convolution,
    else in the last. Weights are named as in published weights (`rep.1.conv1`, `skip`, `skipbn`).
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

    def forward(self, x):
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
        _fuse_pair(pair, "conv", "bn")
        parent._modules[conv].pointwise, parent._modules[bn] = pair.conv, pair.bn


@BLOCKS.register(arguments={"p": NON_NEGATIVE})
class Xception(Backbone):
    """The whole network without its classifier (figure 5): maps of 256, 728 and 2048 channels at strides 8, 16, 32.

    `width` multiplies all widths, `out` lists the strides, `p` is the padding of the two convolutions of the stem: 1
    halves every size (rounded up), 0 is the published form for pictures of 299x299. Weights are named as in published
    weights (`block1.rep.0.conv1`). 22,855,952 parameters with a classifier of 1000 classes.
    """

    def __init__(self, c1, width=1.0, out=STRIDES, p=1):
        super().__init__()

        w = scaled(width)
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
