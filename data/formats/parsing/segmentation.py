"""Boxes around the segmentation of a COCO annotation: polygons or a run-length encoded mask. Values are not trusted."""

import math
from collections.abc import Iterator
from typing import Any

MAX_DEPTH = 4  # of nested lists


def box_of_segmentation(value: Any) -> tuple[float, float, float, float] | None:
    """Return the box around a segmentation.

    Args:
        value: polygons `[[x1, y1, x2, y2, ...], ...]`, one polygon, points as pairs or mappings of x and y, or a mask
            `{size: [height, width], counts: ...}` with a list or a compressed text of counts.

    Returns:
        x, y, width, height in pixels; None if the value is none of these, or has no area.
    """
    try:
        corners = _mask_corners(value) if isinstance(value, dict) else _polygon_corners(value)
    except (TypeError, ValueError, KeyError, OverflowError):
        return None
    if corners is None or not all(map(math.isfinite, corners)):
        return None
    x1, y1, x2, y2 = corners
    return (x1, y1, x2 - x1, y2 - y1) if x2 > x1 and y2 > y1 else None


def _polygon_corners(value: Any) -> tuple[float, float, float, float] | None:
    numbers = list(_numbers(value, MAX_DEPTH)) if isinstance(value, list) else []
    if len(numbers) < 4 or len(numbers) % 2:
        return None
    xs, ys = numbers[::2], numbers[1::2]
    return min(xs), min(ys), max(xs), max(ys)


def _numbers(value: Any, depth: int) -> Iterator[float]:
    """All numbers of nested lists, in order."""
    if isinstance(value, list) and depth:
        for item in value:
            yield from _numbers(item, depth - 1)
    elif isinstance(value, dict):
        yield float(value["x"])
        yield float(value["y"])
    else:
        yield float(value)


def _mask_corners(value: dict) -> tuple[float, float, float, float] | None:
    """The corners around the ones of a mask, whose counts run down the columns."""
    height, width = (int(side) for side in value["size"])
    counts = value["counts"]
    runs = _decompress(counts) if isinstance(counts, (str, bytes)) else [int(count) for count in counts]
    if height <= 0 or width <= 0 or min(runs, default=0) < 0 or sum(runs) > height * width:
        return None
    start, left, right, top, bottom = 0, width, -1, height, -1
    for index, run in enumerate(runs):
        if index % 2 and run:
            last = start + run - 1
            left, right = min(left, start // height), max(right, last // height)
            if start // height == last // height:
                top, bottom = min(top, start % height), max(bottom, last % height)
            else:  # from one column to another: it reaches the lower and the upper edge
                top, bottom = 0, height - 1
        start += run
    return None if right < 0 else (left, top, right + 1, bottom + 1)


def _decompress(text: str | bytes) -> list[int]:
    """The counts of a compressed mask: groups of five bits, differences to the last count but one (COCO's format)."""
    data = text.encode("ascii") if isinstance(text, str) else text
    counts: list[int] = []
    value = shift = 0
    for byte in data:
        bits = byte - 48
        value |= (bits & 0x1F) << shift
        shift += 5
        if bits & 0x20:  # more follow
            continue
        if bits & 0x10:
            value -= 1 << shift
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
        value = shift = 0
    return counts
