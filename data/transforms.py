"""Augmentations of single pictures: geometry as one matrix, colour, mixing. NumPy and OpenCV, no torch.

Pictures are (H, W, 3) BGR uint8, boxes (n, 4) float32 xyxy in pixels, continuous coordinates (the top left pixel
covers 0..1). Every function takes its random generator, so the caller decides what a draw depends on. Numbers and
order follow the published YOLOv5 recipe; mixup is Zhang et al. 2018 (arXiv:1710.09412).
"""

import math

import cv2
import numpy as np

FILL = (114, 114, 114)


def jitter_matrix(
    rng: np.random.Generator, recipe, source: tuple[int, int], out: tuple[float, float]
) -> tuple[np.ndarray, float]:
    """Draw the matrix (3, 3) that takes a picture of shape `source` (h, w) to one of shape `out` (h, w), jittered.

    `recipe` gives degrees, translate, scale, shear, perspective (see `utils.hyperparameters`). Without jitter the
    centre of the source lands on the centre of the output, at scale 1. Returns (matrix, scale).
    """
    to_centre = np.eye(3)
    to_centre[:2, 2] = -source[1] / 2, -source[0] / 2
    tilt = np.eye(3)
    tilt[2, :2] = rng.uniform(-1, 1, 2) * recipe.perspective
    angle = math.radians(rng.uniform(-1, 1) * recipe.degrees)
    scale = 1 + rng.uniform(-1, 1) * recipe.scale
    turn = np.eye(3)
    turn[0, :2] = scale * math.cos(angle), scale * math.sin(angle)
    turn[1, :2] = -scale * math.sin(angle), scale * math.cos(angle)
    shear = np.eye(3)
    shear[[0, 1], [1, 0]] = np.tan(np.radians(rng.uniform(-1, 1, 2) * recipe.shear))
    place = np.eye(3)
    place[:2, 2] = (0.5 + rng.uniform(-1, 1, 2) * recipe.translate) * (out[1], out[0])
    return place @ shear @ turn @ tilt @ to_centre, scale


def flip_matrix(rng: np.random.Generator, recipe, out: tuple[int, int]) -> np.ndarray:
    """Draw the matrix (3, 3) that mirrors a picture of shape `out` (h, w) left-right and up-down, or leaves it."""
    left_right, up_down = rng.random(2) < (recipe.fliplr, recipe.flipud)
    matrix = np.eye(3)
    if left_right:
        matrix[0, 0], matrix[0, 2] = -1, out[1]
    if up_down:
        matrix[1, 1], matrix[1, 2] = -1, out[0]
    return matrix


def warp(image: np.ndarray, matrix: np.ndarray, out: tuple[int, int]) -> np.ndarray:
    """Draw `image` through `matrix` (3, 3, continuous coordinates) onto grey of shape `out` (h, w)."""
    if image.shape[:2] == tuple(out) and np.allclose(matrix, np.eye(3)):
        return image.copy()
    to_pixels = np.array([[1, 0, -0.5], [0, 1, -0.5], [0, 0, 1]])  # OpenCV's origin is the middle of the first pixel
    matrix = to_pixels @ matrix @ np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
    if matrix[2, 0] or matrix[2, 1]:
        return cv2.warpPerspective(image, matrix, (out[1], out[0]), borderValue=FILL)
    return cv2.warpAffine(image, matrix[:2], (out[1], out[0]), borderValue=FILL)


def warp_boxes(boxes: np.ndarray, matrix: np.ndarray, out: tuple[int, int]) -> np.ndarray:
    """The upright boxes (n, 4) around the warped corners of `boxes` (n, 4), clipped to `out` (h, w)."""
    corners = np.ones((len(boxes), 4, 3))
    corners[:, :, :2] = boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2)
    corners = corners @ matrix.T  # (n, 4, 3)
    points = corners[..., :2] / corners[..., 2:]
    warped = np.concatenate((points.min(1), points.max(1)), 1) if len(boxes) else np.zeros((0, 4))
    return clip_boxes(warped.astype(np.float32), out)


def clip_boxes(boxes: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Clip xyxy boxes (n, 4) to a picture of `shape` (h, w). Returns a new array."""
    height, width = shape
    return np.clip(boxes, 0, np.array([width, height, width, height], dtype=boxes.dtype))


def candidates(
    before: np.ndarray,
    after: np.ndarray,
    min_side: float = 2,
    min_area: float = 0.1,
    max_aspect: float = 100,
) -> np.ndarray:
    """Which boxes are still worth learning after a warp: bool (n,).

    `before` (n, 4) are the boxes at their new scale but whole, `after` (n, 4) what the warp and the clipping left.
    Kept: both sides over `min_side` pixels, over `min_area` of the area left, and no side `max_aspect` times the other.
    """
    old = np.maximum(before[:, 2:] - before[:, :2], 0)
    new = np.maximum(after[:, 2:] - after[:, :2], 0)
    eps = 1e-16
    aspect = np.maximum(new[:, 0] / (new[:, 1] + eps), new[:, 1] / (new[:, 0] + eps))
    share = new.prod(1) / (old.prod(1) + eps)
    return (new > min_side).all(1) & (share > min_area) & (aspect < max_aspect)


def jitter(
    image: np.ndarray,
    boxes: np.ndarray,
    labels: np.ndarray,
    rng: np.random.Generator,
    recipe,
    out: tuple[int, int],
    zoom: float = 1.0,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Affine or perspective jitter, flips and a fixed `zoom` in one warp, onto shape `out` (h, w).

    Boxes that are lost (see `candidates`) are dropped, with their labels.
    """
    matrix, scale = jitter_matrix(rng, recipe, image.shape[:2], (out[0] / zoom, out[1] / zoom))
    matrix = flip_matrix(rng, recipe, out) @ np.diag([zoom, zoom, 1.0]) @ matrix
    warped = warp_boxes(boxes, matrix, out)
    keep = candidates(boxes * (scale * zoom), warped)
    return warp(image, matrix, out), warped[keep], labels[keep]


def hsv_jitter(image: np.ndarray, rng: np.random.Generator, recipe) -> np.ndarray:
    """Scale hue, saturation and value by 1 + uniform(-1, 1) * (hsv_h, hsv_s, hsv_v). Returns a new picture."""
    gains = 1 + rng.uniform(-1, 1, 3) * (recipe.hsv_h, recipe.hsv_s, recipe.hsv_v)
    if np.all(gains == 1):
        return image
    ramp = np.arange(256)
    hue = (ramp * gains[0] % 180).astype(np.uint8)  # OpenCV keeps hue as 0..179
    saturation, value = (np.clip(ramp * gain, 0, 255).astype(np.uint8) for gain in gains[1:])
    planes = cv2.split(cv2.cvtColor(image, cv2.COLOR_BGR2HSV))
    planes = [cv2.LUT(plane, table) for plane, table in zip(planes, (hue, saturation, value), strict=True)]
    return cv2.cvtColor(cv2.merge(planes), cv2.COLOR_HSV2BGR)


def mixup(image: np.ndarray, other: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Blend two pictures of one shape with a share drawn from beta(32, 32); the boxes of both stay."""
    share = rng.beta(32.0, 32.0)
    return cv2.addWeighted(image, share, other, 1 - share, 0)
