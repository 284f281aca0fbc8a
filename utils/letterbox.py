"""A picture into a rectangle without changing its aspect, and boxes back out of it. NumPy and OpenCV only."""

import cv2
import numpy as np


def letterbox(
    image: np.ndarray,
    size: tuple[int, int] | int,
    stride: int = 32,
    auto: bool = False,
    scale_up: bool = True,
    colour: int = 114,
) -> tuple[np.ndarray, float, tuple[float, float]]:
    """Fit `image` (H, W, 3) into `size` (h, w) and fill the rest with grey; `auto` keeps only the fill that brings
    each side to a multiple of `stride`. `scale_up=False` never enlarges.

    Returns (picture, gain, (left, top)) with x' = x * gain + left and y' = y * gain + top in continuous coordinates
    (the top left pixel covers 0..1). `cv2.resize` aligns the outer edges of both grids in the same way.
    """
    height, width = (size, size) if isinstance(size, int) else size
    gain = min(height / image.shape[0], width / image.shape[1])
    if not scale_up:
        gain = min(gain, 1.0)
    new_w, new_h = (max(round(side * gain), 1) for side in (image.shape[1], image.shape[0]))
    fill_w, fill_h = width - new_w, height - new_h
    if auto:
        fill_w, fill_h = fill_w % stride, fill_h % stride
    if (new_h, new_w) != image.shape[:2]:
        method = cv2.INTER_AREA if gain < 0.5 else cv2.INTER_LINEAR  # strong shrinking aliases without area
        image = cv2.resize(image, (new_w, new_h), interpolation=method)
    left, top = fill_w // 2, fill_h // 2
    if fill_w or fill_h:
        canvas = np.full((new_h + fill_h, new_w + fill_w, image.shape[2]), colour, dtype=np.uint8)
        canvas[top : top + new_h, left : left + new_w] = image
        image = canvas
    return image, float(gain), (float(left), float(top))


def unletterbox(
    boxes_xyxy: np.ndarray, gain: float, pad: tuple[float, float], shape: tuple[int, int]
) -> np.ndarray:
    """Map boxes (n, 4+) of a letterboxed picture back to the picture it came from, `shape` (h0, w0), clipped to it.

    Columns after the fourth are kept. Returns a new float array.
    """
    boxes = np.array(boxes_xyxy, dtype=np.result_type(np.asarray(boxes_xyxy).dtype, np.float32))
    boxes[:, [0, 2]] = np.clip((boxes[:, [0, 2]] - pad[0]) / gain, 0, shape[1])
    boxes[:, [1, 3]] = np.clip((boxes[:, [1, 3]] - pad[1]) / gain, 0, shape[0])
    return boxes


def to_chw(image: np.ndarray) -> np.ndarray:
    """(H, W, 3) BGR -> (3, H, W) RGB, contiguous."""
    return np.ascontiguousarray(image[..., ::-1].transpose(2, 0, 1))
