"""MobileNet v1 (Howard et al., MobileNets: Efficient CNNs for Mobile Vision Applications, 2017)."""

from torch import Tensor, nn

from graftdet.models.blocks import BLOCKS
from graftdet.models.blocks.activations import activation
from graftdet.models.blocks.backbone import STRIDES, Backbone, width_scaler
from graftdet.models.blocks.conv import FusePairs, same_padding


@BLOCKS.register("DepthwiseSeparableConv", "DepthSeperabelConv2d")
class DepthwiseSeparableConv(FusePairs, nn.Module):
    """Depthwise k x k and 1x1 convolution, batch norm and activation after each.

    (B, c1, H, W) -> (B, c2, H/s, W/s).

    Args:
        c1: input channels.
        c2: output channels.
        k: kernel size of the depthwise convolution.
        s: stride.
        act: activation: True for the model's, False for none, or a name such as nn.ReLU().

    Source:
        Howard et al., MobileNets, 2017, section 3.1, figure 3. Names of timm.

    Example:
        [-1, 1, DepthwiseSeparableConv, [64, 3, 2]]
    """

    fuse_pairs = (("conv_dw", "bn1"), ("conv_pw", "bn2"))

    def __init__(self, c1, c2, k=3, s=1, act="nn.ReLU(inplace=True)"):
        super().__init__()
        self.conv_dw = nn.Conv2d(c1, c1, k, s, same_padding(k), groups=c1, bias=False)
        self.bn1 = nn.BatchNorm2d(c1)
        self.act1 = activation(act)
        self.conv_pw = nn.Conv2d(c1, c2, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(c2)
        self.act2 = activation(act)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act1(self.bn1(self.conv_dw(x)))
        return self.act2(self.bn2(self.conv_pw(x)))


@BLOCKS.register()
class MobileNetV1(Backbone):
    """The MobileNet v1 backbone without its classifier.

    (B, c1, H, W) -> list of maps: 256, 512 and 1024 channels at strides 8, 16 and 32. 4,231,976 parameters with a
    classifier of 1000 classes.

    Args:
        c1: input channels.
        width: multiplies all widths inside; the width multiple of the model does not apply.
        out: strides of the maps that are returned.

    Source:
        Howard et al., MobileNets, 2017, table 1, with ReLU6 as in the published weights. Names of timm (`conv_stem`,
        `blocks.2.0.conv_dw`).

    Example:
        [-1, 1, MobileNetV1, [1.0]]
    """

    STAGES = ((64, 1, 1), (128, 2, 2), (256, 2, 2), (512, 6, 2), (1024, 2, 2))  # width, blocks, stride of the first

    def __init__(self, c1, width=1.0, out=STRIDES):
        super().__init__()
        w = width_scaler(width)
        c = w(32)
        layers = [
            ("conv_stem", nn.Conv2d(c1, c, 3, 2, 1, bias=False), 2),
            ("bn1", nn.BatchNorm2d(c), 2),
            ("act1", nn.ReLU6(inplace=True), 2),
        ]
        stride = 2
        for stage, (c2, blocks, first) in enumerate(self.STAGES):
            c2 = w(c2)
            stride *= first
            for i in range(blocks):
                block = DepthwiseSeparableConv(c, c2, 3, first if i == 0 else 1, "nn.ReLU6(inplace=True)")
                layers.append((f"blocks.{stage}.{i}", block, stride))
                c = c2
        self.stack(layers, out)
