"""`python -m models draw FILE.yaml -o graph.svg`: the graph of a model, one box per row, one column per stride."""

import math
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING
from unicodedata import east_asian_width

from graftdet.models.analysis.graph_layout import COLUMN_WIDTH, GAP, Layout, arrange
from graftdet.models.analysis.row_summary import RowSummary, totals
from graftdet.utils.text import counted

if TYPE_CHECKING:
    from graftdet.models.graph.detection_model import DetectionModel

WIDTH, HEIGHT = 176, 46  # of a box, pixels
TOP = 108  # of the first line of boxes, pixels
TRACK, TRACK_STEP = 17, 5  # of the first track from the boxes, beyond the arrowheads there, and between tracks, pixels
MAX_TITLE, MAX_NAME = 30, 12  # characters of a box's first line, and of a row's name in it
PLAIN_CONVOLUTIONS = ("conv", "cbh", "focus", "nn.conv2d", "convbnact")
FONT = "font-family='Helvetica, Arial, sans-serif'"
COLORS = {  # (fill, edge) by the role of a row
    "head": ("#fde0dd", "#c2453c"),
    "join": ("#fff3c4", "#b8860b"),
    "resize": ("#e8e8e8", "#777777"),
    "conv": ("#dcebfa", "#3b76b5"),
    "broken": ("#ffffff", "#c2453c"),
}
FAMILIES = (
    ("#dff2df", "#3d8b47"),
    ("#ece2f6", "#7c55a8"),
    ("#d9f2f0", "#2a8c86"),
    ("#fbe5d2", "#c0702a"),
    ("#f9dfec", "#b0487f"),
)


@dataclass(frozen=True)
class Box:
    """The box of a row in pixels: left, top, width, height; `lines` of text, the first bold; `title` is the tooltip."""

    x: float
    y: float
    w: float
    h: float
    lines: tuple[str, ...]
    color: tuple[str, str]
    title: str
    row: int

    def svg(self) -> str:
        """Return the box as an SVG element; text that is too wide is squeezed."""
        fill, edge = self.color
        parts = [
            f"<g data-row='{self.row}'><title>{escape(self.title)}</title>",
            f"<rect x='{self.x:g}' y='{self.y:g}' width='{self.w:g}' height='{self.h:g}' rx='6' "
            f"fill='{fill}' stroke='{edge}'/>",
        ]
        for i, text in enumerate(self.lines):
            y = self.y + (17, 35)[i] if len(self.lines) > 1 else self.y + self.h / 2 + 5
            style = "font-size='13' font-weight='bold' fill='#222222'" if not i else "font-size='11.5' fill='#444444'"
            size = self.w - 12
            squeeze = (
                f" textLength='{size:g}' lengthAdjust='spacingAndGlyphs'" if _text_width(text, bool(i)) > size else ""
            )
            parts.append(
                f"<text x='{self.x + self.w / 2:g}' y='{y:g}' text-anchor='middle' {style}{squeeze}>"
                f"{escape(text)}</text>"
            )
        return "".join([*parts, "</g>"])


@dataclass(frozen=True)
class Graph:
    """What is drawn.

    Attributes:
        label: File name of the model.
        rows: All rows, the head last.
        nc: Number of classes.
        head_strides: Strides of the head's levels; None where they are not known.
        size: (height, width) of the image that shapes were computed for.
    """

    label: str
    rows: list[RowSummary]
    nc: int | None
    head_strides: list[float] | None
    size: tuple[int, int] = (640, 640)


def draw_model(model: "DetectionModel", size: tuple[int, int] = (640, 640)) -> str:
    """Return the graph of a model as SVG text.

    Args:
        model: Is not changed.
        size: (height, width) of the image that shapes are computed for.
    """
    from graftdet.models.analysis.summary import summarize

    return draw_graph(Graph(model.spec.label, summarize(model, size), model.nc, model.head.strides, size))


def draw_graph(graph: Graph) -> str:
    """Return a graph as SVG text. Rows without shapes are drawn as broken, in the column of their first source."""
    rows, size = graph.rows, graph.size
    strides = row_strides(rows, size)
    layout = arrange([row.sources for row in rows], strides)
    left = 20
    heading = _heading(graph)
    heading_widths = [
        math.ceil(left * 2 + scale * _text_width(text, True)) for text, scale in zip(heading, (1.6, 1.05), strict=True)
    ]
    width = max(left * 2 + len(layout.strides) * COLUMN_WIDTH, *heading_widths)
    height = TOP + (layout.lines + 1) * (HEIGHT + GAP) + 10
    colors = _colors(rows)
    boxes = [_row_box(row, layout, left, colors[row.index]) for row in rows]
    boxes[-1] = _head_box(graph, layout, left, colors[-1])
    lines = [
        f"<svg xmlns='http://www.w3.org/2000/svg' width='{width}' height='{height}' "
        f"viewBox='0 0 {width} {height}' {FONT}>",
        "<defs><marker id='tip' viewBox='0 0 8 8' refX='7.5' refY='4' markerWidth='7' markerHeight='7' orient='auto'>"
        "<path d='M0 0.6 L8 4 L0 7.4 z' fill='context-stroke'/></marker></defs>",
        f"<rect width='{width}' height='{height}' fill='#ffffff'/>",
        *_titles(heading, layout, size, left, height),
    ]
    arrows = [(source, row.index) for row in rows for source in row.sources]
    lines += [_arrow(source, target, boxes, layout, left) for source, target in arrows]
    lines += [box.svg() for box in boxes]
    return "\n".join([*lines, "</svg>"]) + "\n"


def row_strides(rows: list[RowSummary], size: tuple[int, int]) -> list[int]:
    """Return the pixels per cell of each row's output; of several outputs the last one, of a head its last input.

    A row without shapes has that of its first source.
    """
    strides: list[int] = []
    for row in rows:
        is_last, source = row.index == len(rows) - 1, row.sources[-1 if row.index == len(rows) - 1 else 0]
        if row.shapes and (not is_last or source < 0):
            strides.append(2 ** round(math.log2(max(size[0] / row.shapes[-1][1], 1))))
        else:
            strides.append(strides[source] if source >= 0 else 1)
    return strides


def _heading(graph: Graph) -> tuple[str, str]:
    """File name, and cost of the model."""
    rows, size = graph.rows, graph.size
    t = totals(rows)
    cost = f"{t['params']:,} parameters, {t['macs'] / 1e9:.2f} GMACs at {size[1]}x{size[0]}"
    text = f"{counted(len(rows), 'row')}, {cost}, {counted(graph.nc or 0, 'class')}"
    return _shorten(Path(graph.label).name, 60), text


def _titles(heading, layout: Layout, size, left, height) -> list[str]:
    name, about = heading
    parts = [
        f"<text x='{left + 6}' y='26' font-size='17' font-weight='bold' fill='#222222'>{escape(name)}</text>",
        f"<text x='{left + 6}' y='46' font-size='12.5' fill='#444444'>{escape(about)}</text>",
    ]
    for column, stride in enumerate(layout.strides):
        x = left + column * COLUMN_WIDTH
        if column % 2:
            parts.append(f"<rect x='{x}' y='58' width='{COLUMN_WIDTH}' height='{height - 68}' fill='#f7f7f7'/>")
        cells = f"{-(-size[1] // stride)}x{-(-size[0] // stride)}"
        parts.append(
            f"<text x='{x + COLUMN_WIDTH / 2:g}' y='77' text-anchor='middle' font-size='12.5' fill='#444444'>"
            f"stride {stride}: {cells}</text>"
        )
    return parts


def _row_box(row: RowSummary, layout: Layout, left, color) -> Box:
    column, line = layout.cells[row.index]
    x = left + column * COLUMN_WIDTH + (COLUMN_WIDTH - WIDTH) / 2
    y = TOP + line * (HEIGHT + GAP)
    name = f" '{_shorten(row.name, MAX_NAME)}'" if row.name else ""
    repeats = row.repeats
    if len(f"{row.index}  {row.module}{repeats}{name}") > MAX_TITLE:
        repeats = repeats.partition(" (")[0].removesuffix(" x1")  # the tooltip has all of it
    module = _shorten(row.module, max(MAX_TITLE - len(f"{row.index}  {repeats}{name}"), 8))
    facts = _shape_text(row.shapes) + (f", {_short_count(row.params)}" if row.params else "")
    full_name = f" '{row.name}'" if row.name else ""
    cost = f"{row.params:,} parameters, {row.macs / 1e6:,.1f} MMACs"
    title = f"row {row.index}{full_name} {row.module}({row.args}){row.repeats}, {cost}"
    return Box(x, y, WIDTH, HEIGHT, (f"{row.index}  {module}{repeats}{name}", facts), color, title, row.index)


def _shape_text(shapes) -> str:
    """`64x40x40`; of a list of maps `[64, 128]x40x40` where all have one size, else the last one and `+` the others."""
    if not shapes:
        return "?"
    if len(shapes) == 1 or len({shape[1:] for shape in shapes}) > 1:
        return "x".join(map(str, shapes[-1])) + (f" +{len(shapes) - 1}" if len(shapes) > 1 else "")
    widths = ", ".join(str(shape[0]) for shape in shapes)
    return f"[{widths}]x{shapes[0][1]}x{shapes[0][2]}"


def _head_box(graph: Graph, layout: Layout, left, color) -> Box:
    """The box of the last row, the head, spans all columns that it reads."""
    row = graph.rows[-1]
    columns = [layout.cells[s][0] for s in row.sources if s >= 0] or [layout.cells[row.index][0]]
    first, last = min(columns), max(columns)
    x = left + first * COLUMN_WIDTH + (COLUMN_WIDTH - WIDTH) / 2
    y = TOP + layout.cells[row.index][1] * (HEIGHT + GAP)
    strides = ", ".join(f"{s:g}" for s in graph.head_strides or ()) or "?"
    lines = (f"{row.index}  {_shorten(row.module, MAX_TITLE)}", f"strides {strides}; {_short_count(row.params)}")
    return Box(
        x,
        y,
        (last - first) * COLUMN_WIDTH + WIDTH,
        HEIGHT,
        lines,
        COLORS["head"] if row.shapes else color,
        f"row {row.index} {row.module}({row.args})",
        row.index,
    )


def _colors(rows: list[RowSummary]) -> list[tuple[str, str]]:
    """One color each for joins, rows without weights and plain convolutions; other modules get the next free color."""
    families: dict[str, tuple[str, str]] = {}
    colors = []
    for row in rows:
        if not row.shapes:
            colors.append(COLORS["broken"])
        elif len(row.sources) > 1:
            colors.append(COLORS["join"])
        elif not row.params:
            colors.append(COLORS["resize"])
        elif row.module.lower() in PLAIN_CONVOLUTIONS:
            colors.append(COLORS["conv"])
        else:
            colors.append(families.setdefault(row.module, FAMILIES[len(families) % len(FAMILIES)]))
    return colors


def _short_count(number: int) -> str:
    """1234567 -> 1.23 M."""
    for unit, factor in (("M", 1e6), ("k", 1e3)):
        if number >= factor:
            return f"{number / factor:.3g} {unit}"
    return str(number)


def _text_width(text: str, small: bool) -> float:
    return sum(2 if east_asian_width(character) in "WF" else 1 for character in text) * (6.4 if small else 8.2)


def _shorten(text: str, limit: int) -> str:
    """At most `limit` characters; the tooltip has the complete text."""
    return text if len(text) <= limit else text[: limit - 1] + "\u2026"


def _arrow(source: int, target: int, boxes: list[Box], layout: Layout, left) -> str:
    """The arrow from one box to another; rows that read the image have a short labeled arrow."""
    end = boxes[target]
    head = target == len(boxes) - 1
    color = "#8a8a8a"
    if source < 0:
        x = end.x + end.w / 2
        label = f"<text x='{x + 8:g}' y='{end.y - 12:g}' font-size='11' fill='#666666'>image</text>"
        return _path([(x, end.y - 20), (x, end.y - 1)], color) + label
    start = boxes[source]
    route = layout.routes[(source, target)]
    (column, line), (to_column, to_line) = layout.cells[source], layout.cells[target]
    if head:
        to_column, to_x = column, start.x + start.w / 2
    else:
        to_x = end.x + end.w / 2 + route.shift
    if route.kind == "straight":
        if line == to_line and not head:
            x0, x1 = (start.x + start.w, end.x - 1) if to_column > column else (start.x, end.x + end.w + 1)
            return _path([(x0, start.y + HEIGHT / 2), (x1, end.y + HEIGHT / 2)], color)
        x = start.x + start.w / 2
        return _path([(x, start.y + HEIGHT), (x, end.y - 1)], color)
    color = route.color
    x0 = start.x + start.w / 2 + route.leave
    below = start.y + HEIGHT + 5 + 8 * route.level  # in the upper half of the gap
    track = left + route.column * COLUMN_WIDTH + (COLUMN_WIDTH - WIDTH) / 2 - TRACK - TRACK_STEP * route.track
    above = end.y - 13 - 4 * route.level_in  # in its lower half, above arrowheads
    if route.kind == "gap":  # to the next line of another column, no box is between
        return _path([(x0, start.y + HEIGHT), (x0, below), (to_x, below), (to_x, end.y - 1)], color)
    return _path(
        [(x0, start.y + HEIGHT), (x0, below), (track, below), (track, above), (to_x, above), (to_x, end.y - 1)], color
    )


def _path(points, color) -> str:
    """A polyline with rounded corners and an arrowhead."""
    text = f"M{points[0][0]:g} {points[0][1]:g}"
    for before, here, after in zip(points, points[1:], points[2:], strict=False):
        radius = min(6, math.dist(before, here) / 2, math.dist(here, after) / 2)
        ends = []
        for other in (before, after):
            length = math.dist(here, other) or 1
            ends.append(
                (here[0] + (other[0] - here[0]) * radius / length, here[1] + (other[1] - here[1]) * radius / length)
            )
        text += f" L{ends[0][0]:g} {ends[0][1]:g} Q{here[0]:g} {here[1]:g} {ends[1][0]:g} {ends[1][1]:g}"
    text += f" L{points[-1][0]:g} {points[-1][1]:g}"
    return f"<path d='{text}' fill='none' stroke='{color}' stroke-width='1.6' marker-end='url(#tip)'/>"
