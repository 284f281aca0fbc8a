"""Whether an exported file gives what the model gives."""

from pathlib import Path

import cv2
import numpy as np
from graftdet.models.backends import ExportOptions
from graftdet.utils.errors import UserError
from graftdet.utils.images.io import silence_opencv

TOLERANCE = 1e-3


def trial_pictures(count: int, size: tuple[int, int], channels: int = 3, seed: int = 0) -> np.ndarray:
    """`count` different pictures (count, channels, h, w) float32 in 0..1: coarse and fine noise with edges between."""
    random = np.random.default_rng(seed)
    pictures = np.empty((count, channels, *size), np.float32)
    for picture in pictures:
        for channel in picture:
            coarse = cv2.resize(random.random((5, 5), np.float32), size[::-1], interpolation=cv2.INTER_NEAREST)
            channel[:] = 0.7 * coarse + 0.3 * random.random(size, np.float32)
    return pictures


def relative_difference(found: np.ndarray, expected: np.ndarray) -> float:
    """The largest |a - b| / max(1, |b|) of two arrays of one shape; infinite where a number is missing."""
    if found.shape != expected.shape or not np.isfinite(found).all():
        return float("inf")
    return float((np.abs(found - expected) / np.maximum(1, np.abs(expected))).max(initial=0))


def verify(model, loaded, path: str | Path, options: ExportOptions) -> float:
    """Compare `loaded`, the exported file as its backend loads it, with `model` on two pictures; with a dynamic file
    on batches of 1 and 3, and at a second size too.

    Returns the largest |a - b| / max(1, |b|) over boxes, objectness and classes. Raises `UserError` above
    `TOLERANCE`, and for a model whose own numbers are not finite.
    """
    import torch
    from graftdet.models.backends.onnx import rows_module

    reference = rows_module(model)
    trials = [trial_pictures(2, options.size, model.channels)]
    if options.dynamic:
        other = tuple(side + model.size_multiple for side in options.size)
        trials += [trial_pictures(batch, options.size, model.channels, seed=batch) for batch in (1, 3)]
        trials.append(trial_pictures(1, other, model.channels, seed=4))
    worst = 0.0
    for images in trials:
        with torch.inference_mode():
            expected = torch.cat([reference(torch.from_numpy(image[None])) for image in images]).numpy()
        if not np.isfinite(expected).all():
            raise UserError(f"{path}: the model itself gives what are no finite numbers; did its training diverge?")
        worst = max(worst, relative_difference(loaded.rows(images), expected))
    if worst > TOLERANCE:
        raise UserError(
            f"{path}: differs from the model, largest |a-b|/max(1,|b|) is {worst:.2e}, allowed is {TOLERANCE:.0e}"
        )
    return worst


def opencv_difference(loaded, path: str | Path, options: ExportOptions) -> float | None:
    """The same difference between OpenCV's dnn module and `loaded` on one batch; None where dnn cannot read the file.

    OpenCV 5 reads dynamic files too; OpenCV 4 reads files of one size alone, and no transformer rows.
    """
    images = trial_pictures(options.batch, options.size, channels=loaded.channels)
    silence_opencv()
    try:
        net = cv2.dnn.readNetFromONNX(np.frombuffer(Path(path).read_bytes(), np.uint8))
        net.setInput(images)
        return relative_difference(net.forward(), loaded.rows(images))
    except cv2.error:
        return None
