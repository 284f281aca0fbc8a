"""Activations of torch.nn: a map stays as large as it is."""

from typing import Any

from graftdet.models.arithmetic.module import Module
from graftdet.models.arithmetic.tensor import Parameter, ShapeTensor, Unsupported
from graftdet.models.arithmetic.windows import check_numbers, check_tensor


class Activation(Module):
    """A function of each value."""

    def forward(self, x: Any) -> ShapeTensor:
        """Return the input."""
        return check_tensor(x)


class Identity(Module):
    """The input itself, of any type."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__()

    def forward(self, x: Any) -> Any:
        """Return the input."""
        return x


class _InPlace(Activation):
    def __init__(self, inplace: bool = False):
        super().__init__()


class ReLU(_InPlace):
    """max(x, 0)."""


class ReLU6(_InPlace):
    """min(max(x, 0), 6)."""


class SiLU(_InPlace):
    """`x sigmoid(x)`."""


class Mish(_InPlace):
    """`x tanh(softplus(x))`."""


class Hardswish(_InPlace):
    """`x relu6(x + 3) / 6`."""


class Hardsigmoid(_InPlace):
    """relu6(x + 3) / 6."""


class SELU(_InPlace):
    """ELU with fixed factors."""


class Sigmoid(Activation):
    """1 / (1 + exp(-x))."""


class Tanh(Sigmoid):
    """The hyperbolic tangent."""


class LeakyReLU(Activation):
    """max(x, slope x)."""

    def __init__(self, negative_slope: float = 1e-2, inplace: bool = False):
        super().__init__()
        check_numbers(negative_slope)


class ELU(Activation):
    """`x`, or `alpha (exp(x) - 1)` below 0."""

    def __init__(self, alpha: float = 1.0, inplace: bool = False):
        super().__init__()
        check_numbers(alpha)


class CELU(ELU):
    """`x`, or `alpha (exp(x / alpha) - 1)` below 0."""


class GELU(Activation):
    """`x` times the normal distribution function."""

    def __init__(self, approximate: str = "none"):
        super().__init__()
        if approximate not in ("none", "tanh"):
            raise Unsupported(f"approximation {approximate}")


class PReLU(Activation):
    """max(x, 0) + slope min(x, 0) with a trained slope."""

    def __init__(self, num_parameters: int = 1, init: float = 0.25, device: Any = None, dtype: Any = None):
        super().__init__()
        if num_parameters != 1:
            raise Unsupported("a slope per channel")
        self.weight = Parameter(ShapeTensor(1))


class _LeftToTorch(Module):
    def __init__(self, *_: Any, **__: Any):
        raise Unsupported(type(self).__name__)


LEFT_TO_TORCH = {
    name: type(name, (_LeftToTorch,), {})
    for name in "Hardshrink Hardtanh LogSigmoid RReLU Softplus Softshrink Softsign Tanhshrink Threshold".split()
}
"""Rare activations: the table of activations names them, and torch decides about them."""
