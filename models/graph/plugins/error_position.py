"""Where in a plugin an error was raised."""

import contextlib
import inspect
from pathlib import Path
from types import TracebackType

from torch import nn

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


def class_line(block: nn.Module, packages: tuple[str, ...] = ()) -> str:
    """The line of a plugin in which the class of a block, or of a part of it, is defined; empty for other blocks."""
    for part in block.modules():
        if _is_plugin(type(part).__module__, packages):
            with contextlib.suppress(OSError, TypeError):
                return f"{Path(inspect.getfile(type(part))).name}:{inspect.getsourcelines(type(part))[1]}"
    return ""


def _is_plugin(module: str, packages: tuple[str, ...]) -> bool:
    return module.startswith(PLUGIN_PREFIX) or any(f"{module}.".startswith(f"{package}.") for package in packages)


def _innermost(traceback: TracebackType | None, packages: tuple[str, ...]) -> str:
    found = ""
    while traceback is not None:
        if _is_plugin(str(traceback.tb_frame.f_globals.get("__name__", "")), packages):
            found = f"{Path(traceback.tb_frame.f_code.co_filename).name}:{traceback.tb_lineno}"
        traceback = traceback.tb_next
    return found
