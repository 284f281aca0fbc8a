"""Layout of a drawn graph: one column of boxes per stride, lines from top to bottom, routes of the arrows."""

from collections import defaultdict
from dataclasses import dataclass

COLUMN_WIDTH, GAP = 232, 34  # pixels from column to column, and between lines of boxes
TRACK_COLORS = ("#3b76b5", "#c0702a", "#3d8b47", "#7c55a8", "#b0487f", "#2a8c86", "#b8860b", "#c2453c")


@dataclass(frozen=True)
class Route:
    """Route of an arrow.

    Attributes:
        kind: "straight" (within a column, or to the next box of a line), "gap" (through the gap between two lines) or
            "track" (down beside a column).
        column: The column that the track is beside.
        track: Number of the track, counted from the boxes outwards.
        leave: Horizontal offset of the start, pixels.
        shift: Horizontal offset of the end, pixels.
        level: Height in the gap below the start, from 0 to 1.
        level_in: Height in the gap above the end, from 0 to 1.
        color: Of the line.
    """

    kind: str
    column: int = 0
    track: int = 0
    leave: float = 0
    shift: float = 0
    level: float = 0
    level_in: float = 0
    color: str = "#8a8a8a"


@dataclass(frozen=True)
class Layout:
    """Positions of all rows.

    Attributes:
        strides: Stride of each column.
        cells: (column, line) of each row.
        lines: Number of lines without the head.
        routes: Route by (source row, row).
    """

    strides: list[int]
    cells: list[tuple[int, int]]
    lines: int
    routes: dict[tuple[int, int], Route]


def arrange(sources: list[tuple[int, ...]], strides: list[int]) -> Layout:
    """Arrange rows below their sources, or beside one of another column if no box is between.

    Args:
        sources: Rows that each row reads, -1 for the image; the last row is the head.
        strides: Stride of each row's output.
    """
    columns = sorted(set(strides[:-1] or strides))
    cells: list[tuple[int, int]] = []
    taken: set[tuple[int, int]] = set()
    passed: set[tuple[int, int]] = set()  # by arrows within a line
    for row, read in enumerate(sources[:-1]):
        column = columns.index(strides[row])
        line = 0
        for source in (s for s in read if s >= 0):
            beside, at = cells[source]
            between = range(min(beside, column) + 1, max(beside, column))
            free = beside != column and not any((c, at) in taken for c in between) and source == row - 1
            line = max(line, at if free else at + 1)
        while (column, line) in taken | passed or (
            line and any((column, later) in taken for later in range(line, line + 40))
        ):
            line += 1
        cells.append((column, line))
        taken.add((column, line))
        for beside, at in (cells[source] for source in read if source >= 0):
            if at == line:
                passed.update((between, at) for between in range(min(beside, column) + 1, max(beside, column)))
    lines = max((line for _, line in cells), default=0) + 1
    cells.append((columns.index(strides[-1]), lines))
    return Layout(columns, cells, lines, _route(sources, cells, taken))


def _route(sources, cells, taken) -> dict[tuple[int, int], Route]:
    last = len(sources) - 1
    routes: dict[tuple[int, int], Route] = {}
    used: dict[tuple[int, int], list[tuple[int, int]]] = defaultdict(list)
    colors: dict[int, str] = {}
    entries: dict[int, int] = defaultdict(int)
    for row, read in enumerate(sources):
        for source in (s for s in read if s >= 0):
            (column, line), (to_column, to_line) = cells[source], cells[row]
            if row == last:
                to_column = column
            between = range(line + 1, to_line)
            if column == to_column and not any((column, at) in taken for at in between):
                routes[source, row] = Route("straight")
                continue
            if line == to_line:
                routes[source, row] = Route("straight")
                continue
            color = colors.setdefault(source, TRACK_COLORS[len(colors) % len(TRACK_COLORS)])
            entries[row] += 1
            entry = -18 if row == last else -26 - 16 * min(entries[row], 3)  # left of the center, at different points
            if to_line == line + 1 and column != to_column:
                routes[source, row] = Route(
                    "gap", leave=18 if to_column > column else -18, shift=entry, level=1, color=color
                )
                continue
            track = next(t for t in range(50) if not any(a < to_line and line < b for a, b in used[to_column, t]))
            used[to_column, track].append((line, to_line))
            routes[source, row] = Route(
                "track", to_column, track, -18, entry, level=track % 2 / 2, level_in=(track + 1) % 2, color=color
            )
    return routes
