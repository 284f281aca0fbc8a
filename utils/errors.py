"""Errors in what the user gave, and suggestions of what was meant."""

import difflib
import re
from collections.abc import Iterable
from pathlib import Path


class UserError(ValueError):
    """Invalid input. The message names the file, row or value, what was expected, and the fix.

    Scripts print it as one line on standard error and exit with status 2 (`graftdet.utils.cli.run`). Callers of the
    library can catch it as a ValueError.
    """

    def describe(self) -> str:
        """What the command line prints."""
        return "error: " + " ".join(str(self).split("\n"))


def did_you_mean(name: str, choices: Iterable[str]) -> str:
    """Return `"; did you mean 'x'?"` for the choice most similar to `name`, or "" if none is similar."""
    near = nearest(name, choices)
    return f"; did you mean '{near}'?" if near else ""


def nearest(name: str, choices: Iterable[str]) -> str | None:
    """Return the choice most similar to `name`, ignoring case; None if none is similar."""
    by_lower = {str(choice).lower(): str(choice) for choice in choices}
    near = difflib.get_close_matches(str(name).lower(), by_lower, n=1, cutoff=0.6)
    return by_lower[near[0]] if near else None


_REQUESTS = re.compile(r"\.*\s*Please feel free to request support.*| *\[Caused by the value .*")
_ONNXRUNTIME = re.compile(r"^\[ONNXRuntimeError\] : \d+ : \w+ : (Non-zero status code returned while running )?")
_SOURCE = re.compile(r" Status Message: (/\S+:\d+ .*?\) )?")


def first_line(error: BaseException, limit: int = 240) -> str:
    """Return the message of an exception of Python, torch or onnxruntime as one line of at most `limit` characters.

    That is its first line, of a TorchScript error the last one, and the name of the class if there is no message.
    """
    lines = str(error).strip().splitlines() or [type(error).__name__]
    line = lines[-1 if "TorchScript interpreter" in lines[0] else 0]
    line = _REQUESTS.sub("", _SOURCE.sub(" ", _ONNXRUNTIME.sub("", line))).strip()
    return line if len(line) <= limit else line[: limit - 4] + " ..."


def missing_weights(path: str | Path, known: Iterable[str] = ()) -> UserError:
    """The error for a missing weights file; for a bare name such as yolov5n.pt, that nothing is downloaded.

    Args:
        path: The missing file.
        known: Names that could have been meant.
    """
    if Path(path).suffix.lower() in (".yaml", ".yml"):
        found = "is a YAML file" if Path(path).is_file() else "no such file, and a YAML by its name"
        use = f"the weights of a model YAML are made by train.py --cfg {path}"
        return UserError(f"{path}: {found}; expected trained weights (.pt, .safetensors); {use}")
    is_bare = Path(path).parent == Path()
    hint = f"; weights are never downloaded, expected the path of a file{did_you_mean(str(path), known)}"
    return UserError(f"{path}: no such file{hint if is_bare else ''}")
