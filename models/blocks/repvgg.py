"""RepVGG (Ding et al., RepVGG: Making VGG-style ConvNets Great Again, 2021)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_weights

from graftdet.models.blocks import BLOCKS
from graftdet.models.blocks.activations import activation
from graftdet.models.blocks.argument_ranges import NON_NEGATIVE
from graftdet.models.blocks.conv import Conv


@BLOCKS.register(arguments={"p": NON_NEGATIVE})
class RepVGGBlock(nn.Module):
    """Re-parameterizable sum of 3x3, 1x1 and identity branches, each with batch norm; SiLU.

    (B, c1, H, W) -> (B, c2, H/s, W/s). `fuse()` makes it one 3x3 convolution. The identity exists where the shape
    stays.

    Args:
        c1: input channels.
        c2: output channels.
        k: kernel size; must be 3.
        s: stride.
        p: padding; must be 1.
        g: groups of the convolution.

    Source:
        Ding et al., RepVGG, 2021, section 3.3. The paper has ReLU.

    Example:
        [-1, 1, RepVGGBlock, [64, 3, 2]]
    """

    def __init__(self, c1, c2, k=3, s=1, p=1, g=1):
        super().__init__()
        if (k, p) != (3, 1):
            raise ValueError(f"has a 3x3 kernel with padding 1, got kernel {k} and padding {p}")
        self.nonlinearity = nn.SiLU(inplace=True)
        self.rbr_identity = nn.BatchNorm2d(c1) if c1 == c2 and s == 1 else None
        self.rbr_dense = self.conv_bn(c1, c2, k, s, p, g)
        self.rbr_1x1 = self.conv_bn(c1, c2, 1, s, 0, g)
        self.rbr_reparam = None

    @staticmethod
    def conv_bn(c1, c2, k, s, p, g) -> nn.Sequential:
        """Convolution without bias and batch norm, as the weights are named."""
        layers = nn.Sequential()
        layers.add_module("conv", nn.Conv2d(c1, c2, k, s, p, groups=g, bias=False))
        layers.add_module("bn", nn.BatchNorm2d(c2))
        return layers

    def forward(self, x: Tensor) -> Tensor:
        if self.rbr_reparam is not None:
            return self.nonlinearity(self.rbr_reparam(x))
        y = self.rbr_dense(x) + self.rbr_1x1(x)
        return self.nonlinearity(y if self.rbr_identity is None else y + self.rbr_identity(x))

    @torch.no_grad()
    def fuse(self) -> None:
        """Replace the branches by the one convolution `rbr_reparam` that gives their sum in eval mode."""
        if self.rbr_reparam is not None:
            return
        (conv, bn), (small, small_bn) = self.rbr_dense, self.rbr_1x1
        kernels = [(conv.weight, bn), (F.pad(small.weight, [1, 1, 1, 1]), small_bn)]
        if self.rbr_identity is not None:
            kernels.append((self._identity_kernel(conv), self.rbr_identity))
        parts = [
            fuse_conv_bn_weights(kernel, None, bn.running_mean, bn.running_var, bn.eps, bn.weight, bn.bias)
            for kernel, bn in kernels
        ]
        fused = nn.Conv2d(
            conv.in_channels,
            conv.out_channels,
            3,
            conv.stride,
            1,
            groups=conv.groups,
            device=conv.weight.device,
            dtype=conv.weight.dtype,
        )
        fused.weight.copy_(sum(weight for weight, _ in parts))
        fused.bias.copy_(sum(bias for _, bias in parts))
        self.rbr_reparam = fused.requires_grad_(conv.weight.requires_grad)
        self.rbr_dense = self.rbr_1x1 = self.rbr_identity = None

    @staticmethod
    def _identity_kernel(conv: nn.Conv2d) -> Tensor:
        """The 3x3 kernel (c, c/groups, 3, 3) that returns its input."""
        kernel = torch.zeros_like(conv.weight)
        channels = torch.arange(conv.out_channels, device=kernel.device)
        kernel[channels, channels % kernel.shape[1], 1, 1] = 1
        return kernel


@BLOCKS.register(arguments={"p": NON_NEGATIVE})
class RepConv(RepVGGBlock):
    """RepVGGBlock with the model's activation and the weight names of YOLOv7.

    (B, c1, H, W) -> (B, c2, H/s, W/s). `fuse()` makes it one 3x3 convolution.

    Args:
        c1: input channels.
        c2: output channels.
        k: kernel size; must be 3.
        s: stride.
        p: padding; 1 or None.
        g: groups of the convolution.
        act: activation: True for the model's, False for none, or a name such as nn.ReLU().

    Source:
        Wang et al., YOLOv7, 2022, section 4.1; Ding et al., RepVGG, 2021, section 3.3.

    Example:
        [-1, 1, RepConv, [64, 3, 2]]
    """

    def __init__(self, c1, c2, k=3, s=1, p=None, g=1, act=True):
        super().__init__(c1, c2, k, s, 1 if p is None else p, g)
        self.nonlinearity = activation(act)

    @staticmethod
    def conv_bn(c1, c2, k, s, p, g) -> nn.Sequential:
        return nn.Sequential(nn.Conv2d(c1, c2, k, s, p, groups=g, bias=False), nn.BatchNorm2d(c2))


class TwoKernels(nn.Module):
    """Sum of a k x k and a smaller convolution, each with batch norm; activation: (B, c1, H, W) -> (B, c2, H, W).

    `fuse()` makes it one convolution (section 3.3, without the identity).
    """

    def __init__(self, c1, c2, k=3, small=1, g=1):
        super().__init__()
        self.conv1 = Conv(c1, c2, k, g=g, act=False)
        self.conv2 = Conv(c1, c2, small, g=g, act=False)
        self.act = activation()

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(x)
        return self.act(y if self.conv2 is None else y + self.conv2(x))

    @torch.no_grad()
    def fuse(self) -> None:
        """Add the smaller kernel to the center of the larger one, in place."""
        if self.conv2 is None:
            return
        self.conv1.fuse()
        self.conv2.fuse()
        large, small = self.conv1.conv, self.conv2.conv
        margin = (large.kernel_size[0] - small.kernel_size[0]) // 2
        large.weight += F.pad(small.weight, [margin] * 4)
        large.bias += small.bias
        self.conv2 = None
