"""Gray tiles of textures and backgrounds, made once per process, and random color tables for them.

Images of any size, scale and rotation are sampled from the tiles, so that no noise is computed per image.
"""

import colorsys
import functools

import cv2
import numpy as np

SIDE = 768  # of the tiles, in pixels
LEVELS = 5  # each level of a tile has half the side of the level before
NOISE_SIDE, NOISE_STD = 512, 32.0
_SEED = 20_220_619

Tile = tuple[np.ndarray, ...]
"""A gray image (SIDE, SIDE) uint8 and smaller copies of it."""

CENTERED = ("rings", "ball", "spokes")  # patterns around a point, which becomes the center of the object
_TEXTURES = (
    *(("noise", 2, 0.55), ("noise", 4, 0.7), ("noise", 8, 0.8), ("noise", 16, 0.9), ("noise", 3, 0.95)),
    *(("stripes", 8, 0.0), ("stripes", 8, 1.5), ("stripes", 8, 4.0), ("bars", 8, 0.0), ("bars", 8, 1.5)),
    *(("waves", 8, 0.0), ("waves", 8, 2.0), ("checks", 8, 0.0), ("checks", 8, 1.0), ("grid", 8, 0.0), ("grid", 8, 1.0)),
    *(("dots", 8, 0.0), ("dots", 8, 1.0), ("bricks", 8, 0.2), ("rings", 8, 0.0), ("rings", 8, 1.0), ("ball", 1, 0.0)),
    *(("spokes", 7, 0.0), ("spokes", 12, 0.6)),
)
_BACKGROUNDS = (
    *(("noise", 1, 0.4), ("noise", 1, 0.7), ("noise", 2, 0.5), ("noise", 2, 0.8), ("noise", 3, 0.6), ("noise", 3, 0.9)),
    *(
        ("noise", 5, 0.7),
        ("noise", 5, 0.95),
        ("noise", 9, 0.8),
        ("noise", 9, 1.0),
        ("noise", 20, 0.9),
        ("noise", 40, 1.0),
    ),
    *(("stripes", 6, 1.0), ("stripes", 10, 3.0), ("stripes", 16, 6.0), ("bars", 12, 0.5), ("waves", 9, 3.0)),
    *(("checks", 10, 0.4), ("grid", 9, 0.2), ("dots", 12, 0.5), ("bricks", 10, 0.3), ("rings", 9, 3.0)),
    *(("stripes", 30, 2.0), ("grid", 24, 1.0)),
)
NUM_TEXTURES, NUM_BACKGROUNDS = len(_TEXTURES), len(_BACKGROUNDS)
NOISE_BACKGROUNDS = 12  # the first background tiles are noise, the others are patterns


def is_centered(index: int) -> bool:
    """Return whether texture tile `index` is a pattern around its center."""
    return _TEXTURES[index][0] in CENTERED


@functools.cache
def texture_tile(index: int) -> Tile:
    """Return texture tile `index`, of `NUM_TEXTURES`; it is made on first use."""
    return _make_tile(*_TEXTURES[index], seed=index)


@functools.cache
def background_tile(index: int) -> Tile:
    """Return background tile `index`, of `NUM_BACKGROUNDS`; it is made on first use."""
    return _make_tile(*_BACKGROUNDS[index], seed=100 + index)


@functools.cache
def noise_tile() -> np.ndarray:
    """Return normal noise of mean 128 and standard deviation `NOISE_STD`, mostly gray.

    It is (2 * NOISE_SIDE, 2 * NOISE_SIDE, 3) uint8, periodic with NOISE_SIDE pixels.
    """
    rng = np.random.default_rng((_SEED, 999))
    shape = (NOISE_SIDE, NOISE_SIDE)
    noise = 0.9 * rng.standard_normal((*shape, 1), np.float32) + 0.44 * rng.standard_normal((*shape, 3), np.float32)
    return np.tile(np.clip(noise * NOISE_STD + 128.5, 0, 255).astype(np.uint8), (2, 2, 1))


def sample_tile(
    tile: Tile, shape: tuple[int, int], scale: float, angle: float, point: tuple[float, float], at: tuple[float, float]
) -> np.ndarray:
    """Sample a scaled and rotated part of a tile.

    Args:
        tile: the tile.
        shape: (h, w) of the result.
        scale: pixels of the tile per pixel of the result.
        angle: rotation, in radians.
        point: (x, y) in the tile, relative to its side.
        at: (x, y) of that point in the result, in pixels.

    Returns:
        (h, w) uint8. The tile is mirrored at its edges.
    """
    level = min(max(round(np.log2(max(scale, 1e-6))), 0), LEVELS - 1)
    side, scale = SIDE >> level, scale / (1 << level)
    cos, sin = scale * np.cos(angle), scale * np.sin(angle)
    matrix = np.array(
        [
            [cos, sin, point[0] * side - cos * at[0] - sin * at[1]],
            [-sin, cos, point[1] * side + sin * at[0] - cos * at[1]],
        ]
    )
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(tile[level], matrix, shape[::-1], flags=flags, borderMode=cv2.BORDER_REFLECT_101)


def color_table(rng: np.random.Generator, contrast: float = 1.0) -> np.ndarray:
    """Draw a table (256, 1, 3) uint8 BGR for `cv2.LUT`: a gradient of two to four colors.

    Args:
        rng: random generator.
        contrast: strength of the differences between the colors.
    """
    count = int(rng.integers(2, 5))
    hue, saturation, value = rng.random(), 0.1 + 0.9 * rng.random() ** 1.5, rng.uniform(0.12, 1)
    steps = rng.uniform(-1, 1, (count, 3)) * contrast
    hue_spread = 0.5 if rng.random() < 0.35 else 0.08
    colors = [
        colorsys.hsv_to_rgb(
            (hue + hue_spread * step[0]) % 1,
            min(max(saturation + 0.35 * step[1], 0), 1),
            min(max(value + 0.5 * step[2], 0.02), 1),
        )
        for step in steps
    ]
    positions = np.linspace(0, 255, count)
    bgr = [np.interp(_LEVELS_256, positions, [255 * color[channel] for color in colors]) for channel in (2, 1, 0)]
    return np.stack(bgr, 1).astype(np.uint8)[:, None]


_LEVELS_256 = np.arange(256)


def _make_tile(kind: str, frequency: int, warp: float, seed: int) -> Tile:
    """A tile of one pattern with `frequency` periods; `warp` bends it (noise: weight ratio of octaves)."""
    rng = np.random.default_rng((_SEED, seed))
    if kind == "noise":
        field = _fractal_noise(rng, frequency, warp)
    else:
        field = _pattern(kind, rng, frequency, warp) + 0.12 * (_fractal_noise(rng, 8, 0.9) - 0.5)
    levels = [np.clip(field * 255, 0, 255).astype(np.uint8)]
    for _ in range(LEVELS - 1):
        levels.append(cv2.resize(levels[-1], None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA))
    return tuple(levels)


def _fractal_noise(rng: np.random.Generator, frequency: int, persistence: float) -> np.ndarray:
    """(SIDE, SIDE) float32 from 0 to 1: up to six octaves, each of twice the frequency and `persistence` the weight."""
    total, weight = np.zeros((SIDE, SIDE), np.float32), 1.0
    for octave in range(6):
        side = frequency * 2**octave + 2
        if side > SIDE:
            break
        grid = rng.random((side, side), np.float32)
        total += weight * cv2.resize(grid, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
        weight *= persistence
    low, high = np.quantile(total[::8, ::8], (0.01, 0.99))
    return np.clip((total - low) / (high - low), 0, 1)


def _pattern(kind: str, rng: np.random.Generator, frequency: int, warp: float) -> np.ndarray:
    """(SIDE, SIDE) float32 from 0 to 1."""
    y, x = np.mgrid[0:SIDE, 0:SIDE].astype(np.float32) * np.float32(2 * np.pi * frequency / SIDE)
    if warp:
        x = x + np.float32(warp) * (_fractal_noise(rng, 3, 0.5) - 0.5) * 2
        y = y + np.float32(warp) * (_fractal_noise(rng, 3, 0.5) - 0.5) * 2
    middle = np.float32(np.pi * frequency)
    distance = np.hypot(x - middle, y - middle)
    if kind == "stripes":
        return 0.5 + 0.5 * np.sin(x)
    if kind == "bars":
        return np.clip(0.5 + 4 * (np.sin(x) + rng.uniform(-0.5, 0.5)), 0, 1)
    if kind == "waves":
        return 0.5 + 0.25 * (np.sin(x) + np.sin(y))
    if kind == "checks":
        return np.clip(0.5 + 4 * np.sin(x) * np.sin(y), 0, 1)
    if kind == "grid":
        return np.clip(3 * (np.maximum(np.cos(x), np.cos(y)) - 0.75), 0, 1)
    if kind == "dots":
        return np.clip(0.5 + 4 * (np.cos(x) + np.cos(y) - 0.8), 0, 1)
    if kind == "bricks":
        shifted = x / 2 + np.pi / 2 * (np.floor(y / (2 * np.pi)) % 2)
        return np.clip(3 * (np.maximum(np.cos(2 * shifted), np.cos(y)) - 0.8), 0, 1)
    if kind == "rings":
        return 0.5 + 0.5 * np.cos(distance)
    if kind == "ball":
        return np.clip(1 - distance / (2 * np.pi * frequency / 2), 0, 1)
    return 0.5 + 0.5 * np.sin(frequency * np.arctan2(y - middle, x - middle))  # spokes
