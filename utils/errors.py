"""What the user got wrong, told in one line."""

import difflib
import re
from collections.abc import Iterable


class UserError(ValueError):
    """Wrong input from outside: the message names the file, row or value, what was expected and the fix.

    Scripts print it as one line on standard error and end with exit status 2 (`graftdet.utils.cli.run`). Library callers can
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


_REQUESTS = re.compile(r"\.*\s*Please feel free to request support.*| *\[Caused by the value .*")
_ONNXRUNTIME = re.compile(r"^\[ONNXRuntimeError\] : \d+ : \w+ : (Non-zero status code returned while running )?")
_SOURCE = re.compile(r" Status Message: (/\S+:\d+ .*?\) )?")


def first_line(error: BaseException, limit: int = 240) -> str:
    """What an error of Python's, torch's or onnxruntime's says, in one line of at most `limit` characters: its first
    line, the last one of a traced program's; its kind where it says nothing."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    line = lines[-1 if "TorchScript interpreter" in lines[0] else 0]
    line = _REQUESTS.sub("", _SOURCE.sub(" ", _ONNXRUNTIME.sub("", line))).strip()
    return line if len(line) <= limit else line[: limit - 4] + " ..."
