"""ShuffleNet v2 (Ma et al., ShuffleNet V2: Practical Guidelines for Efficient CNN Architecture Design, 2018)."""

import torch
from torch import Tensor, nn

from graftdet.models.blocks import BLOCKS
from graftdet.models.blocks.activations import activation
from graftdet.models.blocks.backbone import STRIDES, Backbone, check_width_factor, conv_bn, make_divisible
from graftdet.models.blocks.ops import channel_shuffle


@BLOCKS.register("ShuffleNetV2Unit", "ShuffleUnit")
class ShuffleNetV2Unit(nn.Module):
    """Unit of ShuffleNet v2: half of the channels pass, the others go through 1x1, 3x3 depthwise, 1x1; shuffle.

    (B, c1, H, W) -> (B, c2, H/s, W/s). Where the shape changes both branches read all channels and the first one has a
    depthwise and a 1x1 convolution. Weights are named as in torchvision (`branch1`, `branch2`).

    Args:
        c1: input channels.
        c2: output channels, even.
        s: stride, 1 or 2.
        act: activation: True for the model's, False for none, or a name such as nn.ReLU().

    Source:
        Ma et al., ShuffleNet V2, 2018, section 3.2, figure 3 c and d.

    Example:
        [-1, 1, ShuffleNetV2Unit, [64, 2]]
    """

    def __init__(self, c1, c2, s=1, act="nn.ReLU()"):
        super().__init__()
        if s not in (1, 2):
            raise ValueError(f"stride must be 1 or 2, got {s}")
        if c2 % 2:
            raise ValueError(f"the width is split into two branches and must be even, got {c2}")
        half = c2 // 2
        self.split = s == 1 and c1 == c2
        self.branch1 = (
            nn.Sequential()
            if self.split
            else nn.Sequential(*conv_bn(c1, c1, 3, s, g=c1), *conv_bn(c1, half, act=activation(act)))
        )
        self.branch2 = nn.Sequential(
            *conv_bn(half if self.split else c1, half, act=activation(act)),
            *conv_bn(half, half, 3, s, g=half),
            *conv_bn(half, half, act=activation(act)),
        )

    def forward(self, x: Tensor) -> Tensor:
        x1, x2 = x.chunk(2, 1) if self.split else (x, x)
        return channel_shuffle(torch.cat((self.branch1(x1), self.branch2(x2)), 1), 2)


@BLOCKS.register()
class ShuffleNetV2(Backbone):
    """The ShuffleNet v2 backbone without its classifier.

    (B, c1, H, W) -> list of maps: 116, 232 and 464 channels (width 1.0) at strides 8, 16 and 32. With `last` and a
    classifier of 1000 classes 1,366,792, 2,278,604, 3,503,624 and 7,393,996 parameters for the four published widths.

    Args:
        c1: input channels.
        width: 0.5, 1.0, 1.5 and 2.0 are published; another number multiplies the widths of 1.0.
        out: strides of the maps that are returned.
        last: the map at stride 32 is that of the last 1x1 convolution, of 1024 channels (2048 from width 2.0).
        act: activation: True for the model's, False for none, or a name such as nn.ReLU().

    Source:
        Ma et al., ShuffleNet V2, 2018, table 5. Names of torchvision (`stage2.0.branch1.0`).

    Example:
        [-1, 1, ShuffleNetV2, [1.0]]
    """

    WIDTHS = {0.5: (48, 96, 192), 1.0: (116, 232, 464), 1.5: (176, 352, 704), 2.0: (244, 488, 976)}

    def __init__(self, c1, width=1.0, out=STRIDES, last=False, act="nn.ReLU()"):
        super().__init__()
        check_width_factor(width)
        widths = self.WIDTHS.get(width) or tuple(make_divisible(116 * width, 4) * scale for scale in (1, 2, 4))
        layers = [
            ("conv1", conv_bn(c1, 24, 3, 2, act=activation(act)), 2),
            ("maxpool", nn.MaxPool2d(3, 2, 1), 4),
        ]
        c = 24
        for stage, blocks, c2 in zip((2, 3, 4), (4, 8, 4), widths, strict=True):
            for i in range(blocks):
                layers.append((f"stage{stage}.{i}", ShuffleNetV2Unit(c, c2, 2 if i == 0 else 1, act), 2 ** (stage + 1)))
                c = c2
        if last:
            layers.append(("conv5", conv_bn(c, 2048 if width >= 2 else 1024, act=activation(act)), 32))
        self.stack(layers, out)
