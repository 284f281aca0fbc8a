"""Painting of the contours dataset: backgrounds, clutter, objects, and the properties of a camera."""

import cv2
import numpy as np

from graftdet.data.synthetic.contour_classes import ContourClass, rotation_matrix
from graftdet.data.synthetic.contour_layout import SUBPIXEL_BITS, PlacedContour, subpixels
from graftdet.data.synthetic.contour_settings import ContourSettings
from graftdet.data.synthetic.tiles import (
    NOISE_BACKGROUNDS,
    NOISE_SIDE,
    NOISE_STD,
    NUM_BACKGROUNDS,
    NUM_TEXTURES,
    SIDE,
    background_tile,
    color_table,
    is_centered,
    noise_tile,
    sample_tile,
    texture_tile,
)


def paint_background(settings: ContourSettings, rng: np.random.Generator) -> np.ndarray:
    """Paint a background with clutter: (size, size, 3) uint8 BGR."""
    size = settings.image_size
    kind = settings.backgrounds[int(rng.integers(len(settings.backgrounds)))]
    if kind == "regions":
        image = _fill("noise", size, rng)
        for _ in range(int(rng.integers(1, 4))):
            mask = np.zeros((size, size), np.uint8)
            cv2.fillPoly(mask, [subpixels(_region(size, rng))], 255, cv2.LINE_8, SUBPIXEL_BITS)
            cv2.copyTo(_fill(("plain", "noise", "pattern")[int(rng.integers(3))], size, rng), mask, image)
    else:
        image = _fill(kind, size, rng)
    for _ in range(int(rng.integers(settings.clutter + 1))):
        _draw_clutter(image, rng)
    return image


def _fill(kind: str, size: int, rng: np.random.Generator) -> np.ndarray:
    """(size, size, 3) of one kind of background."""
    pattern = kind == "pattern"
    first, last = (NOISE_BACKGROUNDS, NUM_BACKGROUNDS) if pattern else (0, NOISE_BACKGROUNDS)
    tile = background_tile(int(rng.integers(first, last)))
    scale = 320 / size * np.exp(rng.uniform(-1.2, 0.5 if pattern else 0.8))
    point = tuple(rng.uniform(0.25, 0.75, 2))
    gray = sample_tile(tile, (size, size), scale, rng.uniform(0, 2 * np.pi), point, (size / 2, size / 2))
    if kind == "gradient":
        strength = rng.uniform(0, 0.35)
        gray = cv2.addWeighted(_ramp(size, size, rng), 1 - strength, gray, strength, 0)
    return _colorize(gray, color_table(rng, 0.12 if kind == "plain" else rng.uniform(0.3, 1.2)))


def _colorize(gray: np.ndarray, table: np.ndarray) -> np.ndarray:
    return cv2.LUT(cv2.cvtColor(gray, cv2.COLOR_GRAY2BGR), table)


def _ramp(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """(height, width) uint8 from 0 to 255 along a random direction."""
    angle = rng.uniform(0, 2 * np.pi)
    x = np.cos(angle) * np.linspace(-1, 1, width, dtype=np.float32)
    y = np.sin(angle) * np.linspace(-1, 1, height, dtype=np.float32)
    limit = abs(np.cos(angle)) + abs(np.sin(angle))
    return np.add.outer(y * (127.5 / limit) + 127.5, x * (127.5 / limit)).astype(np.uint8)


def _region(size: int, rng: np.random.Generator) -> np.ndarray:
    """(n, 2) corners of a half of the image, or of a large polygon."""
    if rng.random() < 0.5:
        y = rng.uniform(0.15, 0.85, 6) * size if rng.random() < 0.3 else np.full(6, rng.uniform(0.15, 0.85) * size)
        line = np.stack((np.linspace(-0.3, 1.3, 6) * size, y), 1)
        points = np.concatenate((line, [[1.3 * size, 1.4 * size], [-0.3 * size, 1.4 * size]]))
        angle = 0.15 * rng.standard_normal() if rng.random() < 0.6 else rng.uniform(0, 2 * np.pi)
    else:
        corners = int(rng.integers(3, 9))
        angles = np.sort(rng.uniform(0, 2 * np.pi, corners))
        points = np.stack((np.cos(angles), np.sin(angles)), 1) * rng.uniform(0.2, 0.8, (corners, 1)) * size
        points += rng.uniform(0, size, 2)
        angle = 0.0
    return (points - size / 2) @ rotation_matrix(angle).T + size / 2


def _draw_clutter(image: np.ndarray, rng: np.random.Generator) -> None:
    """Draw a line, rectangle, ellipse or stroke, which is no object."""
    size = image.shape[0]
    color = rng.uniform(0, 255, 3).tolist()
    kind = int(rng.integers(4))
    thickness = max(1, round(rng.uniform(0.002, 0.02) * size))
    points = rng.uniform(-0.1, 1.1, (4, 2)) * size
    start, end = (tuple(point.astype(int).tolist()) for point in points[:2])
    if kind == 0:
        cv2.line(image, start, end, color, thickness, cv2.LINE_AA)
    elif kind == 1:
        width, height = rng.uniform(0.03, 0.4, 2) * size
        opposite = (start[0] + int(width), start[1] + int(height))
        cv2.rectangle(image, start, opposite, color, -1 if rng.random() < 0.4 else thickness)
    elif kind == 2:
        axes = tuple(rng.uniform(0.02, 0.2, 2) * size)
        arc = rng.uniform(60, 360)
        cv2.ellipse(
            image, start, (int(axes[0]), int(axes[1])), rng.uniform(0, 360), 0, arc, color, thickness, cv2.LINE_AA
        )
    else:
        steps = np.linspace(0, 1, 16)[:, None]
        curve = (1 - steps) ** 3 * points[0] + 3 * steps * (1 - steps) ** 2 * points[1]
        curve += 3 * steps**2 * (1 - steps) * points[2] + steps**3 * points[3]  # a Bezier curve
        cv2.polylines(image, [subpixels(curve)], False, color, thickness, cv2.LINE_AA, SUBPIXEL_BITS)


def paint_contour(
    image: np.ndarray, placed: PlacedContour, kind: ContourClass | None, textures: bool, rng: np.random.Generator
) -> None:
    """Paint an object or distractor into the image.

    Args:
        image: (size, size, 3) uint8 BGR; is changed.
        placed: the contour.
        kind: class of an object; None for a distractor.
        textures: paint a texture and parts, not one color.
        rng: random generator.
    """
    height, width = placed.mask.shape
    crop = image[placed.top : placed.top + height, placed.left : placed.left + width]
    origin = placed.center - (placed.left, placed.top)
    table = color_table(rng, rng.uniform(0.4, 1.3))
    if np.abs(table.mean((0, 1)) - cv2.mean(crop)[:3]).max() < 30:  # hardly visible: another color, once
        table = color_table(rng, rng.uniform(0.4, 1.3))
    if textures:
        surface = _texture(placed, kind, origin, table, rng)
        if kind is not None:
            _paint_parts(surface, placed, kind, origin, rng)
    else:
        surface = np.broadcast_to(table[128], (height, width, 3)).copy()
    shadow = rng.uniform(0, 0.6)
    light = 1 - shadow * (_ramp(height, width, rng).astype(np.float32) / 255)
    surface = cv2.blendLinear(surface, np.zeros_like(surface), light, 1 - light)
    if rng.random() < 0.4:
        color = (rng.uniform(0, 255, 3) * rng.random()).tolist()
        thickness = max(1, round(placed.radius * rng.uniform(0.04, 0.12)))
        cv2.polylines(surface, [subpixels(placed.outline + origin)], True, color, thickness, cv2.LINE_AA, SUBPIXEL_BITS)
    alpha = placed.mask.astype(np.float32) * (rng.uniform(0.75, 1) / 255)
    crop[:] = cv2.blendLinear(surface, crop, alpha, 1 - alpha)


def _texture(
    placed: PlacedContour, kind: ContourClass | None, origin: np.ndarray, table: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """(h, w, 3) the texture of a contour; it scales and rotates with the object."""
    if kind is None:
        index, part, angle = int(rng.integers(NUM_TEXTURES)), rng.uniform(0.2, 0.9), rng.uniform(0, 2 * np.pi)
    else:
        index, part, angle = kind.texture, kind.texture_scale * np.exp(rng.uniform(-0.2, 0.2)), kind.texture_angle
    point = (0.5, 0.5) if is_centered(index) else tuple(rng.uniform(0.3, 0.7, 2))
    scale = part * SIDE / (2 * placed.radius)
    gray = sample_tile(texture_tile(index), placed.mask.shape, scale, placed.rotation + angle, point, tuple(origin))
    return _colorize(gray, table)


def _paint_parts(
    surface: np.ndarray, placed: PlacedContour, kind: ContourClass, origin: np.ndarray, rng: np.random.Generator
) -> None:
    """Paint nested contours and spots."""
    colors = rng.uniform(0, 255, (len(kind.rings) + 1, 3)).tolist()
    thickness = max(1, round(placed.radius / 14))
    for scale, color in zip(kind.rings, colors, strict=False):
        points = [subpixels(placed.outline * scale + origin)]
        if kind.filled_rings:
            cv2.fillPoly(surface, points, color, cv2.LINE_AA, SUBPIXEL_BITS)
        else:
            cv2.polylines(surface, points, True, color, thickness, cv2.LINE_AA, SUBPIXEL_BITS)
    for angle, distance, radius in kind.spots:
        direction = angle + placed.rotation
        center = origin + distance * placed.radius * np.array([np.cos(direction), np.sin(direction)])
        x, y = subpixels(center).tolist()
        cv2.circle(
            surface,
            (x, y),
            round(radius * placed.radius * (1 << SUBPIXEL_BITS)),
            colors[-1],
            -1,
            cv2.LINE_AA,
            SUBPIXEL_BITS,
        )


def finish_image(image: np.ndarray, settings: ContourSettings, rng: np.random.Generator) -> np.ndarray:
    """Apply changes of brightness and contrast, blur and noise: (size, size, 3) uint8."""
    strength = settings.contrast
    if strength:
        gain, gamma = 1 + rng.uniform(-strength, strength, (2, 1)), np.exp(rng.uniform(-strength, strength, (1, 3)))
        levels = (np.arange(256)[:, None] / 255) ** gamma
        levels = (levels - 0.5) * gain[0] + 0.5 + 0.3 * rng.uniform(-strength, strength)
        image = cv2.LUT(image, np.clip(levels * 255, 0, 255).astype(np.uint8)[:, None])
    if settings.blur and rng.random() < 0.3:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.2, 1) * settings.blur)
    if settings.noise:
        weight = rng.uniform(0, settings.noise) / NOISE_STD
        noise = _noise(image.shape[0], rng)
        image = cv2.addWeighted(image, 1, noise, weight, -128 * weight)
    return image


def _noise(size: int, rng: np.random.Generator) -> np.ndarray:
    """(size, size, 3) a random part of the noise tile, which is repeated for large images."""
    tile = noise_tile()
    left, top = rng.integers(NOISE_SIDE, size=2)
    if size <= NOISE_SIDE:
        return tile[top : top + size, left : left + size]
    rows, columns = np.arange(top, top + size) % NOISE_SIDE, np.arange(left, left + size) % NOISE_SIDE
    return tile.take(rows, 0).take(columns, 1)
