"""Ctrl-C and SIGTERM: a command ends within seconds at any moment, a second signal ends it at once.

A signal raises an exception in the main thread, so that files being written are closed. That may be too late, while a
library computes, or lost, as Python ignores exceptions while it forks or frees objects. A thread therefore ends the
process after a while.
"""

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

GRACE = 8.0  # seconds from the first signal to the end
BOUNCE = 0.3  # seconds in which signals are one: a group of processes receives it, and children may pass it on
TERMINATED, INTERRUPTED = 143, 130  # exit statuses: 128 + the number of the signal
_STATUS = {signal.SIGINT: INTERRUPTED, signal.SIGTERM: TERMINATED}
_MESSAGES = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}


class Terminated(KeyboardInterrupt):
    """SIGTERM was received. What cleans up after Ctrl-C also does so after this."""


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Raise `Terminated` inside on SIGTERM, and end the process if it still runs `GRACE` seconds after a signal.

    Errors that follow a signal are the interruption: processes of a loader have received it as well, and earlier.
    Without effect in threads, and in processes of torchrun, which must end at once when one fails.
    """
    main_thread = threading.current_thread() is threading.main_thread()
    if not main_thread or "TORCHELASTIC_RUN_ID" in os.environ or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return

    received: list[type[KeyboardInterrupt]] = []
    replaced: dict[int, Any] = {}

    def stop(number: int, _: object) -> None:
        received.append(Terminated if number == signal.SIGTERM else KeyboardInterrupt)
        if len(received) == 1 and hasattr(signal, "SIGCHLD"):  # torch raises where a process of a loader ends
            replaced[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        if len(received) == 1 or sys.platform == "win32":  # the next one is for `_Watch`
            raise received[0]

    numbers = [signal.SIGTERM]
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        numbers.append(signal.SIGINT)
    replaced |= {number: signal.signal(number, stop) for number in numbers}
    try:
        with _watched():
            try:
                yield
            except Exception as error:
                if not received and isinstance(error, RuntimeError):
                    time.sleep(0.2)  # of torch's loader perhaps: the signal may still arrive
                if received:
                    raise received[0] from None
                raise
            if received:  # lost
                raise received[0]
    finally:
        if received and hasattr(signal, "SIGCHLD"):  # processes of a loader may end as late as at exit
            replaced.pop(signal.SIGCHLD, None)
        for number, handler in replaced.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _watched() -> Iterator[None]:
    """Watch for signals in a thread, which notices them while the main thread computes in a library."""
    if sys.platform == "win32":  # its signals come from a thread of their own
        yield
        return
    read, write = os.pipe()
    os.set_blocking(write, False)
    before = signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    _forget_in_children()
    watch = _Watch(read)
    watch.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        os.close(write)  # ends the thread
        watch.join(timeout=1)
        watch.cancel()


class _Watch(threading.Thread):
    """Ends the process `GRACE` seconds after the first signal, or at the second one.

    Args:
        pipe: receives the number of each signal as a byte.
    """

    def __init__(self, pipe: int):
        super().__init__(name="signals", daemon=True)
        self._pipe = pipe
        self._timer: threading.Timer | None = None

    def cancel(self) -> None:
        """Do not end the process because of a signal that was received."""
        if self._timer:
            self._timer.cancel()

    def run(self) -> None:
        """Wait for signals until the other end of the pipe is closed."""
        first = 0.0
        try:
            while data := os.read(self._pipe, 64):
                numbers = [number for number in data if number in _STATUS]
                if not numbers:
                    continue
                if first and time.monotonic() - first > BOUNCE:
                    _end(numbers[0])
                if not first:
                    first = time.monotonic()
                    self._timer = threading.Timer(GRACE, _end, (numbers[0],))
                    self._timer.daemon = True
                    self._timer.start()
        finally:
            os.close(self._pipe)


def _end(number: int) -> None:
    """End the process at once, without cleaning up."""
    with contextlib.suppress(OSError):
        os.write(2, f"{_MESSAGES[signal.Signals(number)]}\n".encode())
    os._exit(_STATUS[signal.Signals(number)])


_forgotten = False


def _forget_in_children() -> None:
    """Let forked processes not report their signals to this one."""
    global _forgotten
    if not _forgotten:
        _forgotten = True
        os.register_at_fork(after_in_child=_forget)


def _forget() -> None:
    with contextlib.suppress(ValueError):  # forked by another thread
        signal.set_wakeup_fd(-1)
