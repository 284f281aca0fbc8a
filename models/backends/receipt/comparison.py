"""A model and its exported file, run side by side on the same images."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from graftdet.models.backends import ExportError, ExportOptions
from graftdet.models.backends.receipt.matching import Matches, match_detections
from graftdet.models.backends.receipt.verify import noise_images, relative_difference
from graftdet.models.inference.detections import Detections
from graftdet.models.inference.predictor import Predictor
from graftdet.utils.images.letterbox import letterbox, to_chw

CONFS = (0.25, 0.1, 0.05, 0.01)  # the first with which the reference detects enough is used
ENOUGH_BOXES = 5


class Reference(Predictor):
    """A model run by torch in float32 as it is, neither fused nor re-parameterized.

    Args:
        model: the `DetectionModel`, in eval mode on the CPU.
        fixed_size: see `Predictor`.
    """

    def __init__(self, model: Any, fixed_size: tuple[int, int] | None = None):
        self.model, self.fixed_size = model, fixed_size
        self.names, self.stride, self.needs_nms = list(model.names), model.size_multiple, model.needs_nms

    def forward(self, images: Any) -> tuple[np.ndarray, np.ndarray]:
        """RGB (B, 3, H, W), uint8 0..255 or float 0..1 -> boxes (B, N, 4), scores (B, N, nc)."""
        import torch

        tensor = torch.from_numpy(np.ascontiguousarray(images))
        scale = 1 / 255 if tensor.dtype == torch.uint8 else 1
        with torch.inference_mode():
            boxes, scores = self.model(tensor.float() * scale)
        return boxes.numpy(), scores.numpy()


def compare(
    model: Any, exported: Any, options: ExportOptions, images: Sequence[np.ndarray], path: str | Path = "the model"
) -> dict[str, Any]:
    """Run a file and its model side by side.

    Args:
        model: the `DetectionModel`, in eval mode on the CPU.
        exported: the file as its backend loads it.
        options: what it was exported with.
        images: (H, W, C) uint8 BGR, real ones where possible; drawn ones are used where there are none.
        path: the file, for messages.

    Returns:
        The fields "inputs", "difference", "conf", "boxes" and "matched" of a `Receipt`.

    Raises:
        ExportError: the model's own output is not finite.
    """
    reference = Reference(model, exported.fixed_size)
    images = list(images) or [_as_image(image) for image in noise_images(4, options.size, 3)]
    sizes = [options.size]
    batches = [exported.fixed_batch] if exported.fixed_batch else [1, 2]
    if options.dynamic:
        sizes.append((options.size[0] + model.size_multiple, options.size[1] + model.size_multiple))
    inputs, worst = [], 0.0
    for size, count in zip(sizes * 2, batches * 2, strict=False):
        batch = _batch(images, count, size, model.channels)
        inputs.append(list(batch.shape))
        expected, found = reference.forward(batch), exported.forward(batch)
        if not all(np.isfinite(array).all() for array in expected):
            raise ExportError(path, "the model's own output contains NaN or infinity; did its training diverge?")
        if options.output != "nms":
            worst = max(worst, *map(relative_difference, found, expected))
    conf, parts = CONFS[0], []
    for size in sizes if model.channels == 3 else ():  # `predict` takes color images
        conf, part = _compare_detections(reference, exported, options, images, size)
        parts.append(part)
    if options.output == "nms":
        differences = [max(part.box_difference / max(options.size), part.score_difference) for part in parts]
        worst = max(differences, default=0.0)
    boxes, matched = sum(part.boxes for part in parts), sum(part.matched for part in parts)
    return {"inputs": inputs, "difference": worst, "conf": conf, "boxes": boxes, "matched": matched}


def _compare_detections(
    reference: Predictor,
    exported: Predictor,
    options: ExportOptions,
    images: Sequence[np.ndarray],
    size: tuple[int, int],
) -> tuple[float, Matches]:
    """The lowest score compared, and the matches."""
    everything = _detections(reference, images, CONFS[-1], options.iou, size, 1)
    enough = [c for c in CONFS if sum(int((detections.scores > c).sum()) for detections in everything) >= ENOUGH_BOXES]
    conf = max([*enough[:1], CONFS[-1]])
    expected = _detections(reference, images, conf, options.iou, size, 1)
    return conf, match_detections(expected, _detections(exported, images, conf, options.iou, size, 2))


def _detections(
    model: Predictor, images: Sequence[np.ndarray], conf: float, iou: float, size: tuple[int, int], batch_size: int
) -> list[Detections]:
    return list(model.predict(list(images), conf=conf, iou=iou, imgsz=size, batch_size=batch_size))


def _as_image(noise: np.ndarray) -> np.ndarray:
    """(3, H, W) in 0..1 -> (H, W, 3) uint8."""
    return np.ascontiguousarray((255 * noise).astype(np.uint8).transpose(1, 2, 0))


def _batch(images: Sequence[np.ndarray], count: int, size: tuple[int, int], channels: int) -> np.ndarray:
    """The first images letterboxed into `size`, (count, C, H, W) float32 in 0..1."""
    if channels != 3:
        return noise_images(count, size, channels)
    chosen = [images[index % len(images)] for index in range(count)]
    return np.stack([to_chw(letterbox(image, size)[0]) for image in chosen]).astype(np.float32) / 255
