"""Gradients of depthwise convolutions in bfloat16 on CPUs, where oneDNN has no fast kernels for some of them."""

import itertools
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.utils.fusion import fuse_conv_bn_eval

_BLOCK = 3
"""Side of the largest kernel whose weight gradient oneDNN computes fast."""


def speed_up_depthwise_gradients(model: nn.Module) -> None:
    """Let depthwise convolutions of a model compute their gradients as `DepthwiseConv2d`, where that is faster.

    These are kernels larger than 3x3 and strides above 1, in channels-last memory under autocast to bfloat16. Names,
    weights, and results in other types and formats stay; gradients in bfloat16 are equal up to rounding.

    Args:
        model: The model, on a CPU, changed in place.
    """
    for module in model.modules():
        if type(module) is nn.Conv2d and _is_slow(module):
            module.__class__ = DepthwiseConv2d  # in place: other references to the module stay valid


def _is_slow(conv: nn.Conv2d) -> bool:
    return (
        conv.groups == conv.in_channels == conv.out_channels > 1
        and (max(conv.kernel_size) > _BLOCK or max(conv.stride) > 1)
        and conv.dilation == (1, 1)
        and conv.padding_mode == "zeros"
        and not isinstance(conv.padding, str)
        and all(pad < size for pad, size in zip(conv.padding, conv.kernel_size, strict=True))
    )


class DepthwiseConv2d(nn.Conv2d):
    """A depthwise nn.Conv2d whose gradients under autocast to bfloat16 are computed in another way.

    - Weights of kernels above 3x3 (10 times as fast): the kernel is cut into blocks of 3x3, each the kernel of a
      depthwise convolution of a shifted input.
    - Inputs at strides above 1 (7 times as fast): in float32.
    """

    def forward(self, input: Tensor) -> Tensor:  # the name of nn.Conv2d
        """Convolve (B, C, H, W)."""
        if not (
            torch.is_grad_enabled()
            and input.ndim == 4
            and input.device.type == "cpu"
            and torch.is_autocast_enabled("cpu")
            and torch.get_autocast_dtype("cpu") == torch.bfloat16
            and input.is_contiguous(memory_format=torch.channels_last)
            and not torch.compiler.is_compiling()
        ):
            return super().forward(input)
        bias = None if self.bias is None else self.bias.bfloat16()
        return _Convolution.apply(input.bfloat16(), self.weight.bfloat16(), bias, self.stride, self.padding)

    def merge_batch_norm(self, bn: nn.BatchNorm2d) -> nn.Conv2d:
        """Return this convolution with the batch norm behind it merged."""
        return fuse_conv_bn_eval(self, bn)


class _Convolution(torch.autograd.Function):
    """Depthwise convolution of (B, C, H, W) with weights (C, 1, kh, kw), both bfloat16, and a bias (C,) or None."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor, bias: Tensor | None, stride, padding) -> Tensor:
        ctx.save_for_backward(images, weight)
        ctx.stride, ctx.padding = stride, padding
        return torch.conv2d(images, weight, bias, stride, padding, 1, len(weight))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        images, weight = ctx.saved_tensors
        needs_input, needs_weight, needs_bias = ctx.needs_input_grad[:3]
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        of_input = _input_gradient(gradient, images, weight, ctx.stride, ctx.padding) if needs_input else None
        of_weight = _weight_gradient(gradient, images, weight, ctx.stride, ctx.padding) if needs_weight else None
        return of_input, of_weight, gradient.sum((0, 2, 3)) if needs_bias else None, None, None


def _input_gradient(gradient, images, weight, stride, padding):
    """Gradient (B, C, H, W) of the input; in float32 at strides above 1."""
    kind = gradient.dtype
    if max(stride) > 1:
        # only the shape and the strides of the input are read: no memory is touched
        images = torch.empty_like(images, dtype=torch.float32, memory_format=torch.channels_last)
        gradient, weight = gradient.float(), weight.float()
    return _gradients(gradient, images, weight, stride, padding, 0).to(kind)


def _weight_gradient(gradient, images, weight, stride, padding):
    """Gradient (C, 1, kh, kw) of the weight, block by block."""
    size = weight.shape[2:]
    if max(size) <= _BLOCK:
        return _gradients(gradient, images, weight, stride, padding, 1)
    padded = F.pad(images, (padding[1], padding[1], padding[0], padding[0]))
    result = torch.empty_like(weight)
    extents = [step * (count - 1) for step, count in zip(stride, gradient.shape[2:], strict=True)]
    for rows, columns in itertools.product(_blocks(size[0]), _blocks(size[1])):
        block = weight[:, :, rows, columns].contiguous()
        part = padded[:, :, rows.start : rows.stop + extents[0], columns.start : columns.stop + extents[1]]
        part = part.contiguous(memory_format=torch.channels_last)
        result[:, :, rows, columns] = _gradients(gradient, part, block, stride, (0, 0), 1)
    return result


def _blocks(size: int) -> Iterator[slice]:
    """Slices of at most `_BLOCK` that cover a side of a kernel; the last two may overlap."""
    for start in range(0, size, _BLOCK):
        start = max(min(start, size - _BLOCK), 0)
        yield slice(start, min(start + _BLOCK, size))


def _gradients(gradient, images, weight, stride, padding, number):
    """Gradient of the input (number 0) or of the weight (1), by torch."""
    mask = [number == 0, number == 1, False]
    arguments = (None, stride, padding, (1, 1), False, (0, 0), len(weight), mask)
    return torch.ops.aten.convolution_backward(gradient, images, weight, *arguments)[number]
