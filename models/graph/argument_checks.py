"""Checks of single values in a row's args that hold for every block, and the argument that a misspelled name means."""

import re
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

from graftdet.models.blocks.argument_ranges import MAX_WIDTH, are_positive_ints, number_hint
from graftdet.models.graph.signatures import SHORT_NAMES, Signature, plain_name
from graftdet.utils.errors import UserError, did_you_mean

_CHOICES = {
    "mode": ("nearest", "bilinear", "bicubic", "nearest-exact"),
    "padding_mode": ("zeros", "reflect", "replicate", "circular"),
}
_EXPONENT = re.compile(r"[-+]?\d+[eE][-+]?\d+")


def convert_number(signature: Signature, name: str, value: Any) -> Any:
    """The value of an argument, converted if it is a number that YAML reads as text: `1e-4`, without a point."""
    is_float = name in signature.named and isinstance(signature.named[name].default, float)
    return float(value) if is_float and isinstance(value, str) and _EXPONENT.fullmatch(value.strip()) else value


def check_argument(signature: Signature, name: str, value: Any) -> None:
    """Check the type of an argument against its default.

    Kernel sizes, strides, dilations and groups are whole numbers. A text is a mistake where the default is a number or
    a boolean, except for activations.

    Raises:
        UserError: the value is of another type; the message states what is expected.
    """
    parameter = signature.named.get(name)
    default = None if parameter is None else parameter.default
    _check_torch_arguments(name, value, default)
    if _is_whole_number_argument(name, default) and not are_positive_ints(value):
        raise UserError(f"argument '{name}' must be a whole number of at least 1, got {value!r}{number_hint(value)}")
    if not isinstance(default, (bool, int, float)) or "act" in name.lower():
        return
    if isinstance(default, bool) and isinstance(value, (list, tuple)):
        raise UserError(f"argument '{name}' is {value!r}, expected true or false")
    if not isinstance(value, str):
        return
    expected, choices = ("True or False", ["True", "False"]) if isinstance(default, bool) else ("a number", [])
    hint = did_you_mean(value, choices) or number_hint(value)
    raise UserError(f"argument '{name}' must be {expected}, got '{value}'{hint}")


def _check_torch_arguments(name: str, value: Any, default: Any) -> None:
    """Arguments of torch.nn layers that are often mistaken."""
    if name in _CHOICES and isinstance(value, str) and isinstance(default, str) and value not in _CHOICES[name]:
        hint = did_you_mean(value, _CHOICES[name]) or f"; expected {', '.join(_CHOICES[name])}"
        raise UserError(f"{name} '{value}' is not known{hint}")
    if name == "scale_factor" and isinstance(value, str):
        raise UserError(f"argument '{name}' must be a number, got '{value}'; write [None, 2, nearest]")
    if name == "eps" and isinstance(value, (int, float)) and value >= 1:
        raise UserError(
            f"argument 'eps' is {value}, expected a small number such as 1e-5; the width is filled in, omit it"
        )


def _is_whole_number_argument(name: str, default: Any) -> bool:
    is_count = any(plain_name(name) in SHORT_NAMES[key] for key in "ksgd")
    return is_count and isinstance(default, int) and not isinstance(default, bool)


def check_width(value: Any, name: str) -> int:
    """Return an output width. Raises `UserError` unless it is a whole number from 1 to `MAX_WIDTH`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise UserError(
            f"the output width ({name}) must be a whole number of at least 1, got {value!r}{number_hint(value)}"
        )
    if value > MAX_WIDTH:
        raise UserError(f"the output width ({name}) must be at most {MAX_WIDTH}, got {value}")
    return value


def nearest_argument(name: str, known: Iterable[str]) -> str | None:
    """The argument that `name` most likely means: its short or long form (s, stride), or the nearest spelling.

    Args:
        name: a name that a row gives.
        known: names of the arguments that the block takes.
    """
    known = list(known)
    for forms in SHORT_NAMES.values():
        if plain_name(name) in forms:
            return next((argument for argument in known if plain_name(argument) in forms), None)
    spellings = {argument.lower(): argument for argument in known}
    for argument in known:
        forms = next((forms for forms in SHORT_NAMES.values() if plain_name(argument) in forms), ())
        spellings.update({form: argument for form in forms if len(form) > 2 and form not in spellings})
    near = get_close_matches(name.lower(), spellings, n=1) or get_close_matches(plain_name(name), spellings, n=1)
    return spellings[near[0]] if near else None
