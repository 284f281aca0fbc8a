"""The layout of an image of the contours dataset: which object is where, and which of its pixels are visible."""

from dataclasses import dataclass, field

import cv2
import numpy as np

from graftdet.data.synthetic.contour_classes import ContourClass, draw_outline, draw_polygon
from graftdet.data.synthetic.contour_settings import ContourSettings
from graftdet.data.synthetic.generator import Annotations

DISTRACTOR = -1
"""Label of a polygon that is no object."""
MAX_CONTOURS = 250  # objects and distractors per image: the owner map holds 8-bit numbers
_TRIES = 4  # positions of a contour; if it would hide too much at all of them, it is not drawn
_MANY = (10, 40)  # objects in an image of many small ones
SUBPIXEL_BITS = 4


@dataclass(slots=True)
class PlacedContour:
    """An object or distractor at its position. All arrays are crops of the image at (left, top)."""

    label: int  # class, or `DISTRACTOR`
    center: np.ndarray  # (2,) x, y in pixels of the image
    radius: float  # in pixels
    rotation: float  # in radians
    outline: np.ndarray  # (n, 2) points around the center, in pixels
    hole: float  # scale of the hole in the outline; 0: none
    left: int = 0
    top: int = 0
    mask: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), np.uint8))  # (h, w) antialiased
    inside: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), bool))  # (h, w) mask above one half
    area: int = 0  # pixels inside the image
    visible: int = 0  # of these, not hidden by later contours


@dataclass(slots=True)
class Layout:
    """Contours in the order in which they are drawn."""

    contours: list[PlacedContour]
    owners: np.ndarray  # (size, size) uint8: 1 + index of the visible contour, 0 for the background

    def annotations(self) -> Annotations:
        """Return the objects and the boxes around their visible pixels."""
        labels, boxes, areas = [], [], []
        for number, placed in enumerate(self.contours, 1):
            if placed.label != DISTRACTOR:
                height, width = placed.mask.shape
                owned = self.owners[placed.top : placed.top + height, placed.left : placed.left + width] == number
                x, y, w, h = cv2.boundingRect(owned.astype(np.uint8))
                labels.append(placed.label)
                boxes.append([x + placed.left, y + placed.top, w, h])
                areas.append(placed.visible)
        return Annotations(labels, boxes, areas)


def draw_layout(settings: ContourSettings, classes: tuple[ContourClass, ...], rng: np.random.Generator) -> Layout:
    """Draw the classes, sizes and positions of all contours of an image.

    Args:
        settings: those of the dataset.
        classes: class index -> class.
        rng: random generator.
    """
    layout = Layout([], np.zeros((settings.image_size, settings.image_size), np.uint8))
    for placed in _draw_contours(settings, classes, rng):
        for _ in range(_TRIES):
            placed.center = rng.uniform(0, settings.image_size, 2)
            _rasterize(placed, settings.image_size)
            if _place(placed, layout, settings):
                break
    return layout


def _draw_contours(
    settings: ContourSettings, classes: tuple[ContourClass, ...], rng: np.random.Generator
) -> list[PlacedContour]:
    """Contours without a position, in random order."""
    count = int(rng.integers(settings.objects[0], settings.objects[1] + 1))
    median, spread = settings.radius, settings.radius_spread
    if rng.random() < settings.many_small:
        count, median, spread = int(rng.integers(_MANY[0], _MANY[1] + 1)), 0.35 * median, 0.5 * spread
    median *= np.exp(0.5 * spread * rng.standard_normal())  # 0.5 ** 2 + 0.866 ** 2 = 1
    labels = rng.integers(len(classes), size=count)
    if rng.random() < 0.25:  # several objects of few classes
        labels = labels[rng.integers(min(count, 2), size=count)] if count else labels
    distractors = int(rng.integers(settings.distractors + 1))
    order = rng.permutation(np.concatenate((labels, np.full(distractors, DISTRACTOR))))[:MAX_CONTOURS]
    return [_draw_contour(int(label), median, 0.866 * spread, settings, classes, rng) for label in order]


def _draw_contour(
    label: int,
    median: float,
    spread: float,
    settings: ContourSettings,
    classes: tuple[ContourClass, ...],
    rng: np.random.Generator,
) -> PlacedContour:
    radius = float(np.clip(median * np.exp(spread * rng.standard_normal()), 0.01, 0.45)) * settings.image_size
    rotation = rng.uniform(0, 2 * np.pi) if rng.random() < 0.5 else 0.25 * rng.standard_normal()
    if label == DISTRACTOR:
        return PlacedContour(label, np.zeros(2), radius, rotation, draw_polygon(1.4 * radius, rng), 0.0)
    kind = classes[label]
    hole = kind.hole if settings.holes else 0.0
    return PlacedContour(label, np.zeros(2), radius, rotation, draw_outline(kind, radius, rotation, rng), hole)


def _rasterize(placed: PlacedContour, size: int) -> None:
    """Draw the mask of a contour at its center, as far as it lies in the image."""
    points = placed.outline + placed.center
    low = np.clip(np.floor(points.min(0)).astype(int) - 1, 0, size)
    high = np.clip(np.ceil(points.max(0)).astype(int) + 2, 0, size)
    placed.left, placed.top = int(low[0]), int(low[1])
    placed.mask = np.zeros((high[1] - low[1], high[0] - low[0]), np.uint8)
    contours = [subpixels(points - low)]
    if placed.hole:
        contours.append(subpixels(placed.outline * placed.hole + placed.center - low))
    if placed.mask.size:
        cv2.fillPoly(placed.mask, contours, 255, cv2.LINE_AA, SUBPIXEL_BITS)
    placed.inside = placed.mask > 127
    placed.area = placed.visible = int(np.count_nonzero(placed.inside))


def subpixels(points: np.ndarray) -> np.ndarray:
    """Return points (n, 2) as OpenCV's fixed-point coordinates of 4 fractional bits."""
    return np.round(points * (1 << SUBPIXEL_BITS)).astype(np.int32)


def _place(placed: PlacedContour, layout: Layout, settings: ContourSettings) -> bool:
    """Add a contour to the layout, unless it is too small or would hide too much of an object."""
    if placed.area < settings.min_pixels:
        return False
    height, width = placed.mask.shape
    owners = layout.owners[placed.top : placed.top + height, placed.left : placed.left + width]
    hidden = np.bincount(owners[placed.inside], minlength=len(layout.contours) + 1)[1:].tolist()
    for other, pixels in zip(layout.contours, hidden, strict=True):
        if pixels and other.label != DISTRACTOR:
            remaining = other.visible - pixels
            if remaining < settings.min_pixels or remaining < (1 - settings.occlusion) * other.area:
                return False
    for other, pixels in zip(layout.contours, hidden, strict=True):
        other.visible -= pixels
    layout.contours.append(placed)
    owners[placed.inside] = len(layout.contours)
    return True
