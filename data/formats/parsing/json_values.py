"""Reading values of a COCO JSON that may be missing or of any type."""

from typing import Any

import numpy as np


def read_boxes(values: list) -> np.ndarray:
    """Return boxes (n, 4) float64 xywh; NaN for what is not four numbers."""
    try:
        boxes = np.array(values, np.float64)
        if boxes.shape == (len(values), 4):
            return boxes
    except (TypeError, ValueError, OverflowError):
        pass
    boxes = np.full((len(values), 4), np.nan)
    for index, value in enumerate(values):
        try:
            boxes[index] = np.array(value, np.float64).reshape(4)
        except (TypeError, ValueError, OverflowError):
            continue
    return boxes


def read_id(value: Any) -> int | str | None:
    """Return an id as an int or text; None if it is neither."""
    if isinstance(value, (int, str)) and not isinstance(value, bool):
        return value
    return int(value) if isinstance(value, float) and value.is_integer() else None


def read_whole_number(value: Any) -> int | None:
    """Return an id that is a whole number, perhaps written as text; None for any other value."""
    if isinstance(value, str) and len(value) < 19 and value.isascii() and value.strip().isdigit():
        return int(value)
    id_ = read_id(value)
    return id_ if isinstance(id_, int) else None


def read_ids(values: list) -> np.ndarray:
    """Return annotation ids (n,) int64; 0 if one is missing or not an integer below 2**62, perhaps as text."""
    if set(map(type, values)) <= {int}:
        try:
            ids = np.array(values, np.int64)
            return np.where(np.abs(ids) < 2**62, ids, 0)
        except OverflowError:
            pass
    numbers = [read_whole_number(value) or 0 for value in values]
    return np.array([number if abs(number) < 2**62 else 0 for number in numbers], np.int64)


def read_areas(values: list) -> np.ndarray:
    """Return areas (n,) float64; NaN (use that of the box) if one is missing or not a number of at least 0."""
    try:
        areas = np.array(values, np.float64).reshape(len(values))
    except (TypeError, ValueError, OverflowError):
        areas = np.array([_to_float(value) for value in values])
    return np.where((areas >= 0) & (areas < np.inf), areas, np.nan)


def _to_float(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return float("nan")


def read_size(value: Any) -> int:
    """Return a declared width or height; 0 if it is missing or not a positive number."""
    is_valid = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < 2**31
    return int(value) if is_valid else 0
