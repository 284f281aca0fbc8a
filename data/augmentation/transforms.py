"""Augmentations of single pictures: geometry as one matrix, colour, mixing. NumPy and OpenCV, no torch.

Pictures are (H, W, 3) BGR uint8, boxes (n, 4) float32 xyxy in pixels, continuous coordinates (the top left pixel
covers 0..1). Every function takes its random generator, so the caller decides what a draw depends on. Numbers and
order follow the published YOLOv5 recipe; mixup is Zhang et al. 2018 (arXiv:1710.09412).
"""

import math

import cv2
import numpy as np
from graftdet.data.augmentation.canvas import Canvas
from graftdet.utils.images.letterbox import GRAY, to_chw

FILL = (GRAY,) * 3
RAMP = np.arange(256)


def jitter_matrix(
    rng: np.random.Generator, recipe, source: tuple[int, int], out: tuple[float, float]
) -> tuple[np.ndarray, float]:
    """Draw the matrix (3, 3) that takes a picture of shape `source` (h, w) to one of shape `out` (h, w), jittered.

    `recipe` gives degrees, translate, scale, shear, perspective (see `graftdet.utils.hyperparameters`). Without jitter the
    centre of the source lands on the centre of the output, at scale 1. Returns (matrix, scale).
    """
    draws = 2 * rng.random(8) - 1  # tilt x, y, angle, scale, shear x, y, place x, y
    scale = float(1 + draws[3] * recipe.scale)
    x, y = (0.5 + draws[6:] * recipe.translate) * (out[1], out[0])  # of the centre
    if not (recipe.degrees or recipe.shear or recipe.perspective):
        shift = x - scale * source[1] / 2, y - scale * source[0] / 2
        return np.array([[scale, 0, shift[0]], [0, scale, shift[1]], [0, 0, 1.0]]), scale
    to_centre = np.array([[1, 0, -source[1] / 2], [0, 1, -source[0] / 2], [0, 0, 1]])
    tilt = np.eye(3)
    tilt[2, :2] = draws[:2] * recipe.perspective
    angle = math.radians(draws[2] * recipe.degrees)
    cos, sin = scale * math.cos(angle), scale * math.sin(angle)
    turn = np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]])
    shear = np.eye(3)
    shear[[0, 1], [1, 0]] = np.tan(np.radians(draws[4:6] * recipe.shear))
    place = np.array([[1, 0, x], [0, 1, y], [0, 0, 1]])
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
    """The upright boxes (n, 4) around the warped corners of `boxes` (n, 4), clipped to `out` (h, w).

    A box that a strong perspective puts behind the camera, in part or as a whole, gets no area.
    """
    corners = np.ones((len(boxes), 4, 3))
    corners[:, :, :2] = boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2)
    corners = corners @ matrix.T  # (n, 4, 3)
    ahead = (corners[..., 2] > 1e-6).all(1)  # (n,)
    points = corners[..., :2] / np.where(ahead[:, None, None], corners[..., 2:], np.inf)
    warped = np.concatenate((points.min(1), points.max(1)), 1) if len(boxes) else np.zeros((0, 4))
    return clip_boxes(warped.astype(np.float32), out)


def clip_boxes(boxes: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Clip xyxy boxes (n, 4) to a picture of `shape` (h, w). Returns a new array."""
    height, width = shape
    return np.minimum(np.maximum(boxes, 0), np.array([width, height, width, height], dtype=boxes.dtype))


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
    old = np.maximum(before[:, 2:] - before[:, :2], 0).T  # (2, n)
    new = np.maximum(after[:, 2:] - after[:, :2], 0).T
    eps = 1e-16
    short, long = np.minimum(*new), np.maximum(*new)
    share = short * long / (old[0] * old[1] + eps)
    return (short > min_side) & (share > min_area) & (long / (short + eps) < max_aspect)


def jitter(
    canvas: Canvas, rng: np.random.Generator, recipe, out: tuple[int, int], zoom: float = 1.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Affine or perspective jitter, flips and a fixed `zoom` in one go, onto shape `out` (h, w).

    Returns (picture, boxes, labels). Boxes that are lost (see `candidates`) are dropped, with their labels. A jitter
    that only scales and moves draws each picture of the canvas where it is seen (`Canvas.draw_scaled`); one that turns
    or bends warps the whole canvas.
    """
    matrix, scale = jitter_matrix(rng, recipe, canvas.shape, (out[0] / zoom, out[1] / zoom))
    flip = flip_matrix(rng, recipe, out)
    matrix[:2] *= zoom
    upright = not (matrix[0, 1] or matrix[1, 0] or matrix[2, 0] or matrix[2, 1])
    if upright and matrix[0, 0] > 0.01:
        image, boxes = canvas.draw_scaled(float(matrix[0, 0]), (float(matrix[0, 2]), float(matrix[1, 2])), out)
        image, boxes = mirror(image, boxes, flip)
        boxes = clip_boxes(boxes, out)
    else:
        image = warp(canvas.draw(), flip @ matrix, out)
        boxes = warp_boxes(canvas.boxes, flip @ matrix, out)
    keep = candidates(canvas.boxes * (scale * zoom), boxes)
    return image, boxes[keep], canvas.labels[keep]


def mirror(image: np.ndarray, boxes: np.ndarray, flip: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mirror a picture and its boxes (n, 4) as a `flip_matrix` says."""
    left_right, up_down = flip[0, 0] < 0, flip[1, 1] < 0
    if left_right or up_down:
        image = cv2.flip(image, -1 if left_right and up_down else int(left_right))
    if left_right:
        boxes = np.stack((flip[0, 2] - boxes[:, 2], boxes[:, 1], flip[0, 2] - boxes[:, 0], boxes[:, 3]), 1)
    if up_down:
        boxes = np.stack((boxes[:, 0], flip[1, 2] - boxes[:, 3], boxes[:, 2], flip[1, 2] - boxes[:, 1]), 1)
    return image, boxes.astype(np.float32)


def draw_hsv_gains(rng: np.random.Generator, recipe) -> np.ndarray:
    """Draw what hue, saturation and value are multiplied with: 1 + uniform(-1, 1) * (hsv_h, hsv_s, hsv_v), (3,)."""
    return 1 + rng.uniform(-1, 1, 3) * (recipe.hsv_h, recipe.hsv_s, recipe.hsv_v)


def hsv_jitter(image: np.ndarray, gains: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """Scale hue, saturation and value by `gains` (3,).

    (h, w, 3) BGR -> (3, h, w) RGB, a new array, or `out`: each plane is looked up and laid down once.
    `graftdet.utils.training.color_jitter.scale_hsv` does the same to a batch on any device.
    """
    out = np.empty((3, *image.shape[:2]), dtype=np.uint8) if out is None else out
    if np.all(gains == 1):
        return to_chw(image, out)
    hue = (RAMP * gains[0] % 180).astype(np.uint8)  # OpenCV keeps hue as 0..179
    saturation, value = (np.minimum(RAMP * gain, 255).astype(np.uint8) for gain in gains[1:])
    image = cv2.cvtColor(image, cv2.COLOR_BGR2HSV)
    planes = cv2.split(image, list(out))
    for plane, table in zip(planes, (hue, saturation, value), strict=True):
        cv2.LUT(plane, table, dst=plane)
    image = cv2.merge(planes, dst=image)
    image = cv2.cvtColor(image, cv2.COLOR_HSV2RGB)
    cv2.split(image, list(out))
    return out


def mixup(image: np.ndarray, other: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Blend two pictures of one shape with a share drawn from beta(32, 32); the boxes of both stay."""
    share = rng.beta(32.0, 32.0)
    return cv2.addWeighted(image, share, other, 1 - share, 0)
