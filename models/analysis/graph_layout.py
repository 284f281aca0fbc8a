"""Where the boxes of a graph lie: a column a stride, lines from top to bottom, and the ways of the arrows between."""

from collections import defaultdict
from dataclasses import dataclass

LANE, GAP = 232, 30  # pixels from column to column, and between two lines of boxes
TRACK_COLOURS = ("#3b76b5", "#c0702a", "#3d8b47", "#7c55a8", "#b0487f", "#2a8c86", "#b8860b", "#c2453c")


@dataclass(frozen=True)
class Route:
    """How an arrow goes. `straight`: along the column or to the box beside; `gap`: through the gap between two lines;
    `track`: down beside a column. `lane` and `track` say beside which column and how far out; `leave` and `shift` move
    its ends sideways; `level` and `level_in` its height in the gaps, 0 or 1."""

    kind: str
    lane: int = 0
    track: int = 0
    leave: float = 0
    shift: float = 0
    level: float = 0
    level_in: float = 0
    colour: str = "#8a8a8a"


@dataclass(frozen=True)
class Layout:
    """`lanes`: the strides; `cells[row]`: (column, line); `lines`: how many; `routes[(source, row)]`."""

    lanes: list[int]
    cells: list[tuple[int, int]]
    lines: int
    routes: dict[tuple[int, int], Route]


def arrange(sources: list[tuple[int, ...]], strides: list[int]) -> Layout:
    """Place rows, the last of which is the head: below what they read, beside it where the column differs and is free."""
    lanes = sorted(set(strides[:-1] or strides))
    cells: list[tuple[int, int]] = []
    taken: set[tuple[int, int]] = set()
    for row, read in enumerate(sources[:-1]):
        column = lanes.index(strides[row])
        line = 0
        for source in (s for s in read if s >= 0):
            beside, at = cells[source]
            between = range(min(beside, column) + 1, max(beside, column))
            free = beside != column and not any((c, at) in taken for c in between) and source == row - 1
            line = max(line, at if free else at + 1)
        while (column, line) in taken or (line and any((column, later) in taken for later in range(line, line + 40))):
            line += 1
        cells.append((column, line))
        taken.add((column, line))
    lines = max((line for _, line in cells), default=0) + 1
    cells.append((lanes.index(strides[-1]), lines))
    return Layout(lanes, cells, lines, _route(sources, cells, taken))


def _route(sources, cells, taken) -> dict[tuple[int, int], Route]:
    last = len(sources) - 1
    routes, used = {}, defaultdict(list)
    colours: dict[int, str] = {}
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
            colour = colours.setdefault(source, TRACK_COLOURS[len(colours) % len(TRACK_COLOURS)])
            entries[row] += 1
            entry = -18 if row == last else -26 - 16 * min(entries[row], 3)  # beside the middle, no two in one point
            if to_line == line + 1 and column != to_column:
                routes[source, row] = Route(
                    "gap", leave=18 if to_column > column else -18, shift=entry, level=0.5, colour=colour
                )
                continue
            track = next(t for t in range(50) if not any(a < to_line and line < b for a, b in used[to_column, t]))
            used[to_column, track].append((line, to_line))
            routes[source, row] = Route(
                "track", to_column, track, -18, entry, level=track % 2, level_in=(track + 1) % 2, colour=colour
            )
    return routes
