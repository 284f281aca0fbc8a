"""Charts drawn with OpenCV: axes, ticks, lines, bars, points, heat maps, legend. No matplotlib, no display."""

import math
from collections.abc import Sequence
from typing import Literal

import cv2
import numpy as np
from numpy.typing import ArrayLike

from graftdet.utils.visualization.drawing import Color, put_text, shorten, text_box

DARK, MEDIUM, LIGHT, WHITE = (40, 40, 40), (120, 120, 120), (228, 228, 228), (255, 255, 255)
TEXT, TITLE = 0.42, 0.55  # font scales
LEGEND_WIDTH, LEGEND_MARKS = 190, 46  # pixels: of a legend beside the chart at most, and of its lines and margins
# Okabe and Ito's palette for color-blind readers, without black and yellow; BGR
SERIES = [(178, 114, 0), (0, 94, 213), (115, 158, 0), (167, 121, 204), (0, 159, 230), (233, 180, 86)]
SUBPIXEL = 3  # fractional bits of coordinates passed to OpenCV


class Chart:
    """One chart: draw into it, then call `finish` for the image.

    Args:
        title: Text above the chart.
        x_range: Values at the left and right end; may be decreasing.
        y_range: Values at the bottom and top; may be decreasing.
        x_label: Text below the x axis.
        y_label: Text beside the y axis.
        size: (width, height) in pixels.
        legend: (text, color) of the entries.
        legend_inside: Draw the legend inside the chart, at the bottom right, where rising curves leave space; else
            beside it.
        left: Least width of the margin at the left in pixels, so that several charts line up.
        tick_names_y: Names at y = 0, 1, 2, ... instead of numbers.
        whole_x: Ticks of the x axis at integers only.
    """

    def __init__(
        self,
        title: str,
        x_range: tuple[float, float],
        y_range: tuple[float, float],
        x_label: str = "",
        y_label: str = "",
        size: tuple[int, int] = (640, 440),
        legend: Sequence[tuple[str, Color]] = (),
        legend_inside: bool = False,
        left: int = 0,
        tick_names_y: Sequence[str] | None = None,
        whole_x: bool = False,
    ):
        width, height = size
        self.image = np.full((height, width, 3), WHITE, np.uint8)  # (H, W, 3) BGR
        self.x_range, self.y_range = _widened(x_range), _widened(y_range)
        self.legend, self.names, self.legend_inside = list(legend), tick_names_y, legend_inside
        self.x_ticks = ticks(*self.x_range, max(3, (width - 120) // 60))
        self.x_ticks = [value for value in self.x_ticks if not whole_x or float(value).is_integer()]
        self.y_ticks = list(range(len(self.names))) if self.names is not None else ticks(*self.y_range, height // 60)
        shown = self.names if self.names is not None else [number(v) for v in self.y_ticks]
        widest = max((text_box(str(text), TEXT)[0] for text in shown), default=0)
        self.left = max(min(widest, width // 4) + (34 if y_label else 16), left)
        texts = max((text_box(text, TEXT)[0] for text, _ in self.legend), default=0)
        self._legend_width = min(texts + LEGEND_MARKS, LEGEND_WIDTH) if not legend_inside else texts + LEGEND_MARKS
        self.right = width - (self._legend_width if self.legend and not legend_inside else 22)
        self.top, self.bottom = 40, height - (52 if x_label else 32)
        self._frame(title, x_label, y_label)

    def to_pixels(self, x: ArrayLike, y: ArrayLike) -> np.ndarray:
        """Values (n,) and (n,) -> pixels (n, 2) float."""
        (x0, x1), (y0, y1) = self.x_range, self.y_range
        px = self.left + (np.asarray(x, float) - x0) / (x1 - x0) * (self.right - self.left)
        py = self.bottom - (np.asarray(y, float) - y0) / (y1 - y0) * (self.bottom - self.top)
        return np.stack((px, py), -1)

    def line(self, x: ArrayLike, y: ArrayLike, color: Color, width: int = 2) -> None:
        """Draw a line through points; it is interrupted where a value is not finite. A single point becomes a dot."""
        points = self.to_pixels(x, y)
        finite = np.isfinite(points).all(1)
        edges = np.flatnonzero(np.diff(np.concatenate(([0], finite.astype(int), [0]))))
        inside = self.image[self.top : self.bottom + 1, self.left : self.right + 1]  # a view: clips everything outside
        for start, end in zip(edges[::2], edges[1::2], strict=True):
            run = points[start:end].clip(-1e4, 1e4) - (self.left, self.top)
            fixed = np.round(run * 2**SUBPIXEL).astype(np.int32)
            if len(run) == 1:
                cv2.circle(inside, tuple(int(v) for v in fixed[0]), 3 << SUBPIXEL, color, -1, cv2.LINE_AA, SUBPIXEL)
            else:
                cv2.polylines(inside, [fixed[:, None]], False, color, width, cv2.LINE_AA, SUBPIXEL)

    def dots(self, x: ArrayLike, y: ArrayLike, color: Color, radius: int = 4) -> None:
        """Draw a filled circle at each point."""
        for px, py in self.to_pixels(x, y):
            if math.isfinite(px) and math.isfinite(py):
                center = (round(px * 2**SUBPIXEL), round(py * 2**SUBPIXEL))
                cv2.circle(self.image, center, radius << SUBPIXEL, color, -1, cv2.LINE_AA, SUBPIXEL)

    def cloud(self, x: ArrayLike, y: ArrayLike, color: Color) -> None:
        """Draw very many points; the color is more opaque where more of them overlap."""
        points = np.round(self.to_pixels(x, y))
        points = points[np.isfinite(points).all(1)].astype(int) - (self.left, self.top)
        size = (self.bottom - self.top + 1, self.right - self.left + 1)
        points = points[(points >= 0).all(1) & (points < size[::-1]).all(1)]
        counts = np.zeros(size, np.float32)
        np.add.at(counts, (points[:, 1], points[:, 0]), 1)  # type: ignore[arg-type]
        distance = np.hypot(*np.mgrid[-3:4, -3:4])
        disc = np.clip(2.9 - distance, 0, 1).astype(np.float32)  # a soft-edged dot
        opacity = 1 - np.exp(-0.5 * cv2.filter2D(counts, -1, disc, borderType=cv2.BORDER_CONSTANT))
        inside = self.image[self.top : self.bottom + 1, self.left : self.right + 1]
        inside[:] = np.round(inside * (1 - opacity[..., None]) + np.array(color) * opacity[..., None])

    def bars(self, values: Sequence[float], colors: Sequence[Color]) -> None:
        """Draw horizontal bars at y = 0, 1, 2, ..., values at the end; more colors than values are allowed."""
        for row, (value, color) in enumerate(zip(values, colors, strict=False)):
            (x0, y0), (x1, y1) = self.to_pixels([0, value], [row - 0.4, row + 0.4])
            top, bottom = sorted((round(y0), round(y1)))
            cv2.rectangle(self.image, (round(x0), top), (max(round(x1), round(x0)), bottom), color, -1)
            put_text(self.image, number(value), (x1 + 5, (top + bottom) / 2 + 5), TEXT * 0.9, MEDIUM)

    def heat(self, values: np.ndarray) -> None:
        """Draw a heat map of counts (rows, columns) over the whole chart, first row at the top; white is zero."""
        size = (self.right - self.left - 1, self.bottom - self.top - 1)
        levels = np.sqrt(values / max(float(values.max()), 1e-9)).astype(
            np.float32
        )  # the root makes low counts visible
        levels = cv2.resize(levels, size, interpolation=cv2.INTER_LINEAR).clip(0, 1)
        inside = self.image[self.top + 1 : self.bottom, self.left + 1 : self.right]
        inside[:] = shade(levels)

    def finish(self) -> np.ndarray:
        """Draw frame and legend on top and return the image (H, W, 3) BGR uint8."""
        cv2.rectangle(self.image, (self.left, self.top), (self.right, self.bottom), MEDIUM, 1)
        left, top = self.right, self.top
        if self.legend_inside and self.legend:
            left, top = self.right - self._legend_width - 4, self.bottom - 20 * len(self.legend) - 8
            cv2.rectangle(self.image, (left + 4, top), (self.right - 8, self.bottom - 8), WHITE, -1)
        for row, (text, color) in enumerate(self.legend):
            y = top + 10 + 20 * row
            if y > self.bottom:
                break
            cv2.line(self.image, (left + 12, y), (left + 32, y), color, 3)
            text = shorten(text, self._legend_width - LEGEND_MARKS, TEXT)
            put_text(self.image, text, (left + 38, y + 5), TEXT, DARK)
        return self.image

    def _frame(self, title, x_label, y_label) -> None:
        width = self.image.shape[1]
        put_text(self.image, shorten(title, width - 24, TITLE), (12, 26), TITLE, DARK)
        for value in self.x_ticks:
            x = round(float(self.to_pixels([value], [self.y_range[0]])[0, 0]))
            cv2.line(self.image, (x, self.top), (x, self.bottom), LIGHT, 1)
            centered_text(self.image, number(value), (x, self.bottom + 18), MEDIUM)
        for index, value in enumerate(self.y_ticks):
            y = round(float(self.to_pixels([self.x_range[0]], [value])[0, 1]))
            text = str(self.names[index]) if self.names is not None else number(value)
            if self.names is None:
                cv2.line(self.image, (self.left, y), (self.right, y), LIGHT, 1)
            text = shorten(text, width // 4, TEXT)
            put_text(self.image, text, (self.left - 7 - text_box(text, TEXT)[0], y + 4), TEXT, MEDIUM)
        centered_text(self.image, x_label, ((self.left + self.right) // 2, self.bottom + 40), DARK)
        if y_label:
            vertical_text(self.image, y_label, (8, (self.top + self.bottom) // 2), DARK)


def ticks(low: float, high: float, limit: int) -> list[float]:
    """Return about `limit` values between `low` and `high`, with steps of 1, 2 or 5 times a power of ten."""
    low, high = min(low, high), max(low, high)
    rough = (high - low) / max(limit, 1)
    power = 10 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [index * step for index in range(first, last + 1)]


def number(value: float) -> str:
    """Return the text of a tick, without trailing zeros and rounding errors."""
    if value and not 1e-4 <= abs(value) < 1e6:
        return f"{value:.3g}"
    return f"{value:.6f}".rstrip("0").rstrip(".") if abs(value) < 1 else f"{value:.6g}"


def shade(levels: np.ndarray) -> np.ndarray:
    """(...) from 0 to 1 -> (..., 3) uint8 BGR from white through blue to dark blue."""
    stops = np.array([[255, 255, 255], [230, 190, 140], [180, 100, 20], [80, 30, 5]], float)
    position = np.asarray(levels, float).clip(0, 1) * (len(stops) - 1)
    channels = [np.interp(position, range(len(stops)), stops[:, c]) for c in range(3)]
    return np.stack(channels, -1).round().astype(np.uint8)


def centered_text(
    image: np.ndarray, text: str, position: tuple[float, float], color: Color, scale: float = TEXT
) -> None:
    """Draw text with the middle of its baseline at `position` (x, y) into `image` (H, W, 3)."""
    left = min(position[0] - text_box(text, scale)[0] // 2, image.shape[1] - text_box(text, scale)[0] - 2)
    put_text(image, text, (max(left, 2), position[1]), scale, color)


def vertical_text(
    image: np.ndarray,
    text: str,
    position: tuple[float, float],
    color: Color,
    scale: float = TEXT,
    align: Literal["center", "end"] = "center",
) -> None:
    """Draw text rotated by 90 degrees, reading upwards.

    Args:
        image: (H, W, 3) BGR uint8; is changed.
        text: Any characters.
        position: (x of the left edge, y of the center or of the upper end).
        color: Of the text.
        scale: OpenCV's font scale.
        align: What y of `position` is: "center" or "end".
    """
    width, ascent, descent = text_box(text, scale)
    strip = np.full((ascent + descent + 2, width + 2, 3), WHITE, np.uint8)
    put_text(strip, text, (1, ascent + 1), scale, color)
    strip = cv2.rotate(strip, cv2.ROTATE_90_COUNTERCLOCKWISE)
    x, y = int(position[0]), int(position[1] - (strip.shape[0] // 2 if align == "center" else 0))
    y = max(y, 0)
    target = image[y : y + strip.shape[0], x : x + strip.shape[1]]
    target[:] = np.minimum(target, strip[: target.shape[0], : target.shape[1]])


def _widened(limits) -> tuple[float, float]:
    """A range that is finite and not empty."""
    low, high = (float(v) if math.isfinite(v) else 0.0 for v in limits)
    if abs(high - low) < 1e-9 * max(abs(low), abs(high), 1e-9):
        margin = abs(low) * 0.1 or 1.0
        return low - margin, high + margin
    return low, high
