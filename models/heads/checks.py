"""Checks of what a head's row says in its args."""

from utils.errors import UserError, did_you_mean


def check_classes(nc) -> None:
    """Raise `UserError` unless `nc` is a number of classes."""
    hint = did_you_mean(nc, ["nc"]) if isinstance(nc, str) else ""
    check_whole(nc, "the number of classes", 1, hint)


def check_whole(value, what: str, least: int, hint: str = "") -> None:
    """Raise `UserError` unless `value` is a whole number of at least `least`; `what` names it."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise UserError(f"{what} must be a whole number of at least {least}, got {value!r}{hint}")
