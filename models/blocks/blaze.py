"""BlazeFace (Bazarevsky et al., BlazeFace: Sub-millisecond Neural Face Detection on Mobile GPUs, 2019)."""

from graftdet.models.blocks import BLOCKS
from graftdet.models.blocks.backbone import STRIDES, Backbone, conv_bn, scaled
from torch import nn
from torch.nn import functional


@BLOCKS.register(width_out="double_oup")
class BlazeBlock(nn.Module):
    """5x5 depth-wise and 1x1 convolution with a shortcut; the double block has a second pair (section 3.2, figure 1).

    (B, c1, H, W) -> (B, c2, H/s, W/s), or (B, double_oup, H/s, W/s) where that is given: then c2 is the narrow width
    between the two pairs, ReLU follows the first, and the first alone strides. Batch norm after each convolution, ReLU
    at the end. The shortcut is a max pool where it strides and zeros for new channels; `project` makes it, as the
    article's form has it, max pool, 1x1 convolution, batch norm and ReLU (where size or width change) and puts a
    ReLU before the sum of a double block.
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

    def forward(self, x):
        y = self.conv(x)
        x = self.shortcut(x)
        if self.new:
            x = functional.pad(x, (0, 0, 0, 0, 0, self.new))
        return self.activation(y + x)


@BLOCKS.register()
class BlazeFace(Backbone):
    """The feature extractor (table 4): maps of 96 channels at strides 8 and 16 and, added here, at stride 32.

    The paper's network ends at stride 16 (8x8 of 128x128), which is `out=[8, 16]`; stride 32 is three more double blocks.
    `width` multiplies the widths. The paper states no count; the kernels of its table have 56,208 weights, as here, and
    59,760 parameters with batch norm.
    """

    def __init__(self, c1, width=1.0, out=STRIDES):
        super().__init__()
        c24, c48, c96 = map(scaled(width), (24, 48, 96))
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
