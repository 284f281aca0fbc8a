"""Output shapes of blocks: run on an empty batch, or on tensors without data, where the block allows it."""

import contextlib
import math
import warnings
from collections.abc import Iterator

import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from graftdet.utils.errors import UserError

PROBE_SIZE = 640


@contextlib.contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Set `module` to eval mode, and each submodule back to its own mode afterwards."""
    modes = [(m, m.training) for m in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for m, training in modes:
            m.training = training


def output_shapes(module: nn.Module, inputs: tuple | list) -> tuple | list[tuple]:
    """Find the output shape of a module in eval mode.

    Args:
        module: the module.
        inputs: shape (c, h, w) that it reads, or a list of them for a block that takes a list of maps, itself with
            lists for a block that joins lists.

    Returns:
        Shape (c, h, w), or a list of them where it gives a list of maps.

    Raises:
        UserError: an output is no map. Whatever the module itself raises is passed on.
    """
    with torch.no_grad(), evaluating(module):
        if any(parameter.is_meta for parameter in module.parameters()):  # see `build_without_memory`
            return _shapes_of(_run_on_one(module, inputs))
        try:  # an empty batch costs nothing; on "meta" the first use imports torch's compiler, two seconds
            with _EmptyBatch(), warnings.catch_warnings(action="ignore"):  # batch norms warn of a mean over nothing
                return _shapes_of(module(_empty(inputs, "cpu", batch=0)))
        except Exception:  # some blocks need an image, and errors of the others are those with one
            return _shapes_of(_run_on_one(module, inputs))


class _EmptyBatch(TorchFunctionMode):
    """Raises where torch is less strict with an empty batch than with an image."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        loose = function in _VIEWS and _size_of_one(args[0].shape) != _size_of_one(result.shape)
        if loose or function is torch.pixel_unshuffle:  # which returns an empty tensor as it is
            raise RuntimeError("the shape of an empty batch is not that of an image")
        return result


_VIEWS = {torch.Tensor.view, torch.Tensor.reshape, torch.reshape}  # of no values: any sizes will do


def _size_of_one(shape) -> int:
    return math.prod(size for size in shape if size)


def _run_on_one(module: nn.Module, inputs):
    """The output for one image, on tensors without data where the module allows that."""
    try:
        meta = {name: t.to("meta") for name, t in [*module.named_parameters(), *module.named_buffers()]}
        with _ShapesOnly():
            return functional_call(module, meta, (_empty(inputs, "meta"),))
    except Exception as error:
        if not needs_values(error):
            raise
        return module(_empty(inputs, "cpu"))


class _ShapesOnly(TorchFunctionMode):
    """Answers batch norms and activations of tensors without data at once: torch computes their shapes slowly."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function in _SAME_SHAPE and args and args[0].is_meta:
            return args[0]
        if function is functional.batch_norm and args[0].is_meta and args[0].ndim == 4 and len(args) > 1:
            channels = args[0].shape[1]
            if all(isinstance(values, torch.Tensor) and values.shape == (channels,) for values in args[1:3]):
                return torch.empty_like(args[0])
        return function(*args, **(kwargs or {}))


_SAME_SHAPE = {
    *(functional.silu, functional.relu, functional.relu6, functional.leaky_relu, functional.gelu, functional.mish),
    *(functional.hardswish, functional.hardsigmoid, torch.sigmoid, torch.Tensor.sigmoid),
}


def needs_values(error: Exception) -> bool:
    """Whether a run on tensors without data failed for the lack of data (torch's messages then contain "meta" or the
    device), or whether the message is less specific than with data: that of a convolution has no widths.

    The wording decides: torch raises RuntimeError for these as for rows that do not fit. A run with data instead would
    distinguish them, but takes as much memory and time as the row asks for, which for a mistyped width is any amount.
    """
    marks = ("meta", "device", "invalid channel dimensions")
    return isinstance(error, NotImplementedError) or any(mark in str(error).lower() for mark in marks)


def _shapes_of(output) -> tuple | list[tuple]:
    return [_map_shape(item) for item in output] if isinstance(output, (list, tuple)) else _map_shape(output)


def _map_shape(output) -> tuple:
    if not isinstance(output, torch.Tensor) or output.ndim != 4:
        kind = f"shape {tuple(output.shape)}" if isinstance(output, torch.Tensor) else type(output).__name__
        raise UserError(f"gives {kind}, expected a map (B, C, H, W)")
    return tuple(output.shape[1:])


def _empty(shapes, device, batch: int = 1):
    if isinstance(shapes, list):
        return [_empty(shape, device, batch) for shape in shapes]
    return torch.zeros(batch, *shapes, device=device)
