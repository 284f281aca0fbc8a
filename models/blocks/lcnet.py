"""PP-LCNet (Cui et al., PP-LCNet: A Lightweight CPU Convolutional Neural Network, 2021)."""

from torch import nn

from graftdet.models.blocks import BLOCKS
from graftdet.models.blocks.backbone import STRIDES, Backbone, width_scaler
from graftdet.models.blocks.picodet import CBH, DepthSepConv


@BLOCKS.register()
class LCNet(Backbone):
    """The PP-LCNet backbone without its classifier, as in PicoDet since PaddleDetection 2.4.

    (B, c1, H, W) -> list of maps: 128, 256 and 512 channels (width 1.0) at strides 8, 16 and 32.

    Args:
        c1: input channels.
        width: multiplies all widths inside; the width multiple of the model does not apply.
        out: strides of the maps that are returned.

    Source:
        Cui et al., PP-LCNet, 2021, table 1. Names of PaddleDetection (`blocks2.0.dw_conv.conv`).

    Example:
        [-1, 1, LCNet, [1.0]]
    """

    STAGES = (  # kernel size, width, blocks, stride of the first, squeeze and excitation
        ((3, 32, 1, 1, False),),
        ((3, 64, 2, 2, False),),
        ((3, 128, 2, 2, False),),
        ((3, 256, 1, 2, False), (5, 256, 5, 1, False)),
        ((5, 512, 2, 2, True),),
    )

    def __init__(self, c1, width=1.0, out=STRIDES):
        super().__init__()
        w = width_scaler(width)
        c, stride = w(16), 2
        layers: list[tuple[str, nn.Module, int]] = [("conv1", CBH(c1, c, 3, 2), stride)]
        for stage, groups in enumerate(self.STAGES, start=2):
            number = 0
            for k, c2, blocks, first, se in groups:
                stride *= first
                for i in range(blocks):
                    layers.append(
                        (f"blocks{stage}.{number}", DepthSepConv(c, w(c2), k, first if i == 0 else 1, se), stride)
                    )
                    c, number = w(c2), number + 1
        self.stack(layers, out)
