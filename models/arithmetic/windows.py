"""Convolutions and pooling of torch.nn by arithmetic, with the arguments of torch; unusual values are left to torch."""

from typing import Any

from graftdet.models.arithmetic.module import Module
from graftdet.models.arithmetic.tensor import MACS, Parameter, ShapeTensor, Unsupported


def pair(value: Any, least: int) -> tuple[int, int]:
    """A number, or two of them, as a pair; other values, and numbers below `least`, are left to torch."""
    sides = tuple(value) if isinstance(value, (tuple, list)) else (value, value)
    if len(sides) != 2 or any(type(side) is not int or side < least for side in sides):
        raise Unsupported(f"argument {value!r}")
    return sides


def check_numbers(*values: Any) -> None:
    """Leave it to torch unless all values are numbers above 0."""
    if any(type(value) not in (int, float) or value <= 0 for value in values):
        raise Unsupported(f"arguments {values}")


def check_tensor(x: Any) -> ShapeTensor:
    """Raise unless `x` is a tensor."""
    if not isinstance(x, ShapeTensor):
        raise TypeError(f"expected a tensor, got {type(x).__name__}")
    return x


def check_map(x: Any, channels: int | None = None) -> ShapeTensor:
    """Raise unless `x` is a map (B, C, H, W) with this number of channels."""
    if check_tensor(x).ndim != 4:
        raise Unsupported(f"a tensor of {x.ndim} dimensions")
    if channels is not None and x.shape[1] != channels:
        raise RuntimeError(f"expected {channels} channels, got {x.shape[1]}")
    return x


def pooled(side: int, k: int, s: int, p: int, d: int = 1, ceil_mode: bool = False) -> int:
    """The side of a map after a convolution or pooling."""
    left = side + 2 * p - d * (k - 1) - 1
    if left < 0:
        raise RuntimeError("the input is smaller than the kernel")
    result = -(-left // s) + 1 if ceil_mode else left // s + 1
    return result - 1 if ceil_mode and (result - 1) * s >= side + p else result


class ConvNd(Module):
    """Base of the convolutions."""

    transposed = False
    output_padding = (0, 0)

    def _set(self, in_channels, out_channels, k, s, p, d, g, bias, padding_mode) -> None:
        widths = (in_channels, out_channels, g)
        if any(type(width) is not int for width in widths):
            raise TypeError(f"widths {widths}")
        if min(widths) < 1 or padding_mode != "zeros":
            raise Unsupported("a convolution with unusual arguments")
        if in_channels % g or out_channels % g:
            raise ValueError(f"{in_channels} and {out_channels} channels in {g} groups")
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, g
        self.kernel_size, self.stride, self.padding = pair(k, 1), pair(s, 1), pair(p, 0)
        self.dilation, self.padding_mode = pair(d, 1), padding_mode
        shape = (in_channels, out_channels // g) if self.transposed else (out_channels, in_channels // g)
        self.weight = Parameter(ShapeTensor(*shape, *self.kernel_size))
        self.bias = Parameter(ShapeTensor(out_channels)) if bias else None


class ConvTransposeNd(ConvNd):
    """Base of the transposed convolutions."""

    transposed = True


class Conv2d(ConvNd):
    """Convolution: (B, c1, H, W) -> (B, c2, H', W')."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: Any = None,
    ):
        super().__init__()
        self._set(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, padding_mode)

    def forward(self, x: Any) -> ShapeTensor:
        """Return the output."""
        return conv2d(x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


def conv2d(x, weight, bias=None, stride=1, padding=0, dilation=1, groups=1) -> ShapeTensor:
    """`torch.nn.functional.conv2d`."""
    out, width, *kernel = weight.shape
    if len(kernel) != 2 or out % groups:
        raise Unsupported("a convolution of other dimensions")
    b, _, *sides = check_map(x, width * groups).shape
    values = zip(sides, kernel, pair(stride, 1), pair(padding, 0), pair(dilation, 1), strict=True)
    result = ShapeTensor(b, out, *(pooled(*axis) for axis in values))
    MACS.add(result.numel() * width * kernel[0] * kernel[1])
    return result


class ConvTranspose2d(ConvTransposeNd):
    """Transposed convolution: (B, c1, H, W) -> (B, c2, H', W')."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        output_padding: Any = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Any = 1,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: Any = None,
    ):
        super().__init__()
        self._set(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, padding_mode)
        self.output_padding = pair(output_padding, 0)

    def forward(self, x: Any) -> ShapeTensor:
        """Return the output."""
        b, _, *sides = check_map(x, self.in_channels).shape
        values = zip(
            sides, self.kernel_size, self.stride, self.padding, self.dilation, self.output_padding, strict=True
        )
        sizes = [(side - 1) * s - 2 * p + d * (k - 1) + o + 1 for side, k, s, p, d, o in values]
        if min(sizes) < 1:
            raise RuntimeError(f"an output of {sizes}")
        result = ShapeTensor(b, self.out_channels, *sizes)
        MACS.add(x.numel() * self.weight.numel() // self.in_channels)
        return result


class _Pool(Module):
    def forward(self, x: Any) -> ShapeTensor:
        b, c, *sides = check_map(x).shape
        return ShapeTensor(b, c, *(pooled(*axis, self.ceil_mode) for axis in zip(sides, *self._window, strict=True)))

    def _set(self, kernel_size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool) -> None:
        if not isinstance(ceil_mode, bool):
            raise Unsupported(f"ceil_mode {ceil_mode}")
        k, p = pair(kernel_size, 1), pair(padding, 0)
        if any(2 * padding_side > size for padding_side, size in zip(p, k, strict=True)):
            raise RuntimeError("pad should be at most half of the kernel size")
        self.kernel_size, self.stride, self.padding, self.dilation = kernel_size, stride, padding, dilation
        self.ceil_mode, self._window = ceil_mode, (k, k if stride is None else pair(stride, 1), p, pair(dilation, 1))


class MaxPool2d(_Pool):
    """Largest value of windows."""

    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        dilation: Any = 1,
        return_indices: bool = False,
        ceil_mode: bool = False,
    ):
        super().__init__()
        if return_indices:
            raise Unsupported("indices of a pooling")
        self._set(kernel_size, stride, padding, dilation, ceil_mode)


class AvgPool2d(_Pool):
    """Mean of windows."""

    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ):
        super().__init__()
        if divisor_override is not None or not isinstance(count_include_pad, bool):
            raise Unsupported("arguments of a mean of windows")
        self._set(kernel_size, stride, padding, 1, ceil_mode)


class AdaptiveAvgPool2d(Module):
    """Mean of as many windows as the output has cells."""

    def __init__(self, output_size: Any):
        super().__init__()
        self.output_size = output_size
        self._size = pair(output_size, 1)

    def forward(self, x: Any) -> ShapeTensor:
        """Return the output."""
        return ShapeTensor(*check_map(x).shape[:2], *self._size)


class AdaptiveMaxPool2d(AdaptiveAvgPool2d):
    """Largest value of as many windows as the output has cells."""

    def __init__(self, output_size: Any, return_indices: bool = False):
        if return_indices:
            raise Unsupported("indices of a pooling")
        super().__init__(output_size)
