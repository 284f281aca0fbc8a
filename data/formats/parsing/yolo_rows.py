"""Rows of YOLO label files: parsing, and the decision what rows of more than five columns are.

Tools write boxes (`class cx cy w h`), boxes with a confidence, boxes with keypoints of two or three values each,
polygons (`class x1 y1 x2 y2 ...`) and oriented boxes (four corners, or a box with an angle). Column counts overlap,
so that the rows of a dataset are judged together.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from graftdet.data.formats.parsing.sixth_column import AngleUnit, Undecided, decide_sixth_column, turned_box

CONSISTENT = 0.9  # fraction of the rows that must fit a reading
MAX_NUMBER = 2**31  # of a class
MIN_CORNERS = 3  # boxes; fewer may exceed their image by mistake
FEW = 5  # rows, which may look like two readings by chance
_MARGIN = 0.25  # of the box size, by which keypoints may lie outside their box


class LongRow(NamedTuple):
    """A row of more than five columns, with what it could be."""

    line: int
    number: int  # of the class
    columns: int
    box: tuple[float, float, float, float]  # corners, if the first four values are cx, cy, w, h
    polygon: tuple[float, float, float, float] | None  # corners around the points; None for a wrong number of values
    sixth: float | None  # the value after the box, of a row of six columns
    fits_confidence: bool  # a box and a value from 0 to 1
    fits_keypoints: bool  # a box inside the image with points inside it
    has_visibility: bool  # every third value after the box is 0, 1 or 2
    has_missing: bool  # a pair of -1, the mark of a missing keypoint
    fits_polygon: bool  # points inside the image
    is_ring: bool  # the second point lies near the others, as that of a polygon does
    is_parallelogram: bool  # four points, as an oriented box has them


class LabelFile(NamedTuple):
    """The rows of a label file."""

    boxes: np.ndarray  # (n, 6) float64: line, class, x1, y1, x2, y2, relative to the image size
    long_rows: list[LongRow]
    malformed: list[tuple[int, str]]  # (line, content)

    @classmethod
    def empty(cls) -> "LabelFile":
        """Return a file without rows."""
        return cls(np.zeros((0, 6)), [], [])


def parse_labels(text: str) -> LabelFile:
    """Parse the content of a label file."""
    boxes: list[tuple] = []
    long_rows: list[LongRow] = []
    malformed: list[tuple[int, str]] = []
    for line, content in enumerate(text.splitlines(), 1):
        values = content.split()
        if not values:
            continue
        row = _parse_row(line, values)
        if row is None:
            malformed.append((line, content))
        elif isinstance(row, LongRow):
            long_rows.append(row)
        else:
            boxes.append(row)
    return LabelFile(np.array(boxes, np.float64).reshape(-1, 6), long_rows, malformed)


def _parse_row(line: int, values: list[str]) -> tuple | LongRow | None:
    """A box (line, class, corners), a long row, or None."""
    if len(values) < 5:
        return None
    try:
        number, *coordinates = map(float, values)
    except ValueError:
        return None
    if not abs(number) < MAX_NUMBER or number != int(number):
        return None
    box = _corners(coordinates)
    return (line, int(number), *box) if len(coordinates) == 4 else _describe(line, int(number), coordinates, box)


def _corners(values: Sequence[float]) -> tuple[float, float, float, float]:
    x, y, width, height = values[:4]
    return x - width / 2, y - height / 2, x + width / 2, y + height / 2


def _describe(line: int, number: int, values: list[float], box: tuple[float, float, float, float]) -> LongRow:
    """What the values after the class of a long row could be."""
    finite = all(map(math.isfinite, values))
    rest = values[4:]
    polygon = None
    if len(values) >= 6 and len(values) % 2 == 0:
        xs, ys = values[::2], values[1::2]
        polygon = (min(xs), min(ys), max(xs), max(ys)) if finite else (math.nan,) * 4
    in_range = finite and min(values) >= -0.05 and max(values) <= 1.05
    pairs = list(zip(rest[::2], rest[1::2], strict=False)) if len(rest) % 2 == 0 else []
    triples = list(zip(rest[::3], rest[1::3], rest[2::3], strict=False)) if len(rest) % 3 == 0 else []
    is_box = finite and _inside_image(box)
    visible = [(x, y) for x, y, visibility in triples if visibility > 0]
    has_visibility = bool(triples) and all(visibility in (0, 1, 2) for _, _, visibility in triples)
    fits_triples = bool(triples) and all(0 <= value <= 2 for _, _, value in triples) and _inside_box(visible, box)
    return LongRow(
        line,
        number,
        1 + len(values),
        box,
        polygon,
        sixth=rest[0] if len(rest) == 1 else None,
        fits_confidence=len(rest) == 1 and finite and 0 <= rest[0] <= 1,
        fits_keypoints=is_box and (fits_triples or (bool(pairs) and _inside_box(pairs, box))),
        has_visibility=is_box and has_visibility and fits_triples,
        has_missing=is_box and (-1, -1) in pairs + [triple[:2] for triple in triples],
        fits_polygon=polygon is not None and in_range,
        is_ring=polygon is not None and in_range and _is_ring(xs, ys),
        is_parallelogram=len(values) == 8 and in_range and _is_parallelogram(values),
    )


def _inside_image(box: tuple[float, float, float, float]) -> bool:
    """Whether a box has an area and exceeds the image by little at most."""
    x1, y1, x2, y2 = box
    slack_x, slack_y = 0.02 + 0.1 * (x2 - x1), 0.02 + 0.1 * (y2 - y1)
    return x2 > x1 and y2 > y1 and min(x1 + slack_x, y1 + slack_y) >= 0 and max(x2 - slack_x, y2 - slack_y) <= 1


def _inside_box(points: list[tuple[float, float]], box: tuple[float, float, float, float]) -> bool:
    """Whether most points that are not missing lie in a box, or near it."""
    x1, y1, x2, y2 = box
    margin_x, margin_y = 0.01 + _MARGIN * (x2 - x1), 0.01 + _MARGIN * (y2 - y1)
    known = [point for point in points if point not in ((-1, -1), (0, 0))]
    left, top, right, bottom = x1 - margin_x, y1 - margin_y, x2 + margin_x, y2 + margin_y
    inside = sum(left <= x <= right and top <= y <= bottom for x, y in known)
    return inside >= 0.8 * len(known)


def _is_ring(xs: list[float], ys: list[float]) -> bool:
    """Whether the second point of a polygon lies within the box around the others, enlarged by its longer side.

    The second "point" of a box with keypoints is (width, height), which has nothing to do with the position.
    """
    other_xs, other_ys = xs[:1] + xs[2:], ys[:1] + ys[2:]
    side = 0.01 + max(max(other_xs) - min(other_xs), max(other_ys) - min(other_ys))
    inside_x = min(other_xs) - side <= xs[1] <= max(other_xs) + side
    return inside_x and min(other_ys) - side <= ys[1] <= max(other_ys) + side


def _is_parallelogram(values: list[float]) -> bool:
    """Whether four points are the corners of a rectangle at any angle: scaling to relative values skews it."""
    x1, y1, x2, y2, x3, y3, x4, y4 = values
    size = max(max(values[::2]) - min(values[::2]), max(values[1::2]) - min(values[1::2]))
    return max(abs(x1 + x3 - x2 - x4), abs(y1 + y3 - y2 - y4)) <= 0.003 + 0.03 * size


def decide_reading(rows: list[LongRow], num_boxes: int, keypoint_columns: int | None = None) -> str | None:
    """Decide what the long rows of a dataset are.

    Args:
        rows: long rows of all splits, perhaps a sample.
        num_boxes: number of rows of five columns beside them.
        keypoint_columns: number of values per row that the data YAML declares for keypoints.

    Returns:
        'box' (with a confidence), 'polygon', 'box+keypoints' or 'obb' (corners or an angle); None if the rows are few
        and fit no reading.

    Raises:
        Undecided: if the rows have several readings, or are many and have none.
    """
    six, longer = [row for row in rows if row.columns == 6], [row for row in rows if row.columns > 6]
    sixth = decide_sixth_column(sixth_values(six)) if 2 * len(six) > len(rows) + num_boxes else None
    if not longer:
        return sixth or ("box" if all(row.fits_confidence for row in six) else None)
    if _fraction([row.is_parallelogram for row in longer]) >= CONSISTENT:
        return "obb"
    columns, count = Counter(row.columns for row in longer).most_common(1)[0]
    same = [row for row in longer if row.columns == columns]
    of_one_length = count >= 0.95 * len(longer)
    keypoints = _fraction([row.fits_keypoints for row in same])
    fits_keypoints = of_one_length and keypoints >= CONSISTENT
    if of_one_length and keypoints >= 0.5 and columns == 5 + (keypoint_columns or 0):
        return "box+keypoints"
    if fits_keypoints and (
        any(row.has_missing for row in same)
        or columns % 2 == 0
        or _fraction([row.has_visibility for row in same]) >= 0.95
    ):
        return "box+keypoints"
    rings = _fraction([row.is_ring for row in longer])
    required = 0.0 if not of_one_length else 0.5 if not fits_keypoints else 0.01 if len(longer) < FEW else CONSISTENT
    fits_polygon = _fraction([row.fits_polygon for row in longer]) >= CONSISTENT and rings >= required
    if fits_keypoints and fits_polygon:
        if num_boxes > len(longer):  # tools mix boxes with polygons, but not with boxes that have keypoints
            return "polygon"
        raise Undecided(f"rows of {columns} columns can be polygons, or boxes with keypoints")
    if fits_keypoints or fits_polygon:
        return "box+keypoints" if fits_keypoints else "polygon"
    if 2 * len(longer) > len(rows) + num_boxes:
        raise Undecided(f"rows of {columns} columns are neither polygons nor boxes with keypoints inside them")
    return None


def count_corners(files: Iterable[LabelFile]) -> int:
    """Return the number of boxes if they rather are corners, `class x1 y1 x2 y2`: read as boxes, most leave the image.

    Args:
        files: the label files of a split.
    """
    boxes = np.concatenate([np.zeros((0, 4)), *(file.boxes[:, 2:] for file in files)])
    boxes = boxes[np.isfinite(boxes).all(1)]
    centers, sizes = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]  # (n, 2), as they are written
    exceeds = ((boxes < -0.02) | (boxes > 1.02)).any(1)
    is_likely = len(boxes) >= MIN_CORNERS and exceeds.mean() > 0.5 and (sizes > centers).all() and sizes.max() <= 1.001
    return len(boxes) if is_likely else 0


def _fraction(values: list[bool]) -> float:
    return sum(values) / max(len(values), 1)


def sixth_values(rows: list[LongRow]) -> list[float]:
    """The sixth value of each row of six columns."""
    return [row.sixth for row in rows if row.sixth is not None]


def box_of(
    row: LongRow, reading: str | None, unit: AngleUnit | None = None, aspect: float = 1.0
) -> tuple[float, float, float, float] | None:
    """The corners of a long row in a reading; None if it has no box in it.

    Args:
        row: a row of more than five columns.
        reading: 'box', 'polygon', 'box+keypoints', 'obb', or None if the rows fit no reading.
        unit: unit of the angle in the sixth column; None if it is no angle.
        aspect: height / width of the image.
    """
    if reading == "obb" and unit is not None and row.sixth is not None:
        return turned_box(row.box, row.sixth, unit, aspect) if math.isfinite(row.sixth) else None
    if reading == "box" or row.fits_confidence:
        return row.box
    if reading == "box+keypoints":
        return row.box if row.columns > 6 else None
    return None if reading is None else row.polygon
