"""Flags of a script as keyword arguments of a function: `--batch-size 16` is `batch_size=16`."""

import argparse
from collections.abc import Mapping
from typing import NoReturn

from graftdet.utils.errors import UserError, did_you_mean


def arguments_from_keywords(
    parser: argparse.ArgumentParser, keywords: Mapping[str, object], function: str
) -> list[str]:
    """Return the command line of keyword arguments, so that both are checked in the same way.

    Keywords are named as the flags of `parser`, with underscores. A flag without a value takes True or False; a flag
    with several values takes a list, or a mapping for KEY=VALUE; None stands for a flag that is not given. From then
    on mistakes that `parser` finds are `UserError`s and do not end the process.

    Args:
        parser: The parser of the script.
        keywords: Values by keyword.
        function: Name of the function, for messages.

    Raises:
        UserError: If a keyword is unknown, or a flag without a value is not given True or False.
    """
    parser.error = _raise  # type: ignore[method-assign]
    actions = {
        flag.removeprefix("--").replace("-", "_"): action
        for action in parser._actions
        if action.dest not in ("help", argparse.SUPPRESS)
        for flag in action.option_strings
        if not flag.startswith("--no-") or not isinstance(action, argparse.BooleanOptionalAction)
    }
    arguments = []
    for keyword, value in keywords.items():
        if keyword not in actions:
            raise UserError(f"{function}: unknown argument '{keyword}'{did_you_mean(keyword, actions)}")
        if value is not None:
            arguments += _arguments(actions[keyword], value, f"{function}: {keyword}")
    return arguments


def _arguments(action: argparse.Action, value: object, location: str) -> list[str]:
    """The command line of one flag."""
    flag = action.option_strings[0]
    negated = isinstance(action, argparse.BooleanOptionalAction)
    if action.nargs == 0:
        if not isinstance(value, bool):
            raise UserError(f"{location}: expected True or False, got {value!r}")
        return [flag] if value else [f"--no-{flag[2:]}"] * negated
    if action.nargs == "?" and value in (True, ""):
        return [flag]
    if action.nargs == "?" and value is False:
        return []
    if action.nargs in ("+", "*"):
        if isinstance(value, Mapping):
            value = [f"{key}={item}" for key, item in value.items()]
        values = value if isinstance(value, (list, tuple)) else [value]
        return [flag, *map(str, values)] if values else []
    return [f"{flag}={value}"]


def _raise(message: str) -> NoReturn:
    raise UserError(message)
