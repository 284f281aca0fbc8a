"""Checks of what a head's row says in its args."""

import math

from graftdet.utils.errors import UserError, did_you_mean


def check_classes(nc) -> None:
    """Raise `UserError` unless `nc` is a number of classes."""
    hint = did_you_mean(nc, ["nc"]) if isinstance(nc, str) else ""
    check_whole(nc, "the number of classes", 1, hint)


def check_whole(value, what: str, least: int, hint: str = "", most: float = math.inf) -> None:
    """Raise `UserError` unless `value` is a whole number from `least` to `most`; `what` names it."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise UserError(f"{what} must be a whole number of at least {least}, got {value!r}{hint}")
    if value > most:
        raise UserError(f"{what} must be at most {most}, got {value}")


def check_anchors(anchors) -> None:
    """Raise `UserError` unless each level is a list of as many widths and heights above 0, in pixels, as the others."""
    for i, level in enumerate(anchors):
        numbers = level if isinstance(level, (list, tuple)) else []
        wrong = [v for v in numbers if isinstance(v, bool) or not isinstance(v, (int, float)) or not 0 < v < 1e6]
        if wrong or not numbers or len(numbers) % 2 or len(numbers) != len(anchors[0]):
            raise UserError(
                f"anchors: expected as many numbers above 0, [w, h, w, h, ...] in pixels, a level; level {i} is {level!r}"
            )
