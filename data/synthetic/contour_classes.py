"""Classes of the contours dataset: shapes and textures that are drawn from a fixed seed, and their instances.

The outlines are radial contours, closed curves around a point (Kataoka et al., "Replacing Labeled Real-Image Datasets
with Auto-Generated Contours", CVPR 2022), nested and filled as in Shinoda et al., "SegRCDB: Semantic Segmentation via
Formula-Driven Supervised Learning", ICCV 2023. Here r(theta) is a sum of cosines per class, with a texture, and every
instance changes it a little.
"""

from dataclasses import dataclass

import numpy as np

from graftdet.data.synthetic.tiles import NUM_TEXTURES

_CLASS_SEED = 11
_POINTS = 128  # of a contour
_ANGLES = np.linspace(0, 2 * np.pi, _POINTS, endpoint=False)
_UNIT_CIRCLE = np.stack((np.cos(_ANGLES), np.sin(_ANGLES)), 1)


@dataclass(frozen=True)
class ContourClass:
    """The parameters that all objects of a class have in common. Lengths are relative to the radius of the object."""

    frequencies: np.ndarray  # (k,) periods of each cosine
    amplitudes: np.ndarray  # (k,)
    phases: np.ndarray  # (k,)
    aspect: float  # height by width before rotation
    hole: float  # scale of the hole; 0: none
    rings: tuple[float, ...]  # scales of the nested contours, the largest first
    filled_rings: bool  # nested contours are areas instead of lines
    spots: np.ndarray  # (s, 3) angle, distance from the center and radius of dots
    texture: int  # index of the texture tile
    texture_scale: float  # part of the tile that the object's diameter covers
    texture_angle: float


def make_class(index: int) -> ContourClass:
    """Return class `index`, which does not depend on the number of classes."""
    rng = np.random.default_rng((_CLASS_SEED, index))
    count = int(rng.integers(2, 6))
    frequencies = rng.choice(np.arange(2, 13), count, replace=False)
    smoothness = rng.uniform(0, 1)
    rings = int(rng.integers(0, 4))
    spots = int(rng.integers(0, 4)) if rng.random() < 0.5 else 0
    return ContourClass(
        frequencies=frequencies,
        amplitudes=rng.uniform(0.06, 0.42, count) / np.sqrt(count) * (2 / frequencies) ** smoothness,
        phases=rng.uniform(0, 2 * np.pi, count),
        aspect=rng.uniform(0.45, 1),
        hole=rng.uniform(0.3, 0.5) if rng.random() < 0.3 else 0.0,
        rings=tuple(1 - (number + 1) / (rings + 1) for number in range(rings)),
        filled_rings=bool(rng.random() < 0.5),
        spots=np.stack(
            (rng.uniform(0, 2 * np.pi, spots), rng.uniform(0.2, 0.6, spots), rng.uniform(0.1, 0.22, spots)), 1
        ),
        texture=int(rng.integers(NUM_TEXTURES)),
        texture_scale=rng.uniform(0.2, 0.9),
        texture_angle=rng.uniform(0, 2 * np.pi),
    )


def draw_outline(kind: ContourClass, radius: float, rotation: float, rng: np.random.Generator) -> np.ndarray:
    """Draw the outline of an instance.

    Args:
        kind: its class.
        radius: mean radius, in pixels.
        rotation: in radians.
        rng: random generator.

    Returns:
        (n, 2) x, y in pixels, around (0, 0).
    """
    count = len(kind.frequencies)
    amplitudes = kind.amplitudes * (1 + 0.15 * rng.standard_normal(count))
    phases = kind.phases + 0.12 * rng.standard_normal(count)
    waves = np.cos(kind.frequencies[:, None] * _ANGLES + phases[:, None])  # (k, n)
    radii = np.maximum(1 + amplitudes @ waves, 0.2)
    points = _UNIT_CIRCLE * radii[:, None]
    # the mean area stays that of the radius; the aspect ratio varies by a fifth
    stretch = np.sqrt(kind.aspect * np.exp(rng.uniform(-0.2, 0.2)))
    points *= (radius / stretch, radius * stretch)
    return points @ rotation_matrix(rotation).T


def draw_polygon(radius: float, rng: np.random.Generator) -> np.ndarray:
    """Draw a polygon with three to seven corners, which is no object.

    Args:
        radius: distance of the farthest corners, in pixels.
        rng: random generator.

    Returns:
        (n, 2) x, y in pixels, around (0, 0).
    """
    corners = int(rng.integers(3, 8))
    angles = np.sort(rng.uniform(0, 2 * np.pi, corners))
    radii = radius * rng.uniform(0.4, 1, corners)
    return np.stack((radii * np.cos(angles), radii * np.sin(angles)), 1)


def rotation_matrix(angle: float) -> np.ndarray:
    """Return the matrix (2, 2) that rotates column vectors by `angle` radians."""
    cos, sin = np.cos(angle), np.sin(angle)
    return np.array([[cos, -sin], [sin, cos]])
