"""Several models of the same classes as one."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from graftdet.models.inference.predictor import Predictor
from graftdet.utils.boxes import is_tensor
from graftdet.utils.errors import UserError


class Ensemble(Predictor):
    """Several predictors called as one: their boxes are joined before one NMS.

    The models may differ in heads, strides and backends, but not in their classes.

    Args:
        models: at least one predictor.

    Raises:
        UserError: the models differ in class names, or were exported for different sizes.
    """

    def __init__(self, models: Sequence[Predictor]):
        if not models:
            raise ValueError("an ensemble needs at least one model")
        self.models = list(models)
        first = self.models[0]
        for number, model in enumerate(self.models[1:], 2):
            if model.names != first.names:
                raise UserError(
                    f"ensemble: model {number} has other classes than the first: {model.nc} "
                    f"({_excerpt(model.names)}) vs. {first.nc} ({_excerpt(first.names)})"
                )
        sizes = {tuple(model.fixed_size) for model in self.models if model.fixed_size}
        if len(sizes) > 1:
            raise UserError(f"ensemble: these models were exported for different sizes: {sorted(sizes)}")
        self.names = first.names
        self.names_known = any(model.names_known for model in self.models)
        self.stride = max(model.stride for model in self.models)
        self.fixed_size = next((model.fixed_size for model in self.models if model.fixed_size), None)
        self.train_size = first.train_size
        self.square_letterbox = any(model.square_letterbox for model in self.models)
        self.backend = ", ".join(dict.fromkeys(model.backend for model in self.models))
        self.device = first.device

    def forward(self, images: Any) -> tuple[Any, Any]:
        """RGB (B, 3, H, W) -> boxes (B, sum of N, 4) xyxy pixels, scores (B, sum of N, nc)."""
        boxes, scores = zip(*(model(images) for model in self.models), strict=True)
        return _join(boxes), _join(scores)


def _join(outputs):
    """Join (B, N, k) outputs along N: arrays when all are arrays, else float32 tensors on the first tensor's device."""
    tensors = [output for output in outputs if is_tensor(output)]
    if not tensors:
        return np.concatenate(outputs, axis=1)
    import torch

    return torch.cat([torch.as_tensor(output).to(tensors[0].device, torch.float32) for output in outputs], dim=1)


def _excerpt(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", .." if len(names) > 3 else "")
