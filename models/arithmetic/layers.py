"""Other layers of torch.nn by arithmetic, with the arguments of torch; unusual values of these are left to torch."""

from typing import Any

from graftdet.models.arithmetic.module import Module
from graftdet.models.arithmetic.tensor import MACS, Parameter, ShapeTensor, Unsupported
from graftdet.models.arithmetic.windows import check_map, check_numbers, pair


class BatchNorm2d(Module):
    """Batch norm of maps."""

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: Any = None,
        dtype: Any = None,
    ):
        super().__init__()
        check_numbers(eps, *([] if momentum is None else [momentum]))
        self.num_features, self.eps, self.momentum = num_features, eps, momentum
        size = ShapeTensor(num_features)
        self.weight, self.bias = (Parameter(size), Parameter(size)) if affine else (None, None)
        self.running_mean, self.running_var = size, size

    def forward(self, x: Any) -> ShapeTensor:
        """Return the output."""
        return check_map(x, self.num_features)


class GroupNorm(Module):
    """Normalization of groups of channels."""

    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        eps: float = 1e-5,
        affine: bool = True,
        device: Any = None,
        dtype: Any = None,
    ):
        super().__init__()
        check_numbers(eps, num_groups)
        if num_channels % num_groups:
            raise ValueError(f"{num_channels} channels in {num_groups} groups")
        self.num_channels = num_channels
        size = ShapeTensor(num_channels)
        self.weight, self.bias = (Parameter(size), Parameter(size)) if affine else (None, None)

    def forward(self, x: Any) -> ShapeTensor:
        """Return the output."""
        return check_map(x, self.num_channels)


class LayerNorm(Module):
    """Normalization of the last dimensions."""

    def __init__(
        self,
        normalized_shape: Any,
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ):
        super().__init__()
        check_numbers(eps)
        shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
        self.normalized_shape = shape
        self.weight = Parameter(ShapeTensor(*shape)) if elementwise_affine else None
        self.bias = Parameter(ShapeTensor(*shape)) if elementwise_affine and bias else None

    def forward(self, x: Any) -> ShapeTensor:
        """Return the output."""
        if x.shape[-len(self.normalized_shape) :] != self.normalized_shape:
            raise RuntimeError(f"expected {self.normalized_shape}, got {tuple(x.shape)}")
        return x


class Linear(Module):
    """Matrix product with the last dimension."""

    def __init__(self, in_features: int, out_features: int, bias: bool = True, device: Any = None, dtype: Any = None):
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        self.weight = Parameter(ShapeTensor(out_features, in_features))
        self.bias = Parameter(ShapeTensor(out_features)) if bias else None

    def forward(self, x: Any) -> ShapeTensor:
        """Return the output."""
        if x.shape[-1] != self.in_features:
            raise RuntimeError(f"expected {self.in_features} features, got {x.shape[-1]}")
        result = ShapeTensor(*x.shape[:-1], self.out_features)
        MACS.add(result.numel() * self.in_features)
        return result


class Upsample(Module):
    """Enlargement of maps."""

    def __init__(
        self,
        size: Any = None,
        scale_factor: Any = None,
        mode: str = "nearest",
        align_corners: bool | None = None,
        recompute_scale_factor: bool | None = None,
    ):
        super().__init__()
        self.size, self.scale_factor, self.mode = size, scale_factor, mode
        fits = align_corners is None or (isinstance(align_corners, bool) and mode in ("bilinear", "bicubic"))
        if not fits or recompute_scale_factor is not None:
            raise Unsupported("arguments of an enlargement")

    def forward(self, x: Any) -> ShapeTensor:
        """Return the output."""
        return interpolate(x, self.size, self.scale_factor, self.mode)


def interpolate(x: Any, size: Any = None, scale_factor: Any = None, mode: str = "nearest", **_: Any) -> ShapeTensor:
    """`torch.nn.functional.interpolate`."""
    b, c, h, w = check_map(x).shape
    if mode not in ("nearest", "bilinear", "bicubic", "nearest-exact") or (size is None) == (scale_factor is None):
        raise Unsupported(f"mode {mode}, size {size}, factor {scale_factor}")
    if size is not None:
        return ShapeTensor(b, c, *pair(size, 1))
    if type(scale_factor) not in (int, float) or min(h, w) * scale_factor < 1:
        raise Unsupported(f"scale factor {scale_factor}")
    return ShapeTensor(b, c, int(h * scale_factor), int(w * scale_factor))


class ZeroPad2d(Module):
    """Zeros around a map."""

    def __init__(self, padding: Any):
        super().__init__()
        self.padding = (padding,) * 4 if isinstance(padding, int) else tuple(padding)
        if len(self.padding) != 4 or any(type(side) is not int or side < 0 for side in self.padding):
            raise Unsupported(f"padding {padding}")

    def forward(self, x: Any) -> ShapeTensor:
        """Return the output."""
        b, c, h, w = check_map(x).shape
        left, right, top, bottom = self.padding
        return ShapeTensor(b, c, h + top + bottom, w + left + right)


class Flatten(Module):
    """Dimensions merged into one."""

    def __init__(self, start_dim: int = 1, end_dim: int = -1):
        super().__init__()
        self._dims = start_dim, end_dim

    def forward(self, x: Any) -> ShapeTensor:
        """Return the output."""
        return x.flatten(*self._dims)


class Softmax(Module):
    """Values that sum to 1 along a dimension."""

    def __init__(self, dim: int | None = None):
        super().__init__()
        self.dim = dim

    def forward(self, x: Any) -> ShapeTensor:
        """Return the output."""
        return x if self.dim is None else x.softmax(range(x.ndim)[self.dim])


class Dropout(Module):
    """Nothing, in eval mode."""

    def __init__(self, p: float = 0.5, inplace: bool = False):
        super().__init__()
        if not 0 <= p <= 1:
            raise ValueError(f"probability {p}")

    def forward(self, x: Any) -> ShapeTensor:
        """Return the input."""
        return x
