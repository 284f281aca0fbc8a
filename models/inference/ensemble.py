import numpy as np
from graftdet.models.inference.predictor import Predictor
from graftdet.models.inference.tta import largest_stride
from graftdet.utils.boxes import is_tensor
from graftdet.utils.errors import UserError


class Ensemble:
    """Models (each images (B, 3, H, W) -> boxes (B, N, 4) xyxy pixels, scores (B, N, nc)) called as one model.

    The outputs are joined along N, so the models may differ in heads, strides and formats, but not in their classes:
    that raises `UserError`. `names` are the first model's, `stride` is the largest.
    """

    def __init__(self, models):
        self.models = list(models)
        if not self.models:
            raise ValueError("an ensemble needs at least one model")
        self.names = getattr(self.models[0], "names", None)
        self.stride = max(largest_stride(model) for model in self.models)
        for number, model in enumerate(self.models[1:], 2):
            names = getattr(model, "names", None)
            if names is not None and self.names is not None and _in_order(names) != _in_order(self.names):
                raise UserError(
                    f"ensemble: model {number} knows other classes than the first: {len(names)} "
                    f"({_excerpt(names)}) beside {len(self.names)} ({_excerpt(self.names)})"
                )

    def __call__(self, images):
        boxes, scores = zip(*(model(images) for model in self.models))
        if len({output.shape[2] for output in scores}) > 1:
            raise UserError(f"ensemble: the models differ in classes: {[output.shape[2] for output in scores]}")
        return _join(boxes), _join(scores)


def _join(outputs):
    """Join (B, N, k) outputs along N: arrays when all are arrays, else float32 tensors on the first tensor's device."""
    tensors = [output for output in outputs if is_tensor(output)]
    if not tensors:
        return np.concatenate(outputs, axis=1)
    import torch

    return torch.cat([torch.as_tensor(output).to(tensors[0].device, torch.float32) for output in outputs], dim=1)


def _in_order(names) -> list[str]:
    return [str(name) for name in (names.values() if isinstance(names, dict) else names)]


def _excerpt(names) -> str:
    names = _in_order(names)
    return ", ".join(names[:3]) + (", .." if len(names) > 3 else "")


class EnsemblePredictor(Predictor):
    """Several models of the same classes as one: their decoded boxes go into one suppression (`graftdet.models.inference.ensemble`)."""

    def __init__(self, models: list[Predictor]):
        self._together = Ensemble(models)
        sizes = {tuple(model.fixed_size) for model in models if model.fixed_size}
        if len(sizes) > 1:
            raise UserError(f"ensemble: these models were exported for different sizes: {sorted(sizes)}")
        self.names, self.stride = models[0].names, self._together.stride
        self.names_known = any(model.names_known for model in models)
        self.fixed_size = sizes.pop() if sizes else None
        self.train_size, self.square_letterbox = models[0].train_size, any(model.square_letterbox for model in models)
        self.backend = ", ".join(dict.fromkeys(model.backend for model in models))
        self.device = getattr(models[0], "device", "cpu")  # where pictures are best put

    def __call__(self, images):
        return self._together(images)
