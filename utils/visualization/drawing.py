"""Boxes and names drawn into pictures with OpenCV alone: no torch, no font files, no display."""

import functools
import unicodedata
from collections.abc import Mapping, Sequence

import cv2
import numpy as np

FONT = cv2.FONT_HERSHEY_SIMPLEX
DRAWS_UNICODE = int(cv2.__version__.split(".")[0]) >= 5  # OpenCV 5 brings a real font, 4 has ASCII strokes only
NUM_COLORS = 96


def draw_boxes(image: np.ndarray, boxes_xyxy, labels, scores=None, names=None, in_place: bool = False) -> np.ndarray:
    """Return a copy of `image` with boxes and their names drawn; best first, so that the best lies on top.

    `image` (H, W, 3) uint8 BGR (or (H, W) grey); `boxes_xyxy` (n, 4) pixels; `labels` (n,) class indices; `scores`
    (n,) or None; `names` a list or a dict from class index to name, or None for the bare index. Line width and text
    grow with the picture. Boxes with a coordinate that is no number are left out; text never leaves the picture.
    `in_place` draws into `image` itself where it can be drawn into: contiguous BGR.
    """
    canvas = _canvas(image, in_place)
    boxes = np.asarray(boxes_xyxy, dtype=np.float64).reshape(-1, 4)
    labels = np.asarray(labels).reshape(-1).astype(int)
    height, width = canvas.shape[:2]
    thickness = line_width(canvas.shape)
    order = [i for i in range(len(boxes) - 1, -1, -1) if np.isfinite(boxes[i]).all()]
    corners = np.round(boxes[order].clip(-2 * thickness, [width + 2 * thickness, height + 2 * thickness] * 2))
    corners = corners.astype(int).tolist()
    for i, (x1, y1, x2, y2) in zip(order, corners):
        cv2.rectangle(canvas, (x1, y1), (x2, y2), class_color(labels[i]), thickness)
    for i, (x1, y1, _, _) in zip(order, corners):
        text = class_name(names, labels[i])
        if scores is not None:
            text = f"{text} {float(scores[i]):.2f}"
        draw_label(canvas, text, (x1 - thickness // 2, y1 - thickness // 2), class_color(labels[i]))
    return canvas


def draw_label(canvas: np.ndarray, text: str, corner: tuple[int, int], background: tuple[int, int, int]) -> None:
    """Write `text` on a filled `background` above `corner` (x, y); below it or shifted where there is no room.

    Changes `canvas`. Text that is wider than the picture is shortened; one that still does not fit is not drawn.
    """
    height, width = canvas.shape[:2]
    scale, weight = font_scale(canvas.shape), font_weight(canvas.shape)
    margin = max(2, round(5 * scale))
    text = shorten(text, width - 2 * margin, scale, weight)
    text_width, ascent, descent = text_box(text, scale, weight)
    tag_width, tag_height = text_width + 2 * margin, ascent + descent + margin
    if not text or tag_width > width or tag_height > height:
        return
    left = min(max(corner[0], 0), width - tag_width)
    top = corner[1] - tag_height
    if top < 0:  # no room above: inside the box, at its top
        top = min(max(corner[1], 0), height - tag_height)
    top = min(top, height - tag_height)
    cv2.rectangle(canvas, (left, top), (left + tag_width - 1, top + tag_height - 1), background, -1)
    put_text(canvas, text, (left + margin, top + margin // 2 + ascent), scale, contrast(background), weight)


def image_grid(images: Sequence[np.ndarray], columns: int, gap: int = 4, background: int = 255) -> np.ndarray:
    """Return one picture with `images` (each (H, W, 3) or (H, W) uint8) in rows of `columns`, left to right.

    Cells have the size of the largest picture; smaller ones are centred. Raises ValueError without any picture.
    """
    if not len(images):
        raise ValueError("image_grid: expected at least one picture, got none")
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


def class_color(label: int) -> tuple[int, int, int]:
    """The BGR colour of class index `label`: `NUM_COLORS` distinct ones, then again from the first."""
    return _palette()[int(label) % NUM_COLORS]


@functools.cache
def _palette() -> list[tuple[int, int, int]]:
    """Colours chosen one after the other, each as far as can be from all before it in CIE L*a*b*."""
    steps = np.linspace(0, 255, 13).round().astype(np.uint8)
    bgr = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), -1).reshape(-1, 3)
    lab = cv2.cvtColor(bgr[None].astype(np.float32) / 255, cv2.COLOR_BGR2LAB)[0]
    chroma = np.hypot(lab[:, 1], lab[:, 2])
    usable = (lab[:, 0] > 38) & (lab[:, 0] < 90) & (chroma > 22)  # neither near black, near white nor grey
    bgr, lab = bgr[usable], lab[usable]
    chosen = [int(np.abs(bgr.astype(int) - (48, 64, 255)).sum(1).argmin())]  # begin with a warm red
    distance = np.full(len(lab), np.inf)
    while len(chosen) < NUM_COLORS:
        distance = np.minimum(distance, np.linalg.norm(lab - lab[chosen[-1]], axis=1))
        chosen.append(int(distance.argmax()))
    return [tuple(int(v) for v in bgr[i]) for i in chosen]


def contrast(background: tuple[int, int, int]) -> tuple[int, int, int]:
    """Black or white, whichever reads better on `background` (BGR), by relative luminance (WCAG 2, approximated)."""
    blue, green, red = (channel / 255 for channel in background)
    luminance = 0.0722 * blue**2.2 + 0.7152 * green**2.2 + 0.2126 * red**2.2
    return (0, 0, 0) if luminance > 0.22 else (255, 255, 255)


def class_name(names, label: int) -> str:
    """The name of class index `label` in a list or dict of `names`, or the index itself as text."""
    if isinstance(names, Mapping):
        return str(names.get(int(label), label))
    return str(names[label]) if names is not None and 0 <= label < len(names) else str(label)


def printable(text: str) -> str:
    """`text` as this OpenCV can draw it: unchanged by OpenCV 5; accents dropped and the rest '?' by OpenCV 4."""
    text = " ".join(str(text).split())
    if DRAWS_UNICODE:
        return "".join(c if c.isprintable() else "?" for c in text.encode("utf-8", "replace").decode())
    plain = (c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return "".join(c if " " <= c <= "~" else "?" for c in plain)


def line_width(shape: tuple[int, ...]) -> int:
    """Width in pixels of a box's line in a picture of `shape` (H, W, ...): 2 at 640."""
    return max(1, round((shape[0] + shape[1]) / 2 * 0.003))


def font_scale(shape: tuple[int, ...]) -> float:
    """OpenCV's font scale for labels in a picture of `shape` (H, W, ...): 0.5 at 640, never below 0.35."""
    return max(0.35, (shape[0] + shape[1]) / 2 / 640 * 0.5)


def font_weight(shape: tuple[int, ...]) -> int:
    """Width in pixels of the strokes of labels in a picture of `shape` (H, W, ...)."""
    return max(1, line_width(shape) // 2)


def text_box(text: str, scale: float, weight: int = 1) -> tuple[int, int, int]:
    """Width, height above the baseline and height below it, in pixels, of `text` as `put_text` writes it."""
    (width, ascent), descent = cv2.getTextSize(printable(text), FONT, scale, weight)
    return width, ascent, descent


def put_text(canvas: np.ndarray, text: str, origin, scale: float, ink=(0, 0, 0), weight: int = 1) -> None:
    """Write `text` into `canvas`, `origin` (x, y) being the left end of its baseline; any characters, no crash."""
    origin = (int(round(origin[0])), int(round(origin[1])))
    cv2.putText(canvas, printable(text), origin, FONT, scale, ink, weight, cv2.LINE_AA)


def shorten(text: str, width: float, scale: float, weight: int = 1) -> str:
    """`text`, or as much of it with '..' at its end as is at most `width` pixels wide; '' when nothing is."""
    if text_box(text, scale, weight)[0] <= width:
        return text
    fits, too_long = 0, len(text)
    while too_long - fits > 1:  # bisection: measuring is slow
        middle = (fits + too_long) // 2
        if text_box(text[:middle].rstrip() + "..", scale, weight)[0] <= width:
            fits = middle
        else:
            too_long = middle
    return text[:fits].rstrip() + ".." if fits else ""


def _canvas(image: np.ndarray, in_place: bool = False) -> np.ndarray:
    """A contiguous (H, W, 3) uint8 copy of a BGR or grey picture; with `in_place` the picture itself where it is that."""
    image = np.asarray(image)
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] not in (1, 3)):
        raise ValueError(f"expected a uint8 picture (H, W, 3) or (H, W), got {image.dtype} {image.shape}")
    if image.ndim == 2 or image.shape[2] == 1:
        image = np.repeat(image.reshape(*image.shape[:2], 1), 3, axis=2)
    return np.require(image, requirements="CW") if in_place else np.array(image, order="C")
