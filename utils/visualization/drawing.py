"""Draw boxes and class names into images with OpenCV only: no torch, no font files, no display."""

import functools
import unicodedata
from collections.abc import Mapping, Sequence

import cv2
import numpy as np
from numpy.typing import ArrayLike

FONT = cv2.FONT_HERSHEY_SIMPLEX
DRAWS_UNICODE = int(cv2.__version__.split(".")[0]) >= 5  # OpenCV 5 has a complete font, 4 ASCII characters only
NUM_COLORS = 96
COLOR_BLIND_SAFE = 16  # the first colors differ for readers with red-green color blindness, too
_OKABE_ITO = [  # BGR, without black and yellow
    *((0, 94, 213), (178, 114, 0), (115, 158, 0), (167, 121, 204), (0, 159, 230), (233, 180, 86)),
]
_COLOR_BLIND = [  # protanopia and deuteranopia: Machado et al., Simulation of Color Vision Deficiency, 2009
    np.array([[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]),
    np.array([[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]),
]

Color = tuple[int, int, int]
"""Blue, green, red from 0 to 255."""
Names = Sequence[str] | Mapping[int, str]
"""Class names by class index."""


def draw_boxes(
    image: np.ndarray,
    boxes_xyxy: ArrayLike,
    labels: ArrayLike,
    scores: ArrayLike | None = None,
    names: Names | None = None,
    in_place: bool = False,
    *,
    thickness: int | None = None,
    hide_labels: bool = False,
    track_ids: ArrayLike | None = None,
) -> np.ndarray:
    """Draw boxes with class names and scores. Line width and text size grow with the image.

    Args:
        image: (H, W, 3) BGR or (H, W) gray, uint8.
        boxes_xyxy: (n, 4) pixels, best first (the best is drawn on top); boxes with coordinates that are not finite are
            skipped.
        labels: (n,) class indices.
        scores: (n,), or None.
        names: Class names; None: the class indices are drawn.
        in_place: Draw into `image` itself if possible (contiguous, writable BGR), else into a copy.
        thickness: Line width in pixels (default: depends on the size of the image).
        hide_labels: Draw boxes only.
        track_ids: (n,) ids drawn before the class names, where they are positive; None: none.

    Returns:
        The image with boxes, (H, W, 3) BGR uint8.
    """
    canvas = _canvas(image, in_place)
    boxes = np.asarray(boxes_xyxy, dtype=np.float64).reshape(-1, 4)
    labels = np.asarray(labels).reshape(-1).astype(int)
    height, width = canvas.shape[:2]
    thickness = thickness or line_width(canvas.shape)
    order = [i for i in range(len(boxes) - 1, -1, -1) if np.isfinite(boxes[i]).all()]
    corners = np.round(boxes[order].clip(-2 * thickness, [width + 2 * thickness, height + 2 * thickness] * 2))
    corners = corners.astype(int).tolist()
    for i, (x1, y1, x2, y2) in zip(order, corners, strict=True):
        cv2.rectangle(canvas, (x1, y1), (x2, y2), class_color(labels[i]), thickness)
    positions = np.zeros((len(order), 4), int)  # of the labels of better boxes
    labels_drawn = []
    for i, (x1, y1, x2, y2) in zip(order[::-1], corners[::-1], strict=True) if not hide_labels else ():
        text = class_name(names, labels[i])
        if track_ids is not None and (track := int(np.asarray(track_ids)[i])) > 0:
            text = f"#{track} {text}"
        if scores is not None:
            text = f"{text} {float(np.asarray(scores)[i]):.2f}"
        before, after = thickness // 2, thickness - thickness // 2
        outline = (x1 - before, y1 - before, x2 + after, y2 + after)
        placed = _place_label(canvas.shape, text, outline, positions[: len(labels_drawn)])
        if placed:
            positions[len(labels_drawn)] = placed[1]
            labels_drawn.append((*placed, class_color(labels[i])))
    for text, position, color in reversed(labels_drawn):
        _draw_label(canvas, text, position, color)
    return canvas


def _place_label(
    shape: tuple[int, ...], text: str, outline: tuple[int, int, int, int], others: np.ndarray
) -> tuple[str, tuple[int, int, int, int]] | None:
    """Choose a position for the label of a box: where it covers no other label, if there is one, and inside the image.

    Args:
        shape: (H, W, ...) of the image.
        text: The label; shortened if it is wider than the image.
        outline: x1, y1, x2, y2 of the outer edge of the box.
        others: Positions (n, 4) of other labels.

    Returns:
        Text and position (x1, y1, x2, y2); None if the label does not fit into the image.
    """
    height, width = shape[:2]
    scale, weight = font_scale(shape), font_weight(shape)
    margin = _label_margin(shape)
    text = shorten(text, width - 2 * margin, scale, weight)
    text_width, ascent, descent = text_box(text, scale, weight)
    label_width, label_height = text_width + 2 * margin, ascent + descent + margin
    if not text or label_width > width or label_height > height:
        return None
    x1, y1, x2, y2 = outline
    above = y1 - label_height if y1 >= label_height else max(y1, 0)  # in the box where there is no space above
    first = None
    for left, top in ((x1, above), (x2 - label_width, above), (x1, y2), (x2 - label_width, y2)):
        left, top = min(max(left, 0), width - label_width), min(max(top, 0), height - label_height)
        position = (left, top, left + label_width, top + label_height)
        first = first or position
        if not (np.minimum(others[:, 2:], position[2:]) > np.maximum(others[:, :2], position[:2])).all(1).any():
            return text, position
    return (text, first) if first else None


def _draw_label(canvas: np.ndarray, text: str, position: tuple[int, int, int, int], background: Color) -> None:
    """Draw text on a filled rectangle."""
    x1, y1, x2, y2 = position
    scale, weight, margin = font_scale(canvas.shape), font_weight(canvas.shape), _label_margin(canvas.shape)
    cv2.rectangle(canvas, (x1, y1), (x2 - 1, y2 - 1), background, -1)
    ascent = text_box(text, scale, weight)[1]
    put_text(canvas, text, (x1 + margin, y1 + margin // 2 + ascent), scale, contrast(background), weight)


def _label_margin(shape: tuple[int, ...]) -> int:
    return max(2, round(5 * font_scale(shape)))


def image_grid(images: Sequence[np.ndarray], columns: int, gap: int = 4, background: int = 255) -> np.ndarray:
    """Return one image that shows several images in a grid, row by row.

    Args:
        images: Each (H, W, 3) or (H, W) uint8; smaller ones are centered in cells of the size of the largest.
        columns: Images per row.
        gap: Pixels between cells and at the border.
        background: Gray value of gaps.

    Raises:
        ValueError: If there is no image.
    """
    if not len(images):
        raise ValueError("image_grid: expected at least one image, got none")
    images = [_canvas(image) for image in images]
    columns = max(1, min(columns, len(images)))
    rows = -(-len(images) // columns)
    cell_height = max(image.shape[0] for image in images)
    cell_width = max(image.shape[1] for image in images)
    size = (rows * (cell_height + gap) + gap, columns * (cell_width + gap) + gap, 3)
    grid = np.full(size, background, np.uint8)
    for index, image in enumerate(images):
        height, width = image.shape[:2]
        top = gap + index // columns * (cell_height + gap) + (cell_height - height) // 2
        left = gap + index % columns * (cell_width + gap) + (cell_width - width) // 2
        grid[top : top + height, left : left + width] = image
    return grid


def class_color(label: int) -> Color:
    """Return the color of a class index: `NUM_COLORS` distinct colors, then repeated. It is the same in all images and
    charts.
    """
    return _palette()[int(label) % NUM_COLORS]


@functools.cache
def _palette() -> list[Color]:
    """The first colors are those of Okabe and Ito (Color Universal Design, 2008); each further one is as distant as
    possible from all before it in CIE L*a*b*, up to `COLOR_BLIND_SAFE` with red-green color blindness as well.
    """
    steps = np.linspace(0, 255, 13).round().astype(np.uint8)
    grid = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), -1).reshape(-1, 3)
    candidates = np.concatenate((np.array(_OKABE_ITO, np.uint8), grid))
    seen = [_lab(candidates), *(_lab(candidates, matrix) for matrix in _COLOR_BLIND)]
    chroma = np.hypot(seen[0][:, 1], seen[0][:, 2])
    usable = (seen[0][:, 0] > 38) & (seen[0][:, 0] < 84) & (chroma > 22)  # not close to black, white or gray
    chosen = list(range(len(_OKABE_ITO)))
    for count, views in ((COLOR_BLIND_SAFE, seen), (NUM_COLORS, seen[:1])):  # more colors differ in normal vision only
        distance = np.where(usable, np.inf, -1.0)
        for index in range(count):
            if index >= len(chosen):
                chosen.append(int(distance.argmax()))
            apart = [np.linalg.norm(lab - lab[chosen[index]], axis=1) for lab in views]
            distance = np.minimum(distance, np.minimum.reduce(apart))
    return [(int(b), int(g), int(r)) for b, g, r in candidates[chosen]]


def _lab(bgr: np.ndarray, matrix: np.ndarray | None = None) -> np.ndarray:
    """CIE L*a*b* (n, 3) of colors (n, 3) BGR uint8, as seen through a matrix (3, 3) on linear RGB."""
    values = bgr.astype(np.float32) / 255
    if matrix is not None:
        linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
        linear = (linear[:, ::-1] @ matrix.T)[:, ::-1].clip(0, 1)
        values = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055).astype(np.float32)
    return cv2.cvtColor(np.ascontiguousarray(values[None]), cv2.COLOR_BGR2LAB)[0]


def contrast(background: Color) -> Color:
    """Return black or white, the more readable on `background` by relative luminance (WCAG 2, approximated)."""
    blue, green, red = (channel / 255 for channel in background)
    luminance = 0.0722 * blue**2.2 + 0.7152 * green**2.2 + 0.2126 * red**2.2
    return (0, 0, 0) if luminance > 0.22 else (255, 255, 255)


def class_name(names: Names | None, label: int) -> str:
    """Return the name of a class index, or the index as text if it has no name."""
    if isinstance(names, Mapping):
        return str(names.get(int(label), label))
    return str(names[label]) if names is not None and 0 <= label < len(names) else str(label)


def printable(text: str) -> str:
    """Return text that this OpenCV can draw; OpenCV 4: without accents, and ? for other non-ASCII characters."""
    text = " ".join(str(text).split())
    if DRAWS_UNICODE:
        return "".join(c if c.isprintable() else "?" for c in text.encode("utf-8", "replace").decode())
    plain = (c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return "".join(c if " " <= c <= "~" else "?" for c in plain)


def line_width(shape: tuple[int, ...]) -> int:
    """Return the line width of boxes in pixels for an image of `shape` (H, W, ...): 2 at 640."""
    return max(1, round((shape[0] + shape[1]) / 2 * 0.003))


def font_scale(shape: tuple[int, ...]) -> float:
    """Return OpenCV's font scale of labels for an image of `shape` (H, W, ...): 0.5 at 640, at least 0.35."""
    return max(0.35, (shape[0] + shape[1]) / 2 / 640 * 0.5)


def font_weight(shape: tuple[int, ...]) -> int:
    """Return the stroke width of labels in pixels for an image of `shape` (H, W, ...)."""
    return max(1, line_width(shape) // 2)


def text_box(text: str, scale: float, weight: int = 1) -> tuple[int, int, int]:
    """Return width, height above and height below the baseline, in pixels, of `text` drawn by `put_text`."""
    (width, ascent), descent = cv2.getTextSize(printable(text), FONT, scale, weight)
    return width, ascent, descent


def put_text(
    canvas: np.ndarray,
    text: str,
    origin: tuple[float, float],
    scale: float,
    color: Color = (0, 0, 0),
    weight: int = 1,
) -> None:
    """Draw text into an image.

    Args:
        canvas: (H, W, 3) BGR uint8; is changed.
        text: Any characters.
        origin: (x, y) of the left end of the baseline.
        scale: OpenCV's font scale.
        color: Of the text.
        weight: Stroke width in pixels.
    """
    origin = (round(origin[0]), round(origin[1]))
    cv2.putText(canvas, printable(text), origin, FONT, scale, color, weight, cv2.LINE_AA)


def shorten(text: str, width: float, scale: float, weight: int = 1) -> str:
    """Return `text`, shortened with ".." at the end to at most `width` pixels; "" if nothing fits."""
    if text_box(text, scale, weight)[0] <= width:
        return text
    fits, too_long = 0, len(text)
    while too_long - fits > 1:  # bisection: computing the width is slow
        middle = (fits + too_long) // 2
        if text_box(text[:middle].rstrip() + "..", scale, weight)[0] <= width:
            fits = middle
        else:
            too_long = middle
    return text[:fits].rstrip() + ".." if fits else ""


def _canvas(image: np.ndarray, in_place: bool = False) -> np.ndarray:
    """A contiguous (H, W, 3) uint8 copy of a BGR or gray image; with `in_place` the image itself if it is that."""
    image = np.asarray(image)
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] not in (1, 3)):
        raise ValueError(f"expected a uint8 image (H, W, 3) or (H, W), got {image.dtype} {image.shape}")
    if image.ndim == 2 or image.shape[2] == 1:
        image = np.repeat(image.reshape(*image.shape[:2], 1), 3, axis=2)
    return np.require(image, requirements=["C", "W"]) if in_place else np.array(image, order="C")
