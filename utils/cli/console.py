"""What commands print: log messages with colors on terminals, --quiet."""

import contextlib
import logging
import os
import re
import sys
from collections.abc import Iterator
from typing import TextIO

from graftdet.utils.text import printable

RESULT = logging.INFO + 5
"""Level of messages that --quiet leaves: what the user asked for, such as the table of a validation."""
COLORS = {"red": "\033[31m", "yellow": "\033[33m", "green": "\033[32m"}

_ERROR = re.compile(r"\berror(\[[\w-]+\])?:")

logging.addLevelName(RESULT, "RESULT")


class ConsoleHandler(logging.Handler):
    """Messages below WARNING to standard output as they are; others to standard error after `warning: ` or `error: `.

    Messages whose `extra` names a "color" have it, and so have `warning: ` and `error: `, on terminals.
    """

    def emit(self, record: logging.LogRecord) -> None:
        """Print a message."""
        text = printable(self.format(record))
        if record.levelno < logging.WARNING:
            print(colored(text, getattr(record, "color", ""), sys.stdout), flush=True)  # an OSError is for `cli.run`
        elif sys.stderr is not None:
            color = "yellow" if record.levelno < logging.ERROR else "red"
            print(f"{colored(f'{record.levelname.lower()}:', color, sys.stderr)} {text}", file=sys.stderr, flush=True)


def configure_logging() -> None:
    """Print the log messages of this project from INFO."""
    logger = logging.getLogger("graftdet")
    logger.setLevel(logging.INFO)
    if not any(isinstance(handler, ConsoleHandler) for handler in logger.handlers):
        logger.addHandler(ConsoleHandler())


def be_quiet() -> None:
    """Print results, warnings and errors only; no progress."""
    logging.getLogger("graftdet").setLevel(RESULT)


@contextlib.contextmanager
def warnings_only() -> Iterator[None]:
    """Print warnings and errors only inside."""
    logger = logging.getLogger("graftdet")
    before = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(before)


def colored(text: str, color: str, stream: TextIO | None) -> str:
    """Return `text` in a color of `COLORS` where `stream` is a terminal that shows colors; "" is no color."""
    return f"{COLORS[color]}{text}\033[0m" if color and has_colors(stream) else text


def colored_error(text: str, stream: TextIO | None) -> str:
    """Return a message with its `error:` or `error[rule]:` in red, see `colored`."""
    return _ERROR.sub(lambda match: colored(match[0], "red", stream), text, count=1)


def has_colors(stream: TextIO | None) -> bool:
    """Whether a stream is a terminal that shows colors. NO_COLOR (see no-color.org) or TERM=dumb disable them."""
    is_terminal = hasattr(stream, "isatty") and stream.isatty()
    if not is_terminal or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    return os.name != "nt" or "WT_SESSION" in os.environ  # the old console of Windows shows the codes as text
