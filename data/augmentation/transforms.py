"""Augmentation of images and boxes: geometry as one matrix, color, mixup. NumPy and OpenCV, no torch.

Images are (H, W, 3) BGR uint8, boxes (n, 4) float32 xyxy in pixels, in continuous coordinates (the top left pixel
covers 0 to 1). Every function takes its random generator, so the caller decides what a draw depends on. Values and
order follow the published YOLOv5 recipe; mixup is Zhang et al. 2018 (arXiv:1710.09412).
"""

import math

import cv2
import numpy as np

from graftdet.data.augmentation.canvas import Canvas
from graftdet.utils.hyperparameters import Hyperparameters
from graftdet.utils.images.letterbox import GRAY, to_chw

Tile = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Image (h, w, 3) BGR uint8, boxes (n, 4) float32 xyxy in pixels, labels (n,)."""

FILL_BGR = (GRAY,) * 3
ALL_VALUES = np.arange(256)


def jitter_matrix(
    rng: np.random.Generator, recipe: Hyperparameters, source: tuple[int, int], out: tuple[float, float]
) -> tuple[np.ndarray, float]:
    """Draw a random affine or perspective transform.

    Without jitter the center of the source lands on the center of the output, at scale 1.

    Args:
        rng: the random generator.
        recipe: ranges: degrees, translate, scale, shear, perspective.
        source: shape (h, w) of the source image.
        out: shape (h, w) of the output.

    Returns:
        (matrix (3, 3) from source to output coordinates, its scale).
    """
    draws = 2 * rng.random(8) - 1  # perspective x, y, angle, scale, shear x, y, translation x, y
    scale = float(1 + draws[3] * recipe.scale)
    x, y = (0.5 + draws[6:] * recipe.translate) * (out[1], out[0])  # of the center
    if not (recipe.degrees or recipe.shear or recipe.perspective):
        shift = x - scale * source[1] / 2, y - scale * source[0] / 2
        return np.array([[scale, 0, shift[0]], [0, scale, shift[1]], [0, 0, 1.0]]), scale
    to_center = np.array([[1, 0, -source[1] / 2], [0, 1, -source[0] / 2], [0, 0, 1]])
    perspective = np.eye(3)
    perspective[2, :2] = draws[:2] * recipe.perspective
    angle = math.radians(draws[2] * recipe.degrees)
    cos, sin = scale * math.cos(angle), scale * math.sin(angle)
    rotation = np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]])
    shear = np.eye(3)
    shear[[0, 1], [1, 0]] = np.tan(np.radians(draws[4:6] * recipe.shear))
    translation = np.array([[1, 0, x], [0, 1, y], [0, 0, 1]])
    return translation @ shear @ rotation @ perspective @ to_center, scale


def flip_matrix(rng: np.random.Generator, recipe: Hyperparameters, out: tuple[int, int]) -> np.ndarray:
    """Draw a random flip, left-right and up-down, of an image of shape `out` (h, w): matrix (3, 3)."""
    left_right, up_down = rng.random(2) < (recipe.fliplr, recipe.flipud)
    matrix = np.eye(3)
    if left_right:
        matrix[0, 0], matrix[0, 2] = -1, out[1]
    if up_down:
        matrix[1, 1], matrix[1, 2] = -1, out[0]
    return matrix


def warp(image: np.ndarray, matrix: np.ndarray, out: tuple[int, int]) -> np.ndarray:
    """Warp an image onto a gray background.

    Args:
        image: (H, W, 3) uint8.
        matrix: (3, 3) from source to output, in continuous coordinates.
        out: shape (h, w) of the output.

    Returns:
        A new image (h, w, 3) uint8.
    """
    if image.shape[:2] == tuple(out) and np.allclose(matrix, np.eye(3)):
        return image.copy()
    to_pixels = np.array([[1, 0, -0.5], [0, 1, -0.5], [0, 0, 1]])  # OpenCV's origin is the middle of the first pixel
    matrix = to_pixels @ matrix @ np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
    if matrix[2, 0] or matrix[2, 1]:
        return cv2.warpPerspective(image, matrix, (out[1], out[0]), borderValue=FILL_BGR)
    return cv2.warpAffine(image, matrix[:2], (out[1], out[0]), borderValue=FILL_BGR)


def warp_boxes(boxes: np.ndarray, matrix: np.ndarray, out: tuple[int, int]) -> np.ndarray:
    """Return the bounding boxes of the warped corners, clipped to the output.

    A box that a strong perspective puts behind the camera, even in part, gets no area.

    Args:
        boxes: (n, 4) xyxy in pixels of the source.
        matrix: (3, 3) from source to output.
        out: shape (h, w) of the output.

    Returns:
        Boxes (n, 4) float32 xyxy in pixels of the output.
    """
    corners = np.ones((len(boxes), 4, 3))
    corners[:, :, :2] = boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2)
    corners = corners @ matrix.T  # (n, 4, 3)
    in_front = (corners[..., 2] > 1e-6).all(1)  # (n,)
    points = corners[..., :2] / np.where(in_front[:, None, None], corners[..., 2:], np.inf)
    warped = np.concatenate((points.min(1), points.max(1)), 1) if len(boxes) else np.zeros((0, 4))
    return clip_boxes(warped.astype(np.float32), out)


def clip_boxes(boxes: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Clip xyxy boxes (n, 4) to an image of `shape` (h, w). Returns a new array."""
    height, width = shape
    return np.minimum(np.maximum(boxes, 0), np.array([width, height, width, height], dtype=boxes.dtype))


def remaining_boxes(
    before: np.ndarray, after: np.ndarray, min_side: float = 2, min_area: float = 0.1, max_aspect: float = 100
) -> np.ndarray:
    """Select the boxes that are still worth training on after a transform.

    Args:
        before: boxes (n, 4) xyxy at their new scale, before clipping.
        after: boxes (n, 4) xyxy after the transform and clipping.
        min_side: both sides must be longer, in pixels.
        min_area: fraction of the area that must remain.
        max_aspect: limit of the ratio of the longer to the shorter side.

    Returns:
        bool (n,).
    """
    old = np.maximum(before[:, 2:] - before[:, :2], 0).T  # (2, n)
    new = np.maximum(after[:, 2:] - after[:, :2], 0).T
    eps = 1e-16
    short, long = np.minimum(*new), np.maximum(*new)
    area_ratio = short * long / (old[0] * old[1] + eps)
    return (short > min_side) & (area_ratio > min_area) & (long / (short + eps) < max_aspect)


def jitter(
    canvas: Canvas, rng: np.random.Generator, recipe: Hyperparameters, out: tuple[int, int], zoom: float = 1.0
) -> Tile:
    """Apply a random affine or perspective transform, random flips and a fixed zoom in one step.

    A transform that only scales and shifts draws each image of the canvas where it is visible (`Canvas.draw_scaled`);
    any other warps the whole canvas.

    Args:
        canvas: images and boxes.
        rng: the random generator.
        recipe: ranges of the transform and probabilities of the flips.
        out: shape (h, w) of the output.
        zoom: fixed scale factor.

    Returns:
        (image (h, w, 3) uint8, boxes (m, 4) float32 xyxy, labels (m,)), without the boxes that are mostly outside (see
        `remaining_boxes`).
    """
    matrix, scale = jitter_matrix(rng, recipe, canvas.shape, (out[0] / zoom, out[1] / zoom))
    flip = flip_matrix(rng, recipe, out)
    matrix[:2] *= zoom
    scales_only = not (matrix[0, 1] or matrix[1, 0] or matrix[2, 0] or matrix[2, 1])
    if scales_only and matrix[0, 0] > 0.01:
        image, boxes = canvas.draw_scaled(float(matrix[0, 0]), (float(matrix[0, 2]), float(matrix[1, 2])), out)
        image, boxes = apply_flip(image, boxes, flip)
        boxes = clip_boxes(boxes, out)
    else:
        image = warp(canvas.draw(), flip @ matrix, out)
        boxes = warp_boxes(canvas.boxes, flip @ matrix, out)
    remaining = remaining_boxes(canvas.boxes * (scale * zoom), boxes)
    return image, boxes[remaining], canvas.labels[remaining]


def apply_flip(image: np.ndarray, boxes: np.ndarray, flip: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Flip an image and its boxes.

    Args:
        image: (H, W, 3) uint8.
        boxes: (n, 4) xyxy in pixels.
        flip: matrix (3, 3) of `flip_matrix`.

    Returns:
        (image, boxes (n, 4) float32).
    """
    left_right, up_down = flip[0, 0] < 0, flip[1, 1] < 0
    if left_right or up_down:
        image = cv2.flip(image, -1 if left_right and up_down else int(left_right))
    if left_right:
        boxes = np.stack((flip[0, 2] - boxes[:, 2], boxes[:, 1], flip[0, 2] - boxes[:, 0], boxes[:, 3]), 1)
    if up_down:
        boxes = np.stack((boxes[:, 0], flip[1, 2] - boxes[:, 3], boxes[:, 2], flip[1, 2] - boxes[:, 1]), 1)
    return image, boxes.astype(np.float32)


def draw_hsv_gains(rng: np.random.Generator, recipe: Hyperparameters) -> np.ndarray:
    """Draw the factors of hue, saturation and value: 1 + uniform(-1, 1) * (hsv_h, hsv_s, hsv_v), (3,)."""
    return 1 + rng.uniform(-1, 1, 3) * (recipe.hsv_h, recipe.hsv_s, recipe.hsv_v)


def hsv_jitter(image: np.ndarray, gains: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """Scale hue, saturation and value, and convert the image to RGB.

    `graftdet.utils.training.acceleration.color_jitter.scale_hsv` does the same to a batch on any device.

    Args:
        image: (h, w, 3) BGR uint8.
        gains: factors (3,) of hue, saturation and value.
        out: array (3, h, w) uint8 for the result, perhaps a view of an array (h, w, 3); None for a new one.

    Returns:
        (3, h, w) RGB uint8.
    """
    out = np.empty((3, *image.shape[:2]), dtype=np.uint8) if out is None else out
    if np.all(gains == 1):
        return to_chw(image, out)
    hue = (ALL_VALUES * gains[0] % 180).astype(np.uint8)  # OpenCV's hue is 0 to 179
    saturation, value = (np.minimum(ALL_VALUES * gain, 255).astype(np.uint8) for gain in gains[1:])
    image = cv2.cvtColor(image, cv2.COLOR_BGR2HSV)
    planes = cv2.split(image)
    for plane, table in zip(planes, (hue, saturation, value), strict=True):
        cv2.LUT(plane, table, dst=plane)
    image = cv2.merge(planes, dst=image)
    if out.flags.c_contiguous:
        cv2.split(cv2.cvtColor(image, cv2.COLOR_HSV2RGB), list(out))
    else:
        cv2.cvtColor(image, cv2.COLOR_HSV2RGB, dst=out.transpose(1, 2, 0))
    return out


def mixup(tile: Tile, other: Tile, rng: np.random.Generator) -> Tile:
    """Blend two images of one shape with a ratio drawn from Beta(32, 32); the boxes of both remain valid."""
    ratio = rng.beta(32.0, 32.0)
    image = cv2.addWeighted(tile[0], ratio, other[0], 1 - ratio, 0)
    return image, np.concatenate((tile[1], other[1])), np.concatenate((tile[2], other[2]))
