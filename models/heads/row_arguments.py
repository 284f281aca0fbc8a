"""Checks of the arguments in a head's row."""

import math
from typing import Any

from graftdet.utils.errors import UserError, did_you_mean


def check_num_classes(nc: Any) -> None:
    """Raise `UserError` unless `nc` is an integer of at least 1."""
    hint = did_you_mean(nc, ["nc"]) if isinstance(nc, str) else ""
    check_integer(nc, "the number of classes", 1, hint=hint)


def check_integer(value: Any, what: str, low: int, high: float = math.inf, hint: str = "") -> None:
    """Raise `UserError` unless `value` is an integer from `low` to `high`.

    Args:
        value: the value of the argument, of any type.
        what: the name of the argument in the message.
        low: the lowest value allowed.
        high: the highest value allowed.
        hint: text at the end of the message.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < low:
        raise UserError(f"{what} must be a whole number of at least {low}, got {value!r}{hint}")
    if value > high:
        raise UserError(f"{what} must be at most {high}, got {value}")


def check_anchor_lists(anchors: list) -> None:
    """Raise `UserError` unless each level is a list of [w, h, w, h, ...] above 0 in pixels, all of the same length."""
    for i, level in enumerate(anchors):
        numbers = level if isinstance(level, (list, tuple)) else []
        wrong = [v for v in numbers if isinstance(v, bool) or not isinstance(v, (int, float)) or not 0 < v < 1e6]
        if wrong or not numbers or len(numbers) % 2 or len(numbers) != len(anchors[0]):
            raise UserError(
                "anchors: expected the same count of numbers above 0, [w, h, w, h, ...] in pixels, per level; "
                f"level {i} is {level!r}"
            )
