"""Where in a plugin an error was raised."""

from pathlib import Path
from types import TracebackType

PLUGIN_PREFIX = "graftdet_plugin_"
"""Names of the Python modules of plugin files start with it."""


def plugin_line(error: BaseException, packages: tuple[str, ...] = ()) -> str:
    """The innermost line of a plugin in the traceback of an error.

    Args:
        error: the error, or one that it was raised from.
        packages: plugins that are packages, by dotted name.

    Returns:
        `my_blocks.py:14`; empty where no plugin was running.
    """
    current: BaseException | None = error
    while current is not None:
        found = _innermost(current.__traceback__, packages)
        if found:
            return found
        current = current.__cause__
    return ""


def _innermost(traceback: TracebackType | None, packages: tuple[str, ...]) -> str:
    found = ""
    while traceback is not None:
        module = str(traceback.tb_frame.f_globals.get("__name__", ""))
        if module.startswith(PLUGIN_PREFIX) or any(f"{module}.".startswith(f"{package}.") for package in packages):
            found = f"{Path(traceback.tb_frame.f_code.co_filename).name}:{traceback.tb_lineno}"
        traceback = traceback.tb_next
    return found
