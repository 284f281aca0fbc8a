"""Functions of torch and torch.nn.functional by arithmetic."""

from collections.abc import Iterable
from typing import Any

from graftdet.models.arithmetic import layers, windows
from graftdet.models.arithmetic.tensor import ShapeTensor, Unsupported, broadcast, reduce, unpack


def same_shape(*values: Any, **more: Any) -> ShapeTensor:
    """Any function whose result has the common shape of its tensors."""
    return broadcast(*values, *more.values())


def cat(tensors: Iterable[ShapeTensor], dim: int = 0) -> ShapeTensor:
    """`torch.cat`."""
    tensors = list(tensors)
    if not all(isinstance(tensor, ShapeTensor) for tensor in tensors):
        raise TypeError("cat: expected tensors")
    first = list(tensors[0].shape)
    at = range(len(first))[dim]
    for tensor in tensors:
        if [*tensor.shape[:at], *tensor.shape[at + 1 :]] != [*first[:at], *first[at + 1 :]]:
            raise RuntimeError("cat: sizes differ")
    return ShapeTensor(*first[:at], sum(tensor.shape[at] for tensor in tensors), *first[at + 1 :])


def stack(tensors: Iterable[ShapeTensor], dim: int = 0) -> ShapeTensor:
    """`torch.stack`."""
    return cat([tensor.unsqueeze(dim) for tensor in tensors], dim)


def filled(*shape: Any, **_: Any) -> ShapeTensor:
    """`torch.zeros`, `torch.ones` and the like."""
    return ShapeTensor(*unpack(shape))


def full(shape: Any, _value: Any, **_: Any) -> ShapeTensor:
    """`torch.full`."""
    return filled(shape)


def normal(mean: Any, std: Any, size: Any = None, **_: Any) -> ShapeTensor:
    """`torch.normal`."""
    return broadcast(mean, std) if size is None else filled(size)


def arange(*bounds: Any, **_: Any) -> ShapeTensor:
    """`torch.arange`."""
    if not all(isinstance(bound, int) for bound in bounds):
        raise Unsupported("a range of no whole numbers")
    return ShapeTensor(len(range(*bounds)))


def tensor(values: Any, **_: Any) -> ShapeTensor:
    """`torch.tensor`."""
    shape = []
    while isinstance(values, (list, tuple)):
        if any(isinstance(value, (list, tuple)) and len(value) != len(values[0]) for value in values):
            raise ValueError("lists of several lengths")
        shape.append(len(values))
        if not values:
            break
        values = values[0]
    return ShapeTensor(*shape)


def pad(x: ShapeTensor, padding: Any, mode: str = "constant", value: Any = None) -> ShapeTensor:
    """`torch.nn.functional.pad`."""
    sides = list(x.shape)
    for i in range(len(padding) // 2):
        sides[-1 - i] += padding[2 * i] + padding[2 * i + 1]
    return ShapeTensor(*sides)


def max_pool2d(x: Any, *args: Any, **kwargs: Any) -> ShapeTensor:
    """`torch.nn.functional.max_pool2d`."""
    return windows.MaxPool2d(*args, **kwargs).forward(x)


def avg_pool2d(x: Any, *args: Any, **kwargs: Any) -> ShapeTensor:
    """`torch.nn.functional.avg_pool2d`."""
    return windows.AvgPool2d(*args, **kwargs).forward(x)


def adaptive_avg_pool2d(x: Any, output_size: Any) -> ShapeTensor:
    """`torch.nn.functional.adaptive_avg_pool2d`."""
    return windows.AdaptiveAvgPool2d(output_size).forward(x)


def linear(x: ShapeTensor, weight: ShapeTensor, bias: Any = None) -> ShapeTensor:
    """`torch.nn.functional.linear`."""
    flat = x.view(-1, x.shape[-1]).matmul(weight.T)
    return flat.view(*x.shape[:-1], weight.shape[0])


def pixel_shuffle(x: ShapeTensor, upscale_factor: int) -> ShapeTensor:
    """`torch.nn.functional.pixel_shuffle`."""
    *batch, channels, height, width = x.shape
    return ShapeTensor(*batch, channels // upscale_factor**2, height * upscale_factor, width * upscale_factor)


def method(name: str) -> Any:
    """A function of torch that is a method of a tensor as well."""
    return lambda x, *args, **kwargs: getattr(x, name)(*args, **kwargs)


SAME_SHAPE = """sigmoid sqrt rsqrt exp log tanh abs relu where minimum maximum zeros_like ones_like full_like empty_like
    clamp pow add mul sub square logical_and logical_or softmax""".split()
FUNCTIONAL_SAME_SHAPE = """relu relu6 silu gelu hardsigmoid hardswish sigmoid leaky_relu softmax log_softmax mish elu
    dropout normalize softplus tanh""".split()
METHODS = """matmul bmm mm flatten transpose permute unsqueeze squeeze chunk split unbind reshape view_as
    max roll flip""".split()
REDUCING = ("mean", "sum", "amax", "amin", "prod", "std", "var")

TORCH = {
    **{"cat": cat, "concat": cat, "stack": stack, "arange": arange, "tensor": tensor, "full": full},
    **dict.fromkeys(("zeros", "ones", "empty", "rand", "randn"), filled),
    **dict.fromkeys(SAME_SHAPE, same_shape),
    "normal": normal,
    **{name: method(name) for name in METHODS},
    **dict.fromkeys(REDUCING, reduce),
}
"""Functions of torch by name."""

FUNCTIONAL = {
    **dict.fromkeys(FUNCTIONAL_SAME_SHAPE, same_shape),
    **{"conv2d": windows.conv2d, "interpolate": layers.interpolate, "pad": pad, "linear": linear},
    "pixel_shuffle": pixel_shuffle,
    **{"max_pool2d": max_pool2d, "avg_pool2d": avg_pool2d, "adaptive_avg_pool2d": adaptive_avg_pool2d},
}
"""Functions of torch.nn.functional by name."""
