"""Images of circles, squares and triangles, which a detector learns in minutes on a CPU.

Images vary in size, background, light and noise; shapes vary in size, tint and rotation and partly occlude each other.
Thin crosses of any color are distractors, not objects. Each class has its own hue, so that little training is enough.
"""

from pathlib import Path

import cv2
import numpy as np

from graftdet.data.synthetic.generator import Generator, SyntheticImage
from graftdet.utils.images.video import VideoWriter

MIN_SIDE, MAX_SIDE = 128, 208  # of the images, in pixels
MAX_SHAPES = 4
MIN_VISIBLE = 0.6  # fraction of each shape that stays visible; a shape that would hide more is not drawn


class ShapesGenerator(Generator):
    """Draws 1 to `MAX_SHAPES` shapes per image."""

    names = ("circle", "square", "triangle")

    def draw(self, rng: np.random.Generator) -> SyntheticImage:
        """Draw one image."""
        height, width = (int(side) for side in rng.integers(MIN_SIDE, MAX_SIDE + 1, 2))
        image = _background(height, width, rng)
        for _ in range(rng.integers(0, 4)):
            _draw_cross(image, rng)
        visible_shape = np.full((height, width), -1, np.int8)  # index of the shape that each pixel shows
        labels, full_areas = [], []
        for _ in range(rng.integers(1, MAX_SHAPES + 1)):
            label = int(rng.integers(len(self.names)))
            mask = _random_mask(label, height, width, rng)
            inside = mask > 127
            updated = np.where(inside, len(labels), visible_shape)
            visible_areas = [int((updated == index).sum()) for index in range(len(labels) + 1)]
            new_full_areas = [*full_areas, int(inside.sum())]
            if all(
                area >= MIN_VISIBLE * full_area for area, full_area in zip(visible_areas, new_full_areas, strict=True)
            ):
                _paint(image, mask, _class_color(label, rng), rng)
                visible_shape, full_areas = updated, new_full_areas
                labels.append(label)
        boxes, areas = _visible_boxes(visible_shape, len(labels))
        noise = rng.normal(0, rng.uniform(0, 8), image.shape)
        return SyntheticImage(np.clip(image + noise, 0, 255).astype(np.uint8), labels, boxes, areas)


def _visible_boxes(visible_shape: np.ndarray, count: int) -> tuple[list[list[int]], list[int]]:
    """(boxes xywh, areas) of the visible pixels of each shape."""
    boxes, areas = [], []
    for index in range(count):
        rows, columns = np.nonzero(visible_shape == index)
        left, top = int(columns.min()), int(rows.min())
        boxes.append([left, top, int(columns.max()) + 1 - left, int(rows.max()) + 1 - top])
        areas.append(len(rows))
    return boxes, areas


def _background(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """(H, W, 3) float32: a gradient between two similar, slightly tinted grays, with soft blotches."""
    start = rng.uniform(30, 225) + rng.uniform(-12, 12, 3)
    end = np.clip(start + rng.uniform(-40, 40) + rng.uniform(-8, 8, 3), 0, 255)
    angle = rng.uniform(0, 2 * np.pi)
    ys, xs = np.mgrid[0:height, 0:width].astype(np.float32)
    gradient = xs / width * np.cos(angle) + ys / height * np.sin(angle)
    gradient = (gradient - gradient.min()) / (gradient.max() - gradient.min())
    image = start + (end - start) * gradient[..., None]
    blotches = np.repeat(rng.normal(0, 12, (6, 6, 1)), 3, 2).astype(np.float32)
    image = image + cv2.resize(blotches, (width, height), interpolation=cv2.INTER_CUBIC)
    return image.astype(np.float32)


def _draw_cross(image: np.ndarray, rng: np.random.Generator) -> None:
    """Draw a thin cross, which is not an object, into `image`."""
    height, width = image.shape[:2]
    x, y, arm = int(rng.integers(width)), int(rng.integers(height)), int(rng.integers(5, 20))
    color = rng.uniform(0, 255, 3).tolist()
    cv2.line(image, (x - arm, y), (x + arm, y), color, 2)
    cv2.line(image, (x, y - arm), (x, y + arm), color, 2)


def _random_mask(label: int, height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """(H, W) uint8 antialiased mask of a shape of random size, position and rotation."""
    radius = rng.uniform(0.14, 0.32) * min(height, width)
    x, y = rng.uniform(radius, width - radius), rng.uniform(radius, height - radius)
    angle = rng.uniform(0, 2 * np.pi) if label else 0.0
    return _mask(label, height, width, x, y, radius, angle)


def _mask(label: int, height: int, width: int, x: float, y: float, radius: float, angle: float) -> np.ndarray:
    """(H, W) uint8 mask of the shape in the circle of `radius` around (x, y), rotated by `angle` radians."""
    mask = np.zeros((height, width), np.uint8)
    if label == 0:
        center = (round(x * 16), round(y * 16))
        cv2.circle(mask, center, round(radius * 16), 255, -1, cv2.LINE_AA, 4)
        return mask
    corners = 4 if label == 1 else 3
    angles = angle + np.arange(corners) * 2 * np.pi / corners
    points = np.stack([x + radius * np.cos(angles), y + radius * np.sin(angles)], 1)
    cv2.fillPoly(mask, [np.round(points * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
    return mask


def _class_color(label: int, rng: np.random.Generator) -> np.ndarray:
    """A strong color (3,) BGR near the hue of the class."""
    hue = (60 * label + rng.uniform(-14, 14)) % 180  # OpenCV's hue is 0 to 179
    pixel = np.array([[[hue, rng.uniform(150, 255), rng.uniform(120, 255)]]], np.uint8)
    return cv2.cvtColor(pixel, cv2.COLOR_HSV2BGR)[0, 0].astype(np.float64)


def _paint(image: np.ndarray, mask: np.ndarray, color: np.ndarray, rng: np.random.Generator) -> None:
    """Blend a color, shaded from left to right, into `image` where the mask is set."""
    width = mask.shape[1]
    shade = np.linspace(-1, 1, width, dtype=np.float32)[None, :, None] * rng.uniform(-25, 25)
    alpha = mask[..., None].astype(np.float32) / 255
    image[:] = image * (1 - alpha) + (color + shade).astype(np.float32) * alpha


def draw_video(path: str | Path, frames: int = 60, seed: int = 0) -> Path:
    """Write a short video of one circle, square and triangle that move and rotate.

    Args:
        path: the file to write; the suffix may change with the codec (see `VideoWriter`).
        frames: number of frames.
        seed: another seed gives another video.

    Returns:
        The path of the written file.
    """
    rng = np.random.default_rng([seed, 99])
    height, width = 192, 256
    background = _background(height, width, rng)
    radii, rotations = rng.uniform(28, 44, 3), rng.uniform(-0.06, 0.06, 3)
    starts, speeds = rng.uniform(0, 1, (3, 2)), rng.uniform(0.008, 0.02, (3, 2))
    colors = [_class_color(label, rng) for label in range(len(ShapesGenerator.names))]
    with VideoWriter(path) as writer:
        for frame in range(frames):
            image = background.copy()
            for label, radius in enumerate(radii):
                position = np.abs((starts[label] + frame * speeds[label]) % 2 - 1)  # back and forth between the edges
                x, y = radius + position * (np.array([width, height]) - 2 * radius)
                mask = _mask(label, height, width, x, y, radius, frame * rotations[label])
                _paint(image, mask, colors[label], np.random.default_rng([seed, label]))
            writer.write(np.clip(image, 0, 255).astype(np.uint8))
    return writer.path
