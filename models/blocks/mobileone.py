"""MobileOne (Vasu et al., MobileOne: An Improved One Millisecond Mobile Backbone, 2023)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_weights

from graftdet.models.blocks import BLOCKS
from graftdet.models.blocks.argument_ranges import NON_NEGATIVE, POSITIVE_INT
from graftdet.models.blocks.constructor_checks import check_square_kernel


def _conv_bn(c1, c2, k, s, p, d, g):
    layers = nn.Sequential()
    layers.add_module("conv", nn.Conv2d(c1, c2, k, s, p, d, g, bias=False))
    layers.add_module("bn", nn.BatchNorm2d(c2))
    return layers


@BLOCKS.register(arguments={"p": NON_NEGATIVE, "num_conv_branches": POSITIVE_INT})
class MobileOneBlock(nn.Module):
    """Re-parameterizable sum of k x k, 1x1 and identity branches, each with batch norm; ReLU.

    (B, c1, H, W) -> (B, c2, H/s, W/s). `fuse()` makes it one k x k convolution. The 1x1 branch exists for k > 1, the
    identity where the shape stays. Weights are named as published.

    Args:
        c1: input channels.
        c2: output channels.
        k: odd kernel size.
        s: stride.
        p: padding; may be omitted, since only one value makes the branches agree in size.
        d: dilation.
        g: groups of the convolution.
        inference_mode: accepted as published; must be False (`fuse()` does this).
        use_se: squeeze and excitation behind the sum.
        num_conv_branches: number of k x k branches.

    Source:
        Vasu et al., MobileOne, 2023, section 3.2, figure 3.

    Example:
        [-1, 1, MobileOneBlock, [64, 3, 2]]
    """

    def __init__(self, c1, c2, k=3, s=1, p=None, d=1, g=1, inference_mode=False, use_se=False, num_conv_branches=1):
        super().__init__()
        if inference_mode:
            raise ValueError("inference_mode is the state after fuse(); it must be False here")
        if num_conv_branches < 1:
            raise ValueError(f"num_conv_branches must be at least 1, got {num_conv_branches}")
        check_square_kernel(k)
        p = d * (k - 1) // 2 if p is None else p
        if k % 2 == 0 or 2 * p != d * (k - 1):
            raise ValueError(f"needs an odd kernel and a padding of {d * (k - 1) // 2} for it, got {k} and {p}")
        shape = (c1, c2, k, s, p, d, g)
        self.shape = shape
        self.se = _SqueezeExcite(c2) if use_se else nn.Identity()
        self.rbr_skip = nn.BatchNorm2d(c1) if c1 == c2 and s == 1 else None
        self.rbr_conv = nn.ModuleList(_conv_bn(*shape) for _ in range(num_conv_branches))
        self.rbr_scale = _conv_bn(c1, c2, 1, s, 0, 1, g) if k > 1 else None
        self.reparam_conv = None

    def forward(self, x: Tensor) -> Tensor:
        if self.reparam_conv is not None:
            return F.relu(self.se(self.reparam_conv(x)))
        y = sum(branch(x) for branch in self.rbr_conv)
        for branch in (self.rbr_scale, self.rbr_skip):
            y = y if branch is None else y + branch(x)
        return F.relu(self.se(y))

    @torch.no_grad()
    def fuse(self) -> None:
        """Replace the branches by the one convolution `reparam_conv` that gives their sum in eval mode."""
        if self.reparam_conv is not None:
            return
        c1, c2, k, *_, g = self.shape
        like = self.rbr_conv[0].conv.weight
        fused = nn.Conv2d(*self.shape, device=like.device, dtype=like.dtype)
        center = k // 2
        kernels = [(branch.conv.weight, branch.bn) for branch in self.rbr_conv]
        if self.rbr_scale is not None:
            kernels.append((F.pad(self.rbr_scale.conv.weight, [center] * 4), self.rbr_scale.bn))
        if self.rbr_skip is not None:
            identity = torch.zeros_like(like)
            channels = torch.arange(c2, device=like.device)
            identity[channels, channels % (c1 // g), center, center] = 1
            kernels.append((identity, self.rbr_skip))
        parts = [
            fuse_conv_bn_weights(kernel, None, bn.running_mean, bn.running_var, bn.eps, bn.weight, bn.bias)
            for kernel, bn in kernels
        ]
        fused.weight.copy_(sum(weight for weight, _ in parts))
        fused.bias.copy_(sum(bias for _, bias in parts))
        self.reparam_conv = fused.requires_grad_(like.requires_grad)
        self.rbr_conv, self.rbr_scale, self.rbr_skip = nn.ModuleList(), None, None


class _SqueezeExcite(nn.Module):
    """Squeeze and excitation with c / 16 channels inside, ReLU, sigmoid: (B, c, H, W) -> the same."""

    def __init__(self, c):
        super().__init__()
        self.reduce = nn.Conv2d(c, max(c // 16, 1), 1)
        self.expand = nn.Conv2d(self.reduce.out_channels, c, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.expand(F.relu(self.reduce(x.mean((2, 3), keepdim=True)))))
