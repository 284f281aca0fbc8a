"""What the user got wrong, told in one line."""

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """Wrong input from outside: the message names the file, row or value, what was expected and the fix.

    Scripts print it as one line on standard error and end with exit status 2 (`utils.cli.run`). Library callers can
    catch it as a ValueError.
    """


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """Return `"; did you mean 'x'?"` for the choice nearest to `word`, or an empty string when none is near."""
    near = nearest(word, choices)
    return f"; did you mean '{near}'?" if near else ""


def nearest(word: str, choices: Iterable[str]) -> str | None:
    """Return the choice that is most like `word`, whatever the case; None when none is near."""
    by_lower = {str(choice).lower(): str(choice) for choice in choices}
    near = difflib.get_close_matches(str(word).lower(), by_lower, n=1, cutoff=0.6)
    return by_lower[near[0]] if near else None
