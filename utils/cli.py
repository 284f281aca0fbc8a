"""How every script starts and ends: one line for a mistake, exit status 2."""

import argparse
import contextlib
import errno
import gc
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator

from graftdet.utils.errors import UserError, did_you_mean

# What a disk may refuse anywhere, a report that goes into a full one included.
_OF_THE_DISK = {
    getattr(errno, name) for name in ("ENOSPC", "EDQUOT", "EFBIG", "EROFS", "EACCES") if hasattr(errno, name)
}


Switch = argparse.BooleanOptionalAction
"""The action of a flag that is --this or --no-this."""


class _HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Tells defaults where there are any and the help does not tell them itself."""

    def _get_help_string(self, action):
        told = action.default in (None, "", False) or action.default == [] or "default:" in (action.help or "")
        return action.help if told else super()._get_help_string(action)


class ArgumentParser(argparse.ArgumentParser):
    """argparse with exact flags only, and mistakes told in one line with the nearest known flag."""

    def __init__(self, *args, **kwargs):
        kwargs.setdefault("formatter_class", _HelpFormatter)
        super().__init__(*args, allow_abbrev=False, **kwargs)

    def parse_args(self, args=None, namespace=None):
        known, unknown = self.parse_known_args(args, namespace)
        if unknown:
            hint = did_you_mean(unknown[0].split("=")[0], self._flags(known)) if unknown[0].startswith("-") else ""
            self.error(f"unknown argument '{unknown[0]}'{hint}")
        return known

    def _flags(self, given) -> list[str]:
        """All flags, those of the command that was `given` among them."""
        flags = [flag for action in self._actions for flag in action.option_strings]
        for action in self._actions:
            if isinstance(action, argparse._SubParsersAction):
                command = action.choices.get(getattr(given, action.dest, None))
                flags += command._flags(given) if command else []
        return flags

    def error(self, message):
        sys.stderr.write(f"{self.prog}: error: {message}\n")
        sys.exit(2)


def at_least(least: float, kind: type = int) -> Callable[[str], float]:
    """The `type=` of an argument that is a number of `kind`, not below `least`."""

    def convert(text):
        try:
            value = kind(text)
        except ValueError:
            value = None
        if value is None or not least <= value < float("inf"):
            what = "a whole number" if kind is int else "a number"
            raise argparse.ArgumentTypeError(f"expected {what} of at least {least}, got '{text}'")
        return value

    return convert


def run(main: Callable[[], object]) -> None:
    """Call `main`; a `UserError` becomes one line on standard error and exit status 2, Ctrl-C becomes status 130, and
    a request to end (SIGTERM) becomes 143, after files that are being written were closed."""
    gc.freeze()  # modules stay: nothing is gained by looking through them for garbage
    gc.enable()  # which `graftdet.utils.startup` may have put off
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure") and stream.errors != "backslashreplace":
            stream.reconfigure(errors="replace")  # a name that the reader's encoding lacks ends no run
    try:
        with _terminable():
            main()
    except UserError as error:
        print("error: " + " ".join(str(error).split("\n")), file=sys.stderr)
        sys.exit(2)
    except _Terminated:
        print("terminated", file=sys.stderr)
        sys.exit(143)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:  # the reader of a pipe (`| head`) went away: nobody to tell
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        if error.errno not in _OF_THE_DISK:
            raise
        print(f"error: {error.filename or 'output'}: {error.strerror}", file=sys.stderr)
        if error.filename is None:  # standard output itself, which would fail once more at the end
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(2)


class _Terminated(KeyboardInterrupt):
    """SIGTERM came; what tidies up after Ctrl-C does so after this, too."""


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM raises `_Terminated` inside. Not in the processes of torchrun, which must end at once when one fails."""
    ours = threading.current_thread() is threading.main_thread() and "TORCHELASTIC_RUN_ID" not in os.environ
    if not ours or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return

    def stop(*_):
        raise _Terminated

    signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
