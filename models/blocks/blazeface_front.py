"""The backbone of the published BlazeFace of the front camera, which differs from the tables of the paper."""

from torch import Tensor, nn
from torch.nn import functional

from graftdet.models.blocks import BLOCKS
from graftdet.models.blocks.backbone import Backbone


class _Stem(nn.Conv2d):
    """A 5x5 convolution of stride 2 whose padding is larger on the right and below, as in TensorFlow."""

    def __init__(self, c1, c2):
        super().__init__(c1, c2, 5, 2)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(functional.pad(x, (1, 2, 1, 2)))


class _FrontBlock(nn.Module):
    """3x3 depthwise and 1x1 convolution with biases, without batch norm, and a shortcut padded by zero channels."""

    def __init__(self, c1, c2, s=1):
        super().__init__()
        self.s, self.added = s, c2 - c1
        self.convs = nn.Sequential(nn.Conv2d(c1, c1, 3, s, 0 if s == 2 else 1, groups=c1), nn.Conv2d(c1, c2, 1))

    def forward(self, x: Tensor) -> Tensor:
        y = self.convs(functional.pad(x, (0, 2, 0, 2)) if self.s == 2 else x)
        x = functional.max_pool2d(x, 2, ceil_mode=True) if self.s == 2 else x
        return functional.relu(y + functional.pad(x, (0, 0, 0, 0, 0, self.added)))


@BLOCKS.register()
class BlazeFaceFront(Backbone):
    """The backbone of the published BlazeFace of the front camera: maps of 88 and 96 channels at strides 8 and 16.

    (B, c1, H, W) -> list of maps. Weight names are the published ones.

    Args:
        c1: input channels.
        out: strides of the maps that are returned.

    Source:
        Bazarevsky et al., BlazeFace, 2019, in the form of the published model: single blocks of 3x3 convolutions.

    Example:
        [-1, 1, BlazeFaceFront, []]
    """

    WIDTHS = (24, 24, 28, 32, 36, 42, 48, 56, 64, 72, 80, 88)  # of the blocks at strides 2 to 8
    STRIDED = (32, 48)  # widths of the blocks that halve the size

    def __init__(self, c1, out=(8, 16)):
        super().__init__()
        layers: list[tuple[str, nn.Module, int]] = [("backbone1.0", _Stem(c1, 24), 2), ("backbone1.1", nn.ReLU(), 2)]
        stride = 2
        for number, (width, wider) in enumerate(zip(self.WIDTHS, self.WIDTHS[1:], strict=False)):
            s = 2 if wider in self.STRIDED else 1
            stride *= s
            layers.append((f"backbone1.{number + 2}", _FrontBlock(width, wider, s), stride))
        layers.append(("backbone2.0", _FrontBlock(88, 96, 2), 16))
        layers += [(f"backbone2.{number}", _FrontBlock(96, 96), 16) for number in range(1, 5)]
        self.stack(layers, out)
