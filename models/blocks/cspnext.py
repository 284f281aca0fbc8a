"""CSPNeXt, backbone and neck block of RTMDet (Lyu et al., RTMDet, 2022). Weight names are the published ones."""

import torch
from torch import Tensor, nn

from graftdet.models.blocks import BLOCKS
from graftdet.models.blocks.argument_ranges import POSITIVE
from graftdet.models.blocks.backbone import STRIDES, Backbone, check_width_factor
from graftdet.models.blocks.constructor_checks import check_odd_kernels
from graftdet.models.blocks.conv import Conv
from graftdet.models.blocks.pool import SPP


class _SeparableConv(nn.Module):
    """Depthwise k x k Conv and 1x1 Conv."""

    def __init__(self, c1, c2, k):
        super().__init__()
        self.depthwise_conv = Conv(c1, c1, k, g=c1)
        self.pointwise_conv = Conv(c1, c2)

    def forward(self, x: Tensor) -> Tensor:
        return self.pointwise_conv(self.depthwise_conv(x))


class _Bottleneck(nn.Module):
    """A 3x3 Conv and a depthwise separable one with a large kernel, with an optional shortcut."""

    def __init__(self, c, shortcut, k):
        super().__init__()
        self.conv1 = Conv(c, c, 3)
        self.conv2 = _SeparableConv(c, c, k)
        self.add = shortcut

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv2(self.conv1(x))
        return x + y if self.add else y


class _ChannelGate(nn.Module):
    """Channel attention by one 1x1 convolution of the mean and a hard sigmoid: (B, c, H, W) -> the same."""

    def __init__(self, c):
        super().__init__()
        self.fc = nn.Conv2d(c, c, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * nn.functional.hardsigmoid(self.fc(x.mean((2, 3), keepdim=True)))


@BLOCKS.register(arguments={"e": POSITIVE})
class CSPNeXtBlock(nn.Module):
    """CSP block of bottlenecks with a large depthwise kernel, with channel attention of both parts.

    (B, c1, H, W) -> (B, c2, H, W).

    Args:
        c1: input channels.
        c2: output channels.
        n: number of bottlenecks (the row's number).
        shortcut: add the input of each bottleneck to its output.
        attention: channel attention before the last convolution.
        e: inner width as a fraction of c2.
        k: odd kernel size of the depthwise convolutions.

    Source:
        Lyu et al., RTMDet, 2022, section 3.2, figure 2; `CSPLayer` of its published code.

    Example:
        [-1, 1, CSPNeXtBlock, [64]]
    """

    def __init__(self, c1, c2, n=1, shortcut=True, attention=True, e=0.5, k=5):
        super().__init__()
        check_odd_kernels(k)
        hidden = int(c2 * e)
        self.main_conv = Conv(c1, hidden)
        self.short_conv = Conv(c1, hidden)
        self.final_conv = Conv(2 * hidden, c2)
        self.blocks = nn.Sequential(*(_Bottleneck(hidden, shortcut, k) for _ in range(n)))
        self.attention = _ChannelGate(2 * hidden) if attention else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        joined = torch.cat((self.blocks(self.main_conv(x)), self.short_conv(x)), 1)
        return self.final_conv(self.attention(joined))


@BLOCKS.register(arguments={"depth": POSITIVE})
class CSPNeXt(Backbone):
    """The CSPNeXt backbone of RTMDet.

    (B, c1, H, W) -> list of maps: 256, 512 and 1024 channels (width 1.0) at strides 8, 16 and 32.

    Args:
        c1: input channels.
        width: multiplies all widths inside, rounded down; the width multiple of the model does not apply.
        depth: multiplies the numbers of bottlenecks; the depth multiple of the model does not apply.
        out: strides of the maps that are returned.

    Source:
        Lyu et al., RTMDet, 2022, section 3.2; widths 0.375, 0.5, 0.75, 1.0 and 1.25 with depths 0.167, 0.33, 0.67, 1.0
        and 1.33 are published as tiny, s, m, l and x. Names of MMDetection (`stage1.1.main_conv.conv`).

    Example:
        [-1, 1, CSPNeXt, [0.375, 0.167]]
    """

    STAGES = ((128, 3, True), (256, 6, True), (512, 6, True), (1024, 3, False))  # width, bottlenecks, shortcuts

    def __init__(self, c1, width=1.0, depth=1.0, out=STRIDES):
        super().__init__()
        check_width_factor(width)
        c = max(int(64 * width), 2)
        half = c // 2
        layers: list[tuple[str, nn.Module, int]] = [
            ("stem.0", Conv(c1, half, 3, 2), 2),
            ("stem.1", Conv(half, half, 3), 2),
            ("stem.2", Conv(half, c, 3), 2),
        ]
        for stage, (wide, number, shortcut) in enumerate(self.STAGES, start=1):
            c2, stride, last = int(wide * width), 2 ** (stage + 1), stage == len(self.STAGES)
            blocks = [Conv(c, c2, 3, 2), *([SPP(c2, c2)] if last else [])]
            blocks.append(CSPNeXtBlock(c2, c2, max(round(number * depth), 1), shortcut))
            layers += [(f"stage{stage}.{i}", block, stride) for i, block in enumerate(blocks)]
            c = c2
        self.stack(layers, out)
