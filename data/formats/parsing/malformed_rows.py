"""Why a row of a YOLO label file cannot be read, and what was expected."""

import re

_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?", re.IGNORECASE)
_DECIMAL_COMMA = re.compile(r"[-+]?\d*,\d+")
_MAX_SHOWN = 60  # characters of a row


def explain_row(content: str) -> str:
    """Return the start of a malformed row and what is wrong with it.

    Args:
        content: the row, which `yolo_rows` could not read.
    """
    reason = _reason(content.split(), content)
    return f"{content.strip()[:_MAX_SHOWN]!r}" + (f" {reason}" if reason else "")


def _reason(values: list[str], content: str) -> str:
    if any(map(_DECIMAL_COMMA.fullmatch, values)) and all(_is_number(value.replace(",", ".", 1)) for value in values):
        return "has decimal commas, expected decimal points"
    for separator, name in ((";", "semicolons"), (",", "commas")):
        if separator in content:
            return f"has {name}, expected values separated by spaces, with decimal points: class cx cy w h"
    if not any(map(_is_number, values)):
        return "has no numbers, expected class cx cy w h"
    if len(values) < 5:
        return f"has {len(values)} of at least 5 values: class cx cy w h"
    first = next((index for index, value in enumerate(values) if _is_number(value)), len(values))
    if 0 < first <= len(values) - 4 and all(map(_is_number, values[first:])):
        return f"starts with {' '.join(values[:first])[:_MAX_SHOWN]!r}, expected the number of a class"
    if all(map(_is_number, values)):
        return f"starts with {values[0][:_MAX_SHOWN]}, expected the whole number of a class"
    return ""


def _is_number(text: str) -> bool:
    return _NUMBER.fullmatch(text) is not None
