"""The memory that a model may take for its weights, checked before it is taken."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from graftdet.models.graph.errors import RowError
from graftdet.utils.untrusted.limits import MAX_MAP, MAX_MODEL_BYTES, MAX_TENSORS, limit

ALLOW = "--allow-large builds larger models"
_FACTORIES = {torch.empty, torch.zeros, torch.ones, torch.rand, torch.randn, torch.full}


class TooLargeError(RowError):
    """A row with which the model takes more memory than is allowed."""

    rule = "model-size"


def check_map(shape: tuple | list) -> None:
    """Raise `TooLargeError` if the output (c, h, w) of a row, or one of a list of them, has too many values."""
    for one in shape if isinstance(shape, list) else [shape]:
        if math.prod(one) > limit(MAX_MAP):
            size = "x".join(map(str, one))
            raise TooLargeError(f"gives a map of {size} values for images of 640x640 pixels", ALLOW)


class LimitedWeights(TorchFunctionMode):
    """Raises `TooLargeError` before the tensors that are created while it is active exceed the limit.

    Args:
        before: the rows that exist already, which count as well.
    """

    def __init__(self, before: Iterable[nn.Module] = ()):
        super().__init__()
        tensors = [tensor for layer in before for tensor in (*layer.parameters(), *layer.buffers())]
        self.created, self.number = sum(tensor.nbytes for tensor in tensors), len(tensors)  # bytes, tensors

    def __torch_function__(self, function: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        """Count the tensor that a factory is to create, then create it."""
        kwargs = kwargs or {}
        if function is nn.functional.interpolate:
            _check_enlarged(*args, **kwargs)
        if function in _FACTORIES and kwargs.get("device") is None:  # images to probe with name their device
            self._count(args[0] if args and isinstance(args[0], (tuple, list)) else args, kwargs)
        return function(*args, **kwargs)

    def _count(self, shape: Sequence, kwargs: dict) -> None:
        self.number += 1
        if self.number > limit(MAX_TENSORS):
            raise TooLargeError(f"with it the model has more than {limit(MAX_TENSORS)} tensors")
        sides = kwargs.get("size", shape)
        itemsize = (kwargs.get("dtype") or torch.get_default_dtype()).itemsize
        self.created += math.prod(side for side in sides if isinstance(side, int)) * itemsize
        largest = limit(MAX_MODEL_BYTES)
        if self.created > largest:
            raise TooLargeError(
                f"with it the weights of the model take {self.created / 2**30:.1f} GiB, expected at most "
                f"{largest / 2**30:.0f} GiB",
                f"check widths and numbers of classes; {ALLOW}",
            )


def _check_enlarged(x: torch.Tensor, size: Any = None, scale_factor: Any = None, *_: Any, **__: Any) -> None:
    """Check the map that `interpolate` is to make: its tables take memory, even where there are no images."""
    sides, factors = list(x.shape[2:]), scale_factor if isinstance(scale_factor, (list, tuple)) else [scale_factor]
    if size is not None:
        sides = list(size) if isinstance(size, (list, tuple)) else [size] * len(sides)
    elif all(isinstance(factor, (int, float)) for factor in factors):
        sides = [int(side * factor) for side, factor in zip(sides, factors * len(sides), strict=False)]
    if all(isinstance(side, int) for side in sides):  # others are an error of torch
        check_map((x.shape[1], *sides))
