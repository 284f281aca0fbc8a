"""Signals that wait: work that must be completed once it has begun."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType


@contextlib.contextmanager
def signals_deferred() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM wait for the end of the block. Only in the main thread, which alone receives them.

    Libraries turn an exception that is raised inside of them into errors of their own: torch's archive writer into one
    that reads as a full disk.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    received: list[tuple[int, FrameType | None]] = []
    before = {}
    for number in (signal.SIGINT, signal.SIGTERM):
        handler = signal.getsignal(number)
        if handler is signal.SIG_DFL or callable(handler):
            before[number] = signal.signal(number, lambda *arguments: received.append(arguments))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    for number, frame in received[:1]:
        handler = before[signal.Signals(number)]
        if callable(handler):
            handler(number, frame)
        else:
            os.kill(os.getpid(), number)
