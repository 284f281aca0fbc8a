"""Charts drawn with OpenCV: axes, ticks, lines, bars, points, heat maps, a legend. No matplotlib, no display."""

import math

import cv2
import numpy as np
from graftdet.utils.visualization.drawing import put_text, shorten, text_box

INK, FAINT, GRID, PAPER = (40, 40, 40), (120, 120, 120), (228, 228, 228), (255, 255, 255)
TEXT, TITLE = 0.42, 0.55
LEGEND_WIDTH = 190
# Okabe and Ito's colours, which colour-blind people tell apart (without black and yellow); BGR
SERIES = [(178, 114, 0), (0, 94, 213), (115, 158, 0), (167, 121, 204), (0, 159, 230), (233, 180, 86)]
SUBPIXEL = 3  # bits of fraction in coordinates given to OpenCV


class Chart:
    """One chart. Give its ranges, draw into it, `finish()` gives the picture (H, W, 3) uint8 BGR.

    `x_range` and `y_range` are (value at the left, at the right) and (at the bottom, at the top); either may fall.
    `legend` are (text, colour) in a column on the right. `tick_names_y` replaces the numbers at 0, 1, 2, ... by names;
    `whole_x` has ticks at whole numbers only.
    """

    def __init__(
        self, title, x_range, y_range, x_label="", y_label="", size=(640, 440), legend=(), tick_names_y=None,
        whole_x=False,
    ):  # fmt: skip
        width, height = size
        self.image = np.full((height, width, 3), PAPER, np.uint8)
        self.x_range, self.y_range = _widened(x_range), _widened(y_range)
        self.legend, self.names = list(legend), tick_names_y
        self.x_ticks = ticks(*self.x_range, max(3, (width - 120) // 60))
        self.x_ticks = [value for value in self.x_ticks if not whole_x or float(value).is_integer()]
        self.y_ticks = list(range(len(self.names))) if self.names is not None else ticks(*self.y_range, height // 60)
        shown = self.names if self.names is not None else [number(v) for v in self.y_ticks]
        widest = max((text_box(str(text), TEXT)[0] for text in shown), default=0)
        self.left = min(widest, width // 4) + (34 if y_label else 16)
        self.right = width - (LEGEND_WIDTH if self.legend else 22)
        self.top, self.bottom = 40, height - (52 if x_label else 32)
        self._frame(title, x_label, y_label)

    def to_pixels(self, x, y) -> np.ndarray:
        """Values (n,), (n,) -> pixels (n, 2) float."""
        (x0, x1), (y0, y1) = self.x_range, self.y_range
        px = self.left + (np.asarray(x, float) - x0) / (x1 - x0) * (self.right - self.left)
        py = self.bottom - (np.asarray(y, float) - y0) / (y1 - y0) * (self.bottom - self.top)
        return np.stack((px, py), -1)

    def line(self, x, y, colour, width: int = 2) -> None:
        """A line through the points; it breaks where a value is no finite number. A lone point becomes a dot."""
        points = self.to_pixels(x, y)
        finite = np.isfinite(points).all(1)
        edges = np.flatnonzero(np.diff(np.concatenate(([0], finite.astype(int), [0]))))
        inside = self.image[self.top : self.bottom + 1, self.left : self.right + 1]  # a view: clips what is outside
        for start, end in zip(edges[::2], edges[1::2]):
            run = points[start:end].clip(-1e4, 1e4) - (self.left, self.top)
            fixed = np.round(run * 2**SUBPIXEL).astype(np.int32)
            if len(run) == 1:
                cv2.circle(inside, tuple(int(v) for v in fixed[0]), 3 << SUBPIXEL, colour, -1, cv2.LINE_AA, SUBPIXEL)
            else:
                cv2.polylines(inside, [fixed[:, None]], False, colour, width, cv2.LINE_AA, SUBPIXEL)

    def dots(self, x, y, colour, radius: int = 4) -> None:
        """A filled circle at every point."""
        for px, py in self.to_pixels(x, y):
            if math.isfinite(px) and math.isfinite(py):
                centre = (round(px * 2**SUBPIXEL), round(py * 2**SUBPIXEL))
                cv2.circle(self.image, centre, radius << SUBPIXEL, colour, -1, cv2.LINE_AA, SUBPIXEL)

    def cloud(self, x, y, colour) -> None:
        """Very many points: the more of them fall on a spot, the stronger its colour."""
        points = np.round(self.to_pixels(x, y))
        points = points[np.isfinite(points).all(1)].astype(int) - (self.left, self.top)
        size = (self.bottom - self.top + 1, self.right - self.left + 1)
        points = points[(points >= 0).all(1) & (points < size[::-1]).all(1)]
        counts = np.zeros(size, np.float32)
        np.add.at(counts, (points[:, 1], points[:, 0]), 1)
        away = np.hypot(*np.mgrid[-3:4, -3:4])
        disc = np.clip(2.9 - away, 0, 1).astype(np.float32)  # a soft-edged dot
        share = 1 - np.exp(-0.5 * cv2.filter2D(counts, -1, disc, borderType=cv2.BORDER_CONSTANT))
        inside = self.image[self.top : self.bottom + 1, self.left : self.right + 1]
        inside[:] = np.round(inside * (1 - share[..., None]) + np.array(colour) * share[..., None])

    def bars(self, values, colours) -> None:
        """Horizontal bars from 0 at y = 0, 1, 2, ..., each with its value at its end."""
        for row, (value, colour) in enumerate(zip(values, colours)):
            (x0, y0), (x1, y1) = self.to_pixels([0, value], [row - 0.4, row + 0.4])
            top, bottom = sorted((round(y0), round(y1)))
            cv2.rectangle(self.image, (round(x0), top), (max(round(x1), round(x0)), bottom), colour, -1)
            put_text(self.image, number(value), (x1 + 5, (top + bottom) / 2 + 5), TEXT * 0.9, FAINT)

    def heat(self, values: np.ndarray) -> None:
        """A map of counts (rows, columns) over the whole plot, first row at the top; white is nothing."""
        size = (self.right - self.left - 1, self.bottom - self.top - 1)
        share = np.sqrt(values / max(float(values.max()), 1e-9)).astype(np.float32)  # the root shows rare spots too
        share = cv2.resize(share, size, interpolation=cv2.INTER_LINEAR).clip(0, 1)
        inside = self.image[self.top + 1 : self.bottom, self.left + 1 : self.right]
        inside[:] = shade(share)

    def finish(self) -> np.ndarray:
        """Draw frame and legend over what was drawn, return the picture."""
        cv2.rectangle(self.image, (self.left, self.top), (self.right, self.bottom), FAINT, 1)
        for row, (text, colour) in enumerate(self.legend):
            y = self.top + 10 + 20 * row
            if y > self.bottom:
                break
            cv2.line(self.image, (self.right + 12, y), (self.right + 32, y), colour, 3)
            text = shorten(text, LEGEND_WIDTH - 46, TEXT)
            put_text(self.image, text, (self.right + 38, y + 5), TEXT, INK)
        return self.image

    def _frame(self, title, x_label, y_label) -> None:
        width = self.image.shape[1]
        put_text(self.image, shorten(title, width - 24, TITLE), (12, 26), TITLE, INK)
        for value in self.x_ticks:
            x = round(float(self.to_pixels([value], [self.y_range[0]])[0, 0]))
            cv2.line(self.image, (x, self.top), (x, self.bottom), GRID, 1)
            centred_text(self.image, number(value), (x, self.bottom + 18), FAINT)
        for index, value in enumerate(self.y_ticks):
            y = round(float(self.to_pixels([self.x_range[0]], [value])[0, 1]))
            text = str(self.names[index]) if self.names is not None else number(value)
            if self.names is None:
                cv2.line(self.image, (self.left, y), (self.right, y), GRID, 1)
            text = shorten(text, width // 4, TEXT)
            put_text(self.image, text, (self.left - 7 - text_box(text, TEXT)[0], y + 4), TEXT, FAINT)
        centred_text(self.image, x_label, ((self.left + self.right) // 2, self.bottom + 40), INK)
        if y_label:
            vertical_text(self.image, y_label, (8, (self.top + self.bottom) // 2), INK)


def ticks(low: float, high: float, at_most: int) -> list[float]:
    """Round values (1, 2 or 5 times a power of ten apart) between `low` and `high`, about `at_most` of them."""
    low, high = min(low, high), max(low, high)
    rough = (high - low) / max(at_most, 1)
    power = 10 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [index * step for index in range(first, last + 1)]


def number(value: float) -> str:
    """A tick's text: short, without needless zeros or rounding noise."""
    if value and not 1e-4 <= abs(value) < 1e6:
        return f"{value:.3g}"
    return f"{value:.6f}".rstrip("0").rstrip(".") if abs(value) < 1 else f"{value:.6g}"


def shade(share: np.ndarray) -> np.ndarray:
    """(...) shares 0..1 -> (..., 3) uint8 BGR from white through blue to a dark blue."""
    stops = np.array([[255, 255, 255], [230, 190, 140], [180, 100, 20], [80, 30, 5]], float)
    position = np.asarray(share, float).clip(0, 1) * (len(stops) - 1)
    channels = [np.interp(position, range(len(stops)), stops[:, c]) for c in range(3)]
    return np.stack(channels, -1).round().astype(np.uint8)


def centred_text(image, text, position, ink, scale: float = TEXT) -> None:
    """Write `text` with the middle of its baseline at `position` (x, y)."""
    left = min(position[0] - text_box(text, scale)[0] // 2, image.shape[1] - text_box(text, scale)[0] - 2)
    put_text(image, text, (max(left, 2), position[1]), scale, ink)


def vertical_text(image, text, position, ink, scale: float = TEXT, align: str = "centre") -> None:
    """Write `text` upwards, its left edge at x of `position` (x, y); y is its middle or, `align="end"`, its end."""
    width, ascent, descent = text_box(text, scale)
    strip = np.full((ascent + descent + 2, width + 2, 3), PAPER, np.uint8)
    put_text(strip, text, (1, ascent + 1), scale, ink)
    strip = cv2.rotate(strip, cv2.ROTATE_90_COUNTERCLOCKWISE)
    x, y = int(position[0]), int(position[1] - (strip.shape[0] // 2 if align == "centre" else 0))
    y = max(y, 0)
    room = image[y : y + strip.shape[0], x : x + strip.shape[1]]
    room[:] = np.minimum(room, strip[: room.shape[0], : room.shape[1]])


def _widened(limits) -> tuple[float, float]:
    """A range that is not empty and finite."""
    low, high = (float(v) if math.isfinite(v) else 0.0 for v in limits)
    if abs(high - low) < 1e-9 * max(abs(low), abs(high), 1e-9):
        margin = abs(low) * 0.1 or 1.0
        return low - margin, high + margin
    return low, high
