"""How every script starts and ends: one line for a mistake, exit status 2."""

import argparse
import errno
import os
import sys
from collections.abc import Callable

from .errors import UserError, did_you_mean


# What a disk may refuse anywhere, a report that goes into a full one included.
_OF_THE_DISK = {getattr(errno, name) for name in ("ENOSPC", "EDQUOT", "EFBIG", "EROFS", "EACCES") if hasattr(errno, name)}


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
            flags = [flag for action in self._actions for flag in action.option_strings]
            hint = did_you_mean(unknown[0].split("=")[0], flags) if unknown[0].startswith("-") else ""
            self.error(f"unknown argument '{unknown[0]}'{hint}")
        return known

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
    """Call `main`; a `UserError` becomes one line on standard error and exit status 2, Ctrl-C becomes status 130."""
    try:
        main()
    except UserError as error:
        print("error: " + " ".join(str(error).split("\n")), file=sys.stderr)
        sys.exit(2)
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
