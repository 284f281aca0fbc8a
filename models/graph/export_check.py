"""What a row must not do at the size of an export: converters end the process at operations on empty tensors."""

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from graftdet.models.graph.detection_model import DetectionModel
from graftdet.models.graph.shape_inference import evaluating

_HARMLESS = ("cat", "slice", "detach", "alias")


class _EmptyTensors(TorchDispatchMode):
    """Raises where an operation reads or writes a part of a map that has no elements."""

    def __torch_dispatch__(self, function: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        name = function.overloadpacket.__name__
        if name not in _HARMLESS and any(isinstance(arg, torch.Tensor) and not arg.numel() for arg in args):
            raise RuntimeError(
                f"uses an empty part of a map ({name}); its window is as large as the map or larger, try a larger --img"
            )
        return function(*args, **(kwargs or {}))


def check_export_size(model: DetectionModel, size: tuple[int, int]) -> None:
    """Check that no row uses an empty tensor, such as the cells before a window that is as large as the map.

    The exporter's shape inference fails on them with an internal error, or divides by zero and ends the process.

    Args:
        model: the model.
        size: (height, width) of the images.

    Raises:
        ProblemError: a row does; at larger sizes it may not.
    """
    parameter = next(model.parameters())
    images = torch.zeros(1, model.channels, *size, device=parameter.device, dtype=parameter.dtype)
    with torch.no_grad(), evaluating(model), _EmptyTensors():
        model.head_inputs(images)
