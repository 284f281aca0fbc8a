"""Start and end of every script: argument parser, logging, exit status.

A `UserError` is printed as one line and ends a script with status 2, Ctrl-C with 130, SIGTERM with 143.
"""

import argparse
import errno
import gc
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import NoReturn

from graftdet.utils.cli.console import be_quiet, colored_error, configure_logging
from graftdet.utils.cli.interruption import INTERRUPTED, TERMINATED, Terminated, interruptible
from graftdet.utils.cli.yolov5_flags import refused_value, successor, translate
from graftdet.utils.errors import UserError, did_you_mean, first_line
from graftdet.utils.text import printable

_DISK_ERRORS = {  # may happen at any write, also at printing into a full disk
    getattr(errno, name) for name in ("ENOSPC", "EDQUOT", "EFBIG", "EROFS", "EACCES") if hasattr(errno, name)
}


Switch = argparse.BooleanOptionalAction
"""Action of a flag that is given as --this or --no-this."""


class _HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Adds the default to the help text, unless there is none or the text states it."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        if action.default in (None, "", []) or action.default is False or "default:" in (action.help or ""):
            return action.help
        if isinstance(action.default, list):
            return f"{action.help} (default: {' '.join(map(str, action.default))})"
        return super()._get_help_string(action)


class _Verbose(argparse.Action):
    """The flag --verbose, which every script has; it is no option of the job itself."""

    is_given = False

    def __call__(self, *_: object) -> None:
        _Verbose.is_given = True


class _Quiet(argparse.Action):
    """The flag --quiet, which every script has."""

    def __call__(self, *_: object) -> None:
        be_quiet()


class ArgumentParser(argparse.ArgumentParser):
    """argparse without abbreviated flags; errors are one line and suggest the nearest known flag."""

    def __init__(self, *args, script: str = "", **kwargs):
        kwargs.setdefault("formatter_class", _HelpFormatter)
        super().__init__(*args, **{**kwargs, "allow_abbrev": False})
        text = "print the traceback of an error, too"
        self.add_argument("--verbose", action=_Verbose, nargs=0, dest=argparse.SUPPRESS, help=text)
        text = "print results, warnings and errors only; no progress"
        self.add_argument("--quiet", action=_Quiet, nargs=0, dest=argparse.SUPPRESS, help=text)
        self.script = script  # train, val, detect or export: flags of YOLOv5's are answered with their successors

    def parse_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> argparse.Namespace:
        """Parse the command line; an unknown argument is an error with a suggestion."""
        arguments = translate(self.script, sys.argv[1:] if args is None else args)
        if reason := refused_value(self.script, arguments):
            self.error(reason)
        arguments = self._check_spelling(arguments)
        known, unknown = self.parse_known_args(arguments, namespace)
        if unknown:
            flag = unknown[0].split("=")[0]
            if self.script and flag[:1] != "-":
                self._refuse_value(unknown[0], arguments)
            published = successor(self.script, flag)
            hint = f"; {published}" if published else did_you_mean(flag, self._flags(known)) if flag[:1] == "-" else ""
            self.error(f"unknown argument '{unknown[0]}'{hint}")
        return known

    def _check_spelling(self, arguments: Sequence[str]) -> list[str]:
        """Flags written with underscores become those that exist; a switch that is given a value is an error."""
        actions = self._option_string_actions
        result = []
        for argument in arguments:
            flag, equals, value = argument.partition("=")
            hyphenated = flag.replace("_", "-")
            flag = hyphenated if flag not in actions and hyphenated in actions else flag
            if equals and flag in actions and actions[flag].nargs == 0:
                self.error(f"{flag} takes no value, got '{value}'")
            result.append(flag + equals + value)
        return result

    def _refuse_value(self, value: str, arguments: Sequence[str]) -> NoReturn:
        """Report a value that belongs to no flag, with the flag before it."""
        flags = [item.split("=")[0] for item in arguments[: arguments.index(value)] if item.startswith("--")]
        action = self._option_string_actions.get(flags[-1]) if flags else None
        if action is None:
            self.error(f"unexpected value '{value}'")
        number = "no value" if action.nargs == 0 else "one value"
        self.error(f"{flags[-1]} takes {number}, got '{value}'" + (", too" if action.nargs != 0 else ""))

    def _flags(self, parsed: argparse.Namespace) -> list[str]:
        """All flags, including those of the subcommand that was `parsed`."""
        flags = [flag for action in self._actions for flag in action.option_strings]
        for action in self._actions:
            if isinstance(action, argparse._SubParsersAction):
                command = action.choices.get(getattr(parsed, action.dest, ""))
                flags += command._flags(parsed) if command else []
        return flags

    def error(self, message: str) -> NoReturn:
        """Print `PROG: error: message` and exit with status 2."""
        sys.stderr.write(colored_error(printable(f"{self.prog}: error: {message}"), sys.stderr) + "\n")
        sys.exit(2)


def at_least(minimum: float, kind: type = int) -> Callable[[str], float]:
    """Return an argparse `type` for numbers of `kind` (int or float) that are `minimum` or more."""

    def convert(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = None
        if value is None or not minimum <= value < float("inf"):
            expected = "a whole number" if kind is int else "a number"
            raise argparse.ArgumentTypeError(f"expected {expected} of at least {minimum}, got '{text}'")
        return value

    return convert


def run(main: Callable[[], object]) -> None:
    """Call `main` as the only job of this process.

    A `UserError` becomes one line on standard error (after its traceback with --verbose) and exit status 2, Ctrl-C
    status 130, SIGTERM status 143 after files being written were closed.
    """
    _Verbose.is_given = False  # of an earlier call in this process
    configure_logging()
    gc.freeze()  # loaded modules stay alive: no need to scan them for garbage
    gc.enable()  # `graftdet.utils.startup` may have disabled it
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure") and stream.errors != "backslashreplace":
            stream.reconfigure(errors="replace")  # characters that the encoding lacks raise no error
    try:
        with interruptible():
            main()
    except UserError as error:
        if _Verbose.is_given:
            traceback.print_exception(error)
        print(colored_error(printable(error.describe()), sys.stderr), file=sys.stderr)
        sys.exit(2)
    except Terminated:
        print("terminated", file=sys.stderr)
        sys.exit(TERMINATED)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(INTERRUPTED)
    except (MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        print(f"error: out of memory ({first_line(error)}); use smaller images or batches", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:  # the reader of a pipe (`| head`) has ended
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        if error.errno not in _DISK_ERRORS:
            raise
        print(f"error: {error.filename or 'output'}: {error.strerror}", file=sys.stderr)
        if error.filename is None:  # standard output itself, which would fail again at exit
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(2)


def _is_out_of_memory(error: BaseException) -> bool:
    """Whether memory is exhausted; torch raises a RuntimeError on the CPU, and is not imported here."""
    is_torch = type(error).__name__ == "OutOfMemoryError" or "DefaultCPUAllocator: " in str(error)
    return isinstance(error, MemoryError) or is_torch
