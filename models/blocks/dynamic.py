"""Convolutions whose kernel depends on the image, and Ghost blocks of them.

Yang et al., CondConv: Conditionally Parameterized Convolutions, 2019, mix one kernel per image from those of several
experts. Han et al., ParameterNet, 2024, use such convolutions in GhostNet.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from graftdet.models.blocks import BLOCKS
from graftdet.models.blocks.activations import activation
from graftdet.models.blocks.argument_ranges import NON_NEGATIVE, POSITIVE, POSITIVE_INT
from graftdet.models.blocks.constructor_checks import check_square_kernel
from graftdet.models.blocks.conv import FusePairs, same_padding
from graftdet.models.blocks.csp import C3
from graftdet.models.blocks.ghostnet import RELU, SqueezeExcite, check_ratio, concat_ghost_features
from graftdet.models.blocks.ops import is_channels_last


class CondConv2d(nn.Module):
    """Convolution with kernels mixed per image: x (B, c1, H, W), routing (B, experts) -> (B, c2, H', W').

    Args:
        c1, c2, k, s, p, d, g, bias: as in nn.Conv2d. `weight` is (experts, c2 * c1/g * k * k), `bias` (experts, c2).
        num_experts: number of kernels.
    """

    def __init__(self, c1, c2, k, s, p, d, g, bias, num_experts):
        super().__init__()
        if c1 % g or c2 % g:
            raise ValueError(f"{g} groups need widths divisible by {g}, got {c1} in and {c2} out")
        self.shape = (c2, c1 // g, k, k)
        self.s, self.p, self.d, self.g = s, p, d, g
        self.weight = nn.Parameter(torch.empty(num_experts, math.prod(self.shape)))
        self.bias = nn.Parameter(torch.zeros(num_experts, c2)) if bias else None
        for kernel in self.weight.detach():
            nn.init.kaiming_uniform_(kernel.view(self.shape), a=math.sqrt(5))
        self.plain = k == 1 and s == 1 and p == 0 and g == 1

    def forward(self, x: Tensor, routing: Tensor) -> Tensor:
        b, c1, h, w = x.shape
        c2 = self.shape[0]
        layout = torch.channels_last if is_channels_last(x) else torch.contiguous_format
        if self.plain:  # one matrix per image
            kernels = (routing @ self.weight).view(b, c2, c1)
            if layout == torch.channels_last:
                y = (x.permute(0, 2, 3, 1).view(b, h * w, c1) @ kernels.mT).view(b, h, w, c2).permute(0, 3, 1, 2)
            else:
                y = (kernels @ x.flatten(2)).view(b, c2, h, w)
        elif _exporting():
            y = self._sum_of_experts(x, routing)
        else:  # the images of the batch as groups of one convolution
            kernels = (routing @ self.weight).view(b * c2, *self.shape[1:])
            y = F.conv2d(x.reshape(1, b * c1, h, w), kernels, None, self.s, self.p, self.d, b * self.g)
            y = y.view(b, c2, *y.shape[2:]).contiguous(memory_format=layout)
        return y if self.bias is None else y + (routing @ self.bias)[:, :, None, None]

    def _sum_of_experts(self, x, routing):
        """The same result with one convolution per expert: no shape depends on the batch size.

        Slices, not elements, of the routing: ncnn has no tensors without axes.
        """
        kernels = self.weight.view(-1, *self.shape)
        maps = [F.conv2d(x, kernel, None, self.s, self.p, self.d, self.g) for kernel in kernels]
        return sum(routing[:, i : i + 1, None, None] * y for i, y in enumerate(maps))


def _exporting() -> bool:
    """Whether a graph is being exported, in which the batch size must stay dynamic."""
    exporting = getattr(
        torch.compiler, "is_exporting", torch.compiler.is_compiling
    )  # is_exporting exists since torch 2.7
    return torch.jit.is_tracing() or exporting()


@BLOCKS.register(arguments={"p": NON_NEGATIVE, "num_experts": POSITIVE_INT})
class DynamicConv(nn.Module):
    """Convolution whose kernel is mixed per image from several experts.

    (B, c1, H, W) -> (B, c2, H/s, W/s), without batch norm and activation. The mixing weights are sigmoids of a linear
    layer over the mean of each channel.

    Args:
        c1: input channels.
        c2: output channels.
        k: kernel size.
        s: stride.
        p: padding; None keeps the size at stride 1.
        d: dilation.
        g: groups of the convolution.
        bias: mix a bias as well.
        num_experts: number of kernels that are mixed.

    Source:
        Yang et al., CondConv: Conditionally Parameterized Convolutions, 2019, section 3.

    Example:
        [-1, 1, DynamicConv, [64, 3, 2]]
    """

    def __init__(self, c1, c2, k=1, s=1, p=None, d=1, g=1, bias=False, num_experts=4):
        super().__init__()
        check_square_kernel(k)
        self.routing = nn.Linear(c1, num_experts)
        self.cond_conv = CondConv2d(c1, c2, k, s, same_padding(k, p, d), d, g, bias, num_experts)
        self.register_parameter("shift", None)

    def forward(self, x: Tensor) -> Tensor:
        y = self.cond_conv(x, torch.sigmoid(self.routing(x.mean((2, 3)))))
        return y if self.shift is None else y + self.shift[:, None, None]

    def merge_batch_norm(self, bn: nn.BatchNorm2d) -> "DynamicConv":
        """Merge the batch norm behind the layer, in place: its scale into every expert, the rest into `shift`."""
        with torch.no_grad():
            scale = bn.weight / torch.sqrt(bn.running_var + bn.eps)
            experts = self.cond_conv
            experts.weight.view(len(experts.weight), len(scale), -1).mul_(scale[:, None])
            if experts.bias is not None:
                experts.bias.mul_(scale)
            self.shift = nn.Parameter(bn.bias - bn.running_mean * scale, bn.bias.requires_grad)
        return self


class DropPath(nn.Module):
    """Drop the path with probability `p` per image in training (Huang et al., Stochastic Depth, 2016)."""

    def __init__(self, p=0.0):
        super().__init__()
        if not 0 <= p < 1:
            raise ValueError(f"drop_path must be at least 0 and below 1, got {p!r}")
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or not self.p:
            return x
        mask = x.new_empty(len(x), 1, 1, 1).bernoulli_(1 - self.p)
        return x * mask / (1 - self.p)


@BLOCKS.register(arguments={"num_experts": POSITIVE_INT})
class DynamicConvBnAct(FusePairs, nn.Module):
    """DynamicConv, batch norm and activation.

    (B, c1, H, W) -> (B, c2, H/s, W/s).

    Args:
        c1: input channels.
        c2: output channels.
        k: kernel size.
        s: stride.
        d: dilation.
        skip: add the input where the shape stays.
        act: activation: True for the model's, False for none, or a name such as nn.ReLU().
        drop_path: probability of dropping the path beside the shortcut, per image, in training.
        num_experts: number of kernels that are mixed.

    Source:
        Han et al., ParameterNet: Parameters Are All You Need, 2024, section 3.3 (dynamic convolution in GhostNet).

    Example:
        [-1, 1, DynamicConvBnAct, [64, 3, 2]]
    """

    fuse_pairs = (("conv", "bn1"),)

    def __init__(self, c1, c2, k=1, s=1, d=1, skip=False, act=RELU, drop_path=0.0, num_experts=4):
        super().__init__()
        self.conv = DynamicConv(c1, c2, k, s, d=d, num_experts=num_experts)
        self.bn1 = nn.BatchNorm2d(c2)
        self.act1 = activation(act)
        self.add = skip and s == 1 and c1 == c2
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        y = self.act1(self.bn1(self.conv(x)))
        return x + self.drop_path(y) if self.add else y


@BLOCKS.register(arguments={"ratio": POSITIVE, "dw_k": POSITIVE_INT, "num_experts": POSITIVE_INT})
class DynamicGhostModule(nn.Module):
    """Ghost module of dynamic convolutions.

    (B, c1, H, W) -> (B, c2, H/s, W/s). Channels beyond c2 are cut off.

    Args:
        c1: input channels.
        c2: output channels.
        k: kernel size of the primary convolution.
        ratio: c2 / ratio channels come from the primary convolution; at least 2.
        dw_k: kernel size of the cheap depthwise convolutions.
        s: stride.
        act: activation: True for the model's, False for none, or a name such as nn.ReLU().
        num_experts: number of kernels that are mixed.

    Source:
        Han et al., ParameterNet: Parameters Are All You Need, 2024, section 3.3; Han et al., GhostNet, 2020, section
        3.1.

    Example:
        [-1, 1, DynamicGhostModule, [64]]
    """

    def __init__(self, c1, c2, k=1, ratio=2, dw_k=3, s=1, act=RELU, num_experts=4):
        super().__init__()
        check_ratio(ratio, minimum=2)
        first = math.ceil(c2 / ratio)
        cheap = first * (ratio - 1)
        self.c2 = c2
        self.primary_conv = nn.Sequential(
            DynamicConv(c1, first, k, s, num_experts=num_experts), nn.BatchNorm2d(first), activation(act)
        )
        self.cheap_operation = nn.Sequential(
            DynamicConv(first, cheap, dw_k, g=first, num_experts=num_experts), nn.BatchNorm2d(cheap), activation(act)
        )

    def forward(self, x: Tensor) -> Tensor:
        y = self.primary_conv(x)
        return concat_ghost_features(y, self.cheap_operation(y), self.c2)


@BLOCKS.register(arguments={"num_experts": POSITIVE_INT})
class DynamicGhostBottleneck(FusePairs, nn.Module):
    """Ghost bottleneck of dynamic Ghost modules, 2 c1 channels wide inside.

    (B, c1, H, W) -> (B, c2, H/s, W/s). The strided depthwise convolution is not dynamic; the shortcut is where the
    shape changes.

    Args:
        c1: input channels.
        c2: output channels.
        k: kernel size of the depthwise convolutions.
        s: stride.
        se_ratio: width inside squeeze and excitation as a fraction of 2 c1; 0 for none.
        drop_path: probability of dropping the path beside the shortcut, per image, in training.
        act: activation: True for the model's, False for none, or a name such as nn.ReLU().
        num_experts: number of kernels that are mixed.

    Source:
        Han et al., ParameterNet: Parameters Are All You Need, 2024, section 3.3; Han et al., GhostNet, 2020, section
        3.2.

    Example:
        [-1, 1, DynamicGhostBottleneck, [64, 3, 2]]
    """

    fuse_pairs = (("conv_dw", "bn_dw"),)

    def __init__(self, c1, c2, k=3, s=1, se_ratio=0.0, drop_path=0.0, act=RELU, num_experts=4):
        super().__init__()
        hidden = 2 * c1
        self.ghost1 = DynamicGhostModule(c1, hidden, act=act, num_experts=num_experts)
        if s > 1:
            self.conv_dw = nn.Conv2d(hidden, hidden, k, s, same_padding(k), groups=hidden, bias=False)
            self.bn_dw = nn.BatchNorm2d(hidden)
        else:
            self.conv_dw, self.bn_dw = None, None
        self.se = SqueezeExcite(hidden, se_ratio) if se_ratio else None
        self.ghost2 = DynamicGhostModule(hidden, c2, act=None, num_experts=num_experts)
        self.shortcut = nn.Sequential()
        if s > 1 or c1 != c2:
            self.shortcut.extend(
                (
                    DynamicConv(c1, c1, k, s, g=c1, num_experts=num_experts),
                    nn.BatchNorm2d(c1),
                    DynamicConv(c1, c2, num_experts=num_experts),
                    nn.BatchNorm2d(c2),
                )
            )
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        y = self.ghost1(x)
        if self.conv_dw is not None:
            y = self.bn_dw(self.conv_dw(y))
        if self.se is not None:
            y = self.se(y)
        return self.shortcut(x) + self.drop_path(self.ghost2(y))


@BLOCKS.register(arguments={"e": POSITIVE})
class C3_GhostModule(C3):
    """C3 block of n dynamic Ghost modules, without shortcuts.

    (B, c1, H, W) -> (B, c2, H, W).

    Args:
        c1: input channels.
        c2: output channels.
        n: number of dynamic Ghost modules (the row's number).
        shortcut: accepted as in C3, without effect.
        g: accepted as in C3, without effect.
        e: inner width as a fraction of c2.

    Source:
        Han et al., ParameterNet: Parameters Are All You Need, 2024, in the C3 layout of YOLOv5.

    Example:
        [-1, 1, C3_GhostModule, [64]]
    """

    def inner(self, hidden: int, n: int, shortcut: bool, g: int) -> nn.Module:
        return nn.Sequential(*(DynamicGhostModule(hidden, hidden) for _ in range(n)))
