"""Letterboxing: fit an image into a rectangle without changing its aspect ratio, and map boxes back. No torch."""

import cv2
import numpy as np

GRAY = 114  # padding value of all channels, as published models are trained with


def letterbox(
    image: np.ndarray,
    size: tuple[int, int] | int,
    stride: int = 32,
    auto: bool = False,
    scale_up: bool = True,
    color: int = GRAY,
) -> tuple[np.ndarray, float, tuple[float, float]]:
    """Scale `image` to fit into `size` and pad it, centered.

    Args:
        image: (H, W, 3) uint8.
        size: (height, width), or one number for a square.
        stride: Each side becomes a multiple of it with `auto`.
        auto: Pad to the next multiples of `stride` only, instead of to `size`.
        scale_up: If False, images smaller than `size` are padded but not enlarged.
        color: Padding value of all channels.

    Returns:
        The image (h, w, 3), the gain and the padding (left, top). In continuous coordinates (the top left pixel covers
        0..1), x' = x * gain + left and y' = y * gain + top, except for the rounding of the resized sides, which
        `unletterbox` corrects. `cv2.resize` aligns the outer edges of both grids in the same way.
    """
    height, width = (size, size) if isinstance(size, int) else size
    gain = min(height / image.shape[0], width / image.shape[1])
    if not scale_up:
        gain = min(gain, 1.0)
    image = resize(image, gain)
    if auto:  # remove the largest multiples of stride from the padding
        height -= (height - image.shape[0]) // stride * stride
        width -= (width - image.shape[1]) // stride * stride
    image, pad = pad_to(image, (height, width), color)
    return image, float(gain), pad


def resize(image: np.ndarray, gain: float) -> np.ndarray:
    """Scale (H, W, 3) by `gain`, sides rounded. Below 0.5 by area averaging: linear sampling would alias."""
    height, width = (max(round(side * gain), 1) for side in image.shape[:2])
    if (height, width) == image.shape[:2]:
        return image
    method = cv2.INTER_AREA if gain < 0.5 else cv2.INTER_LINEAR
    return cv2.resize(image, (width, height), interpolation=method)


def pad_to(image: np.ndarray, shape: tuple[int, int], color: int = GRAY) -> tuple[np.ndarray, tuple[float, float]]:
    """Center an image on a canvas.

    Args:
        image: (H, W, C) uint8.
        shape: (height, width) of the canvas, at least those of the image.
        color: Value of the padding.

    Returns:
        The canvas, and (left, top), where the image is on it.
    """
    height, width = image.shape[:2]
    top, left = (shape[0] - height) // 2, (shape[1] - width) // 2
    if (height, width) == tuple(shape):
        return image, (0.0, 0.0)
    canvas = np.full((shape[0], shape[1], image.shape[2]), color, dtype=np.uint8)
    canvas[top : top + height, left : left + width] = image
    return canvas, (float(left), float(top))


def unletterbox(
    boxes_xyxy: np.ndarray, gain: float, pad: tuple[float, float], shape: tuple[int, int], clip: bool = True
) -> np.ndarray:
    """Map boxes of a letterboxed image to the original image.

    Each side is divided by its real scale, whole pixels over whole pixels. With `gain` itself, boxes far from the
    origin would be off by up to half a pixel of the letterboxed image.

    Args:
        boxes_xyxy: (n, 4 or more) xyxy pixels of the letterboxed image; columns after the fourth stay as they are.
        gain: Of `letterbox`.
        pad: (left, top) of `letterbox`.
        shape: (height, width) of the original image.
        clip: Clip the boxes to it.

    Returns:
        A new float array of the same shape, in pixels of the original image.
    """
    boxes = np.array(boxes_xyxy, dtype=np.result_type(np.asarray(boxes_xyxy).dtype, np.float32))
    height, width = shape
    gain_x, gain_y = (max(round(side * gain), 1) / side for side in (width, height))
    boxes[:, [0, 2]] = (boxes[:, [0, 2]] - pad[0]) / gain_x
    boxes[:, [1, 3]] = (boxes[:, [1, 3]] - pad[1]) / gain_y
    return clip_to(boxes, shape) if clip else boxes


def clip_to(boxes_xyxy: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Clip boxes (n, 4 or more) xyxy in place to an image of `shape` (height, width); returns them."""
    height, width = shape
    np.clip(boxes_xyxy[:, :4], 0, (width, height, width, height), out=boxes_xyxy[:, :4])
    return boxes_xyxy


def to_chw(image: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """(H, W, 3) BGR -> (3, H, W) RGB, a new contiguous array, or `out`, which may be a view of an array (H, W, 3)."""
    out = np.empty((3, *image.shape[:2]), dtype=image.dtype) if out is None else out
    if out.flags.c_contiguous:
        cv2.split(image, [out[2], out[1], out[0]])
    else:
        cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=out.transpose(1, 2, 0))
    return out
