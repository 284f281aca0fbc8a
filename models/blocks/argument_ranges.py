"""Ranges of constructor arguments, declared with a block: `@BLOCKS.register(arguments={"e": POSITIVE})`.

A range checks what a row of a model YAML gives for the argument, before the block is built. None always passes: its
meaning is up to the block.
"""

import re
from abc import ABC, abstractmethod

from graftdet.utils.errors import UserError

MAX_WIDTH = 2**20
_KEYWORD = re.compile(r"\s*(\w+)\s*[=:]\s*(-?[\d.]+)\s*")
_NUMBER = re.compile(r"-?\d+(\.\d+)?")
_PRODUCT = re.compile(r"\s*(\d{1,6})\s*\*\s*(\d{1,6})\s*")
_EXPRESSION = re.compile(r".*(\(.*\)|[\w.)]\s*[-+*/%]{1,2}\s*[\w.(]).*")


class ArgumentRange(ABC):
    """The values that a constructor argument may have."""

    @abstractmethod
    def check(self, name: str, value: object) -> None:
        """Raise `UserError` if `value`, given for the argument `name`, is out of range."""


class PositiveInt(ArgumentRange):
    """A whole number from 1 to `maximum`."""

    def __init__(self, maximum: int = MAX_WIDTH):
        self.maximum = maximum

    def check(self, name: str, value: object) -> None:
        if value is None:
            return
        if not is_positive_int(value):
            raise UserError(
                f"argument '{name}' must be a whole number of at least 1, got {value!r}{number_hint(value)}"
            )
        if value > self.maximum:
            raise UserError(f"argument '{name}' must be at most {self.maximum}, got {value}")


class Positive(ArgumentRange):
    """A number above 0."""

    def check(self, name: str, value: object) -> None:
        if isinstance(value, (int, float)) and value <= 0:
            raise UserError(f"argument '{name}' must be above 0, got {value!r}")


class NonNegative(ArgumentRange):
    """A number of at least 0, or a list of them (the padding of a convolution)."""

    def check(self, name: str, value: object) -> None:
        numbers = value if isinstance(value, (list, tuple)) else [value]
        if any(isinstance(number, (int, float)) and number < 0 for number in numbers):
            raise UserError(f"argument '{name}' must be at least 0, got {value!r}")


POSITIVE_INT, POSITIVE, NON_NEGATIVE = PositiveInt(), Positive(), NonNegative()


def is_positive_int(value: object) -> bool:
    """Whether `value` is a whole number of at least 1."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def are_positive_ints(value: object) -> bool:
    """Whether `value` is a whole number of at least 1, or a list of them."""
    if isinstance(value, (list, tuple)):
        return bool(value) and all(map(are_positive_ints, value))
    return is_positive_int(value)


def number_hint(value: object) -> str:
    """How to write the number that a value probably means (`k=3`, `'3'`, `2*8`, `2.0`); empty for anything else."""
    if isinstance(value, float) and value.is_integer():
        return f"; write {int(value)}"
    if not isinstance(value, str):
        return ""
    if keyword := _KEYWORD.fullmatch(value):
        return f"; named arguments are written {{{keyword[1]}: {keyword[2]}}}"
    if _NUMBER.fullmatch(value.strip()):
        return f"; write {value.strip()} without quotes"
    product = _PRODUCT.fullmatch(value)
    if product:
        return f"; nothing is computed here, write {int(product[1]) * int(product[2])}"
    return "; nothing is computed here, write the number" if _EXPRESSION.fullmatch(value) else ""
