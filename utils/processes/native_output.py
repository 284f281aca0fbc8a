"""What native libraries print, kept off the terminal."""

import contextlib
import logging
import os
import sys
import tempfile
from collections.abc import Iterator


@contextlib.contextmanager
def captured_output() -> Iterator[list[str]]:
    """Capture what is printed to standard output and error inside the block, by native code and subprocesses, too.

    Not for code that other threads print during.

    Yields:
        A list that holds the printed lines, without empty ones, when the block has ended.
    """
    lines: list[str] = []
    with tempfile.TemporaryFile() as file, contextlib.ExitStack() as stack:
        for number, stream in ((1, sys.stdout), (2, sys.stderr)):
            _flush(stream)
            try:
                saved = os.dup(number)
            except OSError:  # closed, as without a terminal
                continue
            stack.callback(_restore, saved, number, stream)
            os.dup2(file.fileno(), number)
        # never closed here: a library may create a logging handler inside the block, which keeps it
        text = open(os.dup(file.fileno()), "w", buffering=1, encoding="utf-8", errors="replace")
        root, handlers = logging.getLogger(), logging.getLogger().handlers[:]
        stack.enter_context(contextlib.redirect_stdout(text))
        stack.enter_context(contextlib.redirect_stderr(text))
        try:
            yield lines
        finally:
            stack.close()
            root.handlers[:] = handlers  # one that a library added would repeat every later message
            _flush(text)
            file.seek(0)
            printed = file.read().decode(errors="replace")
            lines += [line.strip() for line in printed.splitlines() if line.strip()]


def _restore(saved: int, number: int, stream: object) -> None:
    _flush(stream)
    os.dup2(saved, number)
    os.close(saved)


def _flush(stream: object) -> None:
    with contextlib.suppress(AttributeError, OSError, ValueError):
        stream.flush()  # type: ignore[attr-defined]
