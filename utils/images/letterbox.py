"""A picture into a rectangle without changing its aspect, and boxes back out of it. NumPy and OpenCV only."""

import cv2
import numpy as np

GREY = 114  # of what is filled up, in every channel, as published models know it


def letterbox(
    image: np.ndarray,
    size: tuple[int, int] | int,
    stride: int = 32,
    auto: bool = False,
    scale_up: bool = True,
    colour: int = GREY,
) -> tuple[np.ndarray, float, tuple[float, float]]:
    """Fit `image` (H, W, 3) into `size` (h, w) and fill the rest with grey; `auto` keeps only the fill that brings
    each side to a multiple of `stride`. `scale_up=False` never enlarges.

    Returns (picture, gain, (left, top)) with x' = x * gain + left and y' = y * gain + top in continuous coordinates
    (the top left pixel covers 0..1), up to the rounding of the resized sides, which `unletterbox` takes into account.
    `cv2.resize` aligns the outer edges of both grids in the same way.
    """
    height, width = (size, size) if isinstance(size, int) else size
    gain = min(height / image.shape[0], width / image.shape[1])
    if not scale_up:
        gain = min(gain, 1.0)
    image = resize(image, gain)
    if auto:  # the largest multiples of stride that can be cut away on both sides
        height -= (height - image.shape[0]) // stride * stride
        width -= (width - image.shape[1]) // stride * stride
    image, pad = pad_to(image, (height, width), colour)
    return image, float(gain), pad


def resize(image: np.ndarray, gain: float) -> np.ndarray:
    """Scale (H, W, 3) by `gain`, sides rounded. Strong shrinking averages areas, which linear sampling would alias."""
    height, width = (max(round(side * gain), 1) for side in image.shape[:2])
    if (height, width) == image.shape[:2]:
        return image
    method = cv2.INTER_AREA if gain < 0.5 else cv2.INTER_LINEAR
    return cv2.resize(image, (width, height), interpolation=method)


def pad_to(image: np.ndarray, shape: tuple[int, int], colour: int = GREY) -> tuple[np.ndarray, tuple[float, float]]:
    """Centre (H, W, 3) on a grey canvas of `shape` (h, w), at least as large. Returns (picture, (left, top))."""
    height, width = image.shape[:2]
    top, left = (shape[0] - height) // 2, (shape[1] - width) // 2
    if (height, width) == tuple(shape):
        return image, (0.0, 0.0)
    canvas = np.full((shape[0], shape[1], image.shape[2]), colour, dtype=np.uint8)
    canvas[top : top + height, left : left + width] = image
    return canvas, (float(left), float(top))


def unletterbox(boxes_xyxy: np.ndarray, gain: float, pad: tuple[float, float], shape: tuple[int, int]) -> np.ndarray:
    """Map boxes (n, 4+) of a letterboxed picture back to the picture it came from, `shape` (h0, w0), clipped to it.

    Each side is scaled by what it was resized by, whole pixels over whole pixels: with `gain` itself, boxes far from
    the origin would be off by up to half a pixel of the letterboxed picture. Columns after the fourth are kept.
    Returns a new float array.
    """
    boxes = np.array(boxes_xyxy, dtype=np.result_type(np.asarray(boxes_xyxy).dtype, np.float32))
    height, width = shape
    gain_x, gain_y = (max(round(side * gain), 1) / side for side in (width, height))
    boxes[:, [0, 2]] = np.clip((boxes[:, [0, 2]] - pad[0]) / gain_x, 0, width)
    boxes[:, [1, 3]] = np.clip((boxes[:, [1, 3]] - pad[1]) / gain_y, 0, height)
    return boxes


def to_chw(image: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """(H, W, 3) BGR -> (3, H, W) RGB, contiguous; a new array, or `out`."""
    out = np.empty((3, *image.shape[:2]), dtype=image.dtype) if out is None else out
    cv2.split(image, [out[2], out[1], out[0]])
    return out
