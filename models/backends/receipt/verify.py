"""Verification: whether an exported file computes what the model computes."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np

from graftdet.models.backends import ExportError, ExportOptions
from graftdet.utils.images.io import silence_opencv

TOLERANCE = 1e-3


def noise_images(count: int, size: tuple[int, int], channels: int = 3, seed: int = 0) -> np.ndarray:
    """Random images of coarse and fine noise with edges, each different.

    Args:
        count: number of images.
        size: (height, width).
        channels: channels of an image.
        seed: seed of the random numbers.

    Returns:
        (count, channels, h, w) float32 in 0..1.
    """
    random = np.random.default_rng(seed)
    images = np.empty((count, channels, *size), np.float32)
    for image in images:
        for channel in image:
            coarse = cv2.resize(random.random((5, 5), np.float32), size[::-1], interpolation=cv2.INTER_NEAREST)
            channel[:] = 0.7 * coarse + 0.3 * random.random(size, np.float32)
    return images


def relative_difference(output: np.ndarray, expected: np.ndarray) -> float:
    """The largest |a - b| / max(1, |b|); infinite for arrays of different shapes or numbers that are not finite."""
    if output.shape != expected.shape or not np.isfinite(output).all():
        return float("inf")
    return float((np.abs(output - expected) / np.maximum(1, np.abs(expected))).max(initial=0))


def verify(model: Any, exported: Any, path: str | Path, options: ExportOptions) -> float:
    """Compare an exported file with its model on two images; a dynamic file also at other batch sizes and sizes.

    Args:
        model: the `DetectionModel`.
        exported: the file as its backend loads it, an `ExportedModel`.
        path: the file, for messages.
        options: what it was exported with.

    Returns:
        The largest `relative_difference` of boxes and scores.

    Raises:
        ExportError: the difference exceeds `TOLERANCE`, or the model's own output is not finite.
    """
    import torch

    from graftdet.models.backends.tracing.export_module import ExportModule

    reference = ExportModule(model).detector
    batches = [noise_images(2, options.size, model.channels)]
    if options.dynamic:
        other_size = tuple(side + model.size_multiple for side in options.size)
        batches += [noise_images(count, options.size, model.channels, seed=count) for count in (1, 3)]
        batches.append(noise_images(1, other_size, model.channels, seed=4))
    worst = 0.0
    for images in batches:
        with torch.inference_mode():
            expected = [torch.cat(parts).numpy() for parts in zip(*map(reference, _single(images)), strict=True)]
        if not all(np.isfinite(array).all() for array in expected):
            raise ExportError(path, "the model's own output contains NaN or infinity; did its training diverge?")
        worst = max(worst, *map(relative_difference, exported.forward(images), expected))
    if worst > TOLERANCE:
        raise ExportError(
            path, f"differs from the model, largest |a-b|/max(1,|b|) is {worst:.2e}, allowed is {TOLERANCE:.0e}"
        )
    return worst


def _single(images: np.ndarray) -> list[Any]:
    """Images (B, C, H, W) as tensors (1, C, H, W)."""
    import torch

    return [torch.from_numpy(image[None]) for image in images]


def opencv_difference(exported: Any, path: str | Path, options: ExportOptions) -> float | None:
    """The `relative_difference` of OpenCV's dnn module to `exported` on one batch; None where dnn cannot load the file.

    OpenCV 5 loads dynamic files, too; OpenCV 4 only files of a fixed size, and no transformer rows.
    """
    images = noise_images(options.batch_size, options.size, channels=exported.channels)
    silence_opencv()
    try:
        net = cv2.dnn.readNetFromONNX(np.frombuffer(Path(path).read_bytes(), np.uint8))
        net.setInput(images)
        read, expected = (
            exported.layout.decode(rows, options.size, exported.nc)
            for rows in (net.forward(), exported.predictions(images))
        )
        return max(map(relative_difference, read, expected))
    except cv2.error:
        return None
