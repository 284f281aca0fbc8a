"""Inception v2 and v3 (Szegedy et al., Rethinking the Inception Architecture for Computer Vision, 2016).

Weights are named as in torchvision. `p` is the padding of the convolutions and pools that stride: 1 halves every size
(rounded up), as the neck of a detector needs; 0 is the published form, made for images of 299x299. Neither changes a
weight. `width` multiplies the widths.
"""

import torch
from torch import Tensor, nn

from graftdet.models.blocks import BLOCKS
from graftdet.models.blocks.argument_ranges import NON_NEGATIVE, POSITIVE_INT
from graftdet.models.blocks.backbone import STRIDES, Backbone, width_scaler
from graftdet.models.blocks.inception import BasicConv2d


class _Paths(nn.Module):
    """Base of modules with concatenated paths over one input. `paths` names the layers of each path."""

    paths: tuple[tuple[str, ...], ...] = ()

    def forward(self, x: Tensor) -> Tensor:
        outputs = []
        for path in self.paths:
            y = x
            for name in path:
                y = getattr(self, name)(y)
            outputs.append(y)
        return torch.cat(outputs, 1)


@BLOCKS.register(arguments={"pool_features": POSITIVE_INT})
class InceptionA(_Paths):
    """Inception module with 1x1, 5x5, double 3x3 and average pool paths.

    (B, c1, H, W) -> (B, 224 + pool_features, H, W).

    Args:
        c1: input channels.
        pool_features: width of the pooling path.
        width: multiplies all widths inside; the width multiple of the model does not apply.

    Source:
        Szegedy et al., Rethinking the Inception Architecture, 2016, section 3.1, figure 5, with one plain 5x5 path.
        Names of torchvision.

    Example:
        [-1, 1, InceptionA, [32, 0.25]]
    """

    paths = (
        ("branch1x1",),
        ("branch5x5_1", "branch5x5_2"),
        ("branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3"),
        ("pool", "branch_pool"),
    )

    def __init__(self, c1, pool_features=32, width=1.0):
        super().__init__()
        w = width_scaler(width)
        self.branch1x1 = BasicConv2d(c1, w(64))
        self.branch5x5_1 = BasicConv2d(c1, w(48))
        self.branch5x5_2 = BasicConv2d(w(48), w(64), 5, p=2)
        self.branch3x3dbl_1 = BasicConv2d(c1, w(64))
        self.branch3x3dbl_2 = BasicConv2d(w(64), w(96), 3, p=1)
        self.branch3x3dbl_3 = BasicConv2d(w(96), w(96), 3, p=1)
        self.pool = nn.AvgPool2d(3, 1, 1)
        self.branch_pool = BasicConv2d(c1, w(pool_features))


@BLOCKS.register(arguments={"p": NON_NEGATIVE})
class InceptionB(_Paths):
    """Reduction with strided 3x3, double 3x3 and max pool paths.

    (B, c1, H, W) -> (B, 480 + c1, H/2, W/2).

    Args:
        c1: input channels.
        width: multiplies all widths inside; the width multiple of the model does not apply.
        p: padding of the strided layers: 1 halves every size, rounded up; 0 is the published form.

    Source:
        Szegedy et al., Rethinking the Inception Architecture, 2016, section 5, figure 10. Names of torchvision.

    Example:
        [-1, 1, InceptionB, [0.25]]
    """

    paths = (("branch3x3",), ("branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3"), ("pool",))

    def __init__(self, c1, width=1.0, p=1):
        super().__init__()
        w = width_scaler(width)
        self.branch3x3 = BasicConv2d(c1, w(384), 3, 2, p)
        self.branch3x3dbl_1 = BasicConv2d(c1, w(64))
        self.branch3x3dbl_2 = BasicConv2d(w(64), w(96), 3, p=1)
        self.branch3x3dbl_3 = BasicConv2d(w(96), w(96), 3, 2, p)
        self.pool = nn.MaxPool2d(3, 2, p)


@BLOCKS.register(arguments={"channels_7x7": POSITIVE_INT})
class InceptionC(_Paths):
    """Inception module with 7x7 convolutions factorized into 1x7 and 7x1.

    (B, c1, H, W) -> (B, 768, H, W).

    Args:
        c1: input channels.
        channels_7x7: width inside the 7x7 paths.
        width: multiplies all widths inside; the width multiple of the model does not apply.

    Source:
        Szegedy et al., Rethinking the Inception Architecture, 2016, section 3.2, figure 6. Names of torchvision.

    Example:
        [-1, 1, InceptionC, [128, 0.25]]
    """

    paths = (
        ("branch1x1",),
        ("branch7x7_1", "branch7x7_2", "branch7x7_3"),
        ("branch7x7dbl_1", "branch7x7dbl_2", "branch7x7dbl_3", "branch7x7dbl_4", "branch7x7dbl_5"),
        ("pool", "branch_pool"),
    )

    def __init__(self, c1, channels_7x7=128, width=1.0):
        super().__init__()
        w = width_scaler(width)
        c, c2 = w(channels_7x7), w(192)
        row, column = {"k": (1, 7), "p": (0, 3)}, {"k": (7, 1), "p": (3, 0)}
        self.branch1x1 = BasicConv2d(c1, c2)
        self.branch7x7_1 = BasicConv2d(c1, c)
        self.branch7x7_2 = BasicConv2d(c, c, **row)
        self.branch7x7_3 = BasicConv2d(c, c2, **column)
        self.branch7x7dbl_1 = BasicConv2d(c1, c)
        self.branch7x7dbl_2 = BasicConv2d(c, c, **column)
        self.branch7x7dbl_3 = BasicConv2d(c, c, **row)
        self.branch7x7dbl_4 = BasicConv2d(c, c, **column)
        self.branch7x7dbl_5 = BasicConv2d(c, c2, **row)
        self.pool = nn.AvgPool2d(3, 1, 1)
        self.branch_pool = BasicConv2d(c1, c2)


@BLOCKS.register(arguments={"p": NON_NEGATIVE})
class InceptionD(_Paths):
    """Reduction with 3x3, factorized 7x7 and max pool paths.

    (B, c1, H, W) -> (B, 512 + c1, H/2, W/2).

    Args:
        c1: input channels.
        width: multiplies all widths inside; the width multiple of the model does not apply.
        p: padding of the strided layers: 1 halves every size, rounded up; 0 is the published form.

    Source:
        Szegedy et al., Rethinking the Inception Architecture, 2016, section 5. Names of torchvision.

    Example:
        [-1, 1, InceptionD, [0.25]]
    """

    paths = (
        ("branch3x3_1", "branch3x3_2"),
        ("branch7x7x3_1", "branch7x7x3_2", "branch7x7x3_3", "branch7x7x3_4"),
        ("pool",),
    )

    def __init__(self, c1, width=1.0, p=1):
        super().__init__()
        w = width_scaler(width)
        c = w(192)
        self.branch3x3_1 = BasicConv2d(c1, c)
        self.branch3x3_2 = BasicConv2d(c, w(320), 3, 2, p)
        self.branch7x7x3_1 = BasicConv2d(c1, c)
        self.branch7x7x3_2 = BasicConv2d(c, c, (1, 7), p=(0, 3))
        self.branch7x7x3_3 = BasicConv2d(c, c, (7, 1), p=(3, 0))
        self.branch7x7x3_4 = BasicConv2d(c, c, 3, 2, p)
        self.pool = nn.MaxPool2d(3, 2, p)


@BLOCKS.register()
class InceptionE(nn.Module):
    """Wide Inception module whose last 3x3 convolutions are split into 1x3 and 3x1 side by side.

    (B, c1, H, W) -> (B, 2048, H, W).

    Args:
        c1: input channels.
        width: multiplies all widths inside; the width multiple of the model does not apply.

    Source:
        Szegedy et al., Rethinking the Inception Architecture, 2016, section 3.2, figure 7. Names of torchvision.

    Example:
        [-1, 1, InceptionE, [0.25]]
    """

    def __init__(self, c1, width=1.0):
        super().__init__()
        w = width_scaler(width)
        c = w(384)
        self.branch1x1 = BasicConv2d(c1, w(320))
        self.branch3x3_1 = BasicConv2d(c1, c)
        self.branch3x3_2a = BasicConv2d(c, c, (1, 3), p=(0, 1))
        self.branch3x3_2b = BasicConv2d(c, c, (3, 1), p=(1, 0))
        self.branch3x3dbl_1 = BasicConv2d(c1, w(448))
        self.branch3x3dbl_2 = BasicConv2d(w(448), c, 3, p=1)
        self.branch3x3dbl_3a = BasicConv2d(c, c, (1, 3), p=(0, 1))
        self.branch3x3dbl_3b = BasicConv2d(c, c, (3, 1), p=(1, 0))
        self.pool = nn.AvgPool2d(3, 1, 1)
        self.branch_pool = BasicConv2d(c1, w(192))

    def forward(self, x: Tensor) -> Tensor:
        once = self.branch3x3_1(x)
        twice = self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        parts = (
            self.branch1x1(x),
            self.branch3x3_2a(once),
            self.branch3x3_2b(once),
            self.branch3x3dbl_3a(twice),
            self.branch3x3dbl_3b(twice),
            self.branch_pool(self.pool(x)),
        )
        return torch.cat(parts, 1)


@BLOCKS.register(arguments={"p": NON_NEGATIVE})
class InceptionV3(Backbone):
    """The Inception v3 backbone without classifiers.

    (B, c1, H, W) -> list of maps: 288, 768 and 2048 channels at strides 8, 16 and 32. 23,834,568 parameters with a
    classifier of 1000 classes.

    Args:
        c1: input channels.
        width: multiplies all widths inside; the width multiple of the model does not apply.
        out: strides of the maps that are returned.
        p: padding of the strided layers and of the stem: 1 halves every size, rounded up; 0 is the published form for
            299x299.

    Source:
        Szegedy et al., Rethinking the Inception Architecture, 2016, section 6. Names of torchvision
        (`Mixed_5b.branch1x1.conv`).

    Example:
        [-1, 1, InceptionV3, [0.5]]
    """

    def __init__(self, c1, width=1.0, out=STRIDES, p=1):
        super().__init__()
        w = width_scaler(width)
        layers = [
            ("Conv2d_1a_3x3", BasicConv2d(c1, w(32), 3, 2, p), 2),
            ("Conv2d_2a_3x3", BasicConv2d(w(32), w(32), 3, 1, p), 2),
            ("Conv2d_2b_3x3", BasicConv2d(w(32), w(64), 3, 1, 1), 2),
            ("maxpool1", nn.MaxPool2d(3, 2, p), 4),
            ("Conv2d_3b_1x1", BasicConv2d(w(64), w(80)), 4),
            ("Conv2d_4a_3x3", BasicConv2d(w(80), w(192), 3, 1, p), 4),
            ("maxpool2", nn.MaxPool2d(3, 2, p), 8),
        ]
        c = w(192)
        for name, pool in (("5b", 32), ("5c", 64), ("5d", 64)):
            layers.append((f"Mixed_{name}", InceptionA(c, pool, width), 8))
            c = 2 * w(64) + w(96) + w(pool)
        layers.append(("Mixed_6a", InceptionB(c, width, p), 16))
        c += w(384) + w(96)
        for name, inner in (("6b", 128), ("6c", 160), ("6d", 160), ("6e", 192)):
            layers.append((f"Mixed_{name}", InceptionC(c, inner, width), 16))
            c = 4 * w(192)
        layers.append(("Mixed_7a", InceptionD(c, width, p), 32))
        c += w(320) + w(192)
        for name in ("7b", "7c"):
            layers.append((f"Mixed_{name}", InceptionE(c, width), 32))
            c = w(320) + 4 * w(384) + w(192)
        self.stack(layers, out)
