"""BlazeFace (Bazarevsky et al., BlazeFace: Sub-millisecond Neural Face Detection on Mobile GPUs, 2019)."""

from torch import Tensor, nn
from torch.nn import functional

from graftdet.models.blocks import BLOCKS
from graftdet.models.blocks.backbone import STRIDES, Backbone, conv_bn, width_scaler


@BLOCKS.register(width_out="double_oup")
class BlazeBlock(nn.Module):
    """Depthwise 5x5 and 1x1 convolution with a shortcut, once or twice (double block).

    (B, c1, H, W) -> (B, c2, H/s, W/s), or (B, double_oup, H/s, W/s) for a double block, whose first pair strides and is
    followed by ReLU. Batch norm follows each convolution, ReLU the sum.

    Args:
        c1: input channels.
        c2: output channels; in a double block the narrow width between both pairs.
        double_oup: output channels of a double block; None for a single block.
        s: stride, 1 or 2.
        k: kernel size of the depthwise convolutions.
        project: True: the shortcut is max pool, 1x1 convolution, batch norm and ReLU where the shape changes; False:
            max pool and zero padding of the channels.

    Source:
        Bazarevsky et al., BlazeFace, 2019, section 3.2, figure 1. Batch norm is added; `project` is the form of a
        public PyTorch port.

    Example:
        [-1, 1, BlazeBlock, [24, 96, 2]]
    """

    def __init__(self, c1, c2, double_oup=None, s=1, k=5, project=False):
        super().__init__()
        if s not in (1, 2):
            raise ValueError(f"stride must be 1 or 2, got {s}")
        wide = double_oup or c2
        layers = [*conv_bn(c1, c1, k, s, g=c1), *conv_bn(c1, c2)]
        if double_oup:
            layers += [nn.ReLU(inplace=True), *conv_bn(c2, c2, k, g=c2), *conv_bn(c2, double_oup)]
            layers += [nn.ReLU(inplace=True)] if project else []
        self.conv = nn.Sequential(*layers)
        pool = [nn.MaxPool2d(s, s, ceil_mode=True)] if s > 1 else []
        project = project and (s > 1 or c1 != wide)
        self.shortcut = nn.Sequential(*pool, *(conv_bn(c1, wide, act=nn.ReLU(inplace=True)) if project else []))
        self.new = 0 if project else wide - c1
        if self.new < 0:
            raise ValueError(f"the shortcut cannot narrow {c1} channels to {wide} without project=True")
        self.activation = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        x = self.shortcut(x)
        if self.new:
            x = functional.pad(x, (0, 0, 0, 0, 0, self.new))
        return self.activation(y + x)


@BLOCKS.register()
class BlazeFace(Backbone):
    """The BlazeFace feature extractor: maps of 96 channels at strides 8, 16 and 32.

    (B, c1, H, W) -> list of maps. The layers of table 4 have 56,208 kernel weights, 59,760 parameters with batch norm.

    Args:
        c1: input channels.
        width: multiplies all widths inside; the width multiple of the model does not apply.
        out: strides of the maps that are returned.

    Source:
        Bazarevsky et al., BlazeFace, 2019, table 4. The paper ends at stride 16 (out=[8, 16]); stride 32 is three more
        double blocks.

    Example:
        [-1, 1, BlazeFace, [1.0]]
    """

    def __init__(self, c1, width=1.0, out=STRIDES):
        super().__init__()
        c24, c48, c96 = map(width_scaler(width), (24, 48, 96))
        layers = [
            ("conv1", conv_bn(c1, c24, 5, 2, act=nn.ReLU(inplace=True)), 2),
            ("blocks.0", BlazeBlock(c24, c24), 2),
            ("blocks.1", BlazeBlock(c24, c24), 2),
            ("blocks.2", BlazeBlock(c24, c48, s=2), 4),
            ("blocks.3", BlazeBlock(c48, c48), 4),
            ("blocks.4", BlazeBlock(c48, c48), 4),
        ]
        c = c48
        for stride in STRIDES:
            for s in (2, 1, 1):
                layers.append((f"blocks.{len(layers) - 1}", BlazeBlock(c, c24, c96, s), stride))
                c = c96
        self.stack(layers, out)
