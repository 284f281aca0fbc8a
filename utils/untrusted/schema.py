"""The types that the values of a file must have, checked in one place; errors name the key."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from graftdet.utils.errors import UserError

_MAX_INTEGER = 2**63
_NAMES = {
    str: "text",
    int: "an integer",
    float: "a number",
    bool: "true or false",
    dict: "a mapping",
    list: "a list",
    tuple: "a list",
}


@dataclass(frozen=True)
class Field:
    """What one value of a file may be.

    Attributes:
        kinds: its types. A bool is no int.
        items: types of the items of a list, None: any.
        minimum: smallest number.
    """

    kinds: type | tuple[type, ...]
    items: type | tuple[type, ...] | None = None
    minimum: float | None = None

    def describe_problem(self, value: Any) -> str | None:
        """What is wrong with `value`, None if nothing is."""
        if not _is_a(value, self.kinds):
            return f"is {describe(value)}, expected {_expected(self.kinds)}"
        if type(value) is int and abs(value) >= _MAX_INTEGER:
            return "is an integer of more than 64 bits"
        if self.minimum is not None and value is not None and value < self.minimum:
            return f"is {value}, expected at least {self.minimum}"
        if self.items and value is not None:
            wrong = next((item for item in value if not _is_a(item, self.items)), None)
            if wrong is not None:
                return f"has an item that is {describe(wrong)}, expected {_expected(self.items)}"
        return None


def check_fields(content: Mapping[str, Any], fields: Mapping[str, Field], path: str | Path) -> None:
    """Raise `UserError`, which names the key, unless each value that `fields` knows has a type that it may have."""
    for key, field in fields.items():
        if key in content and (problem := field.describe_problem(content[key])):
            raise UserError(f"{path}: its '{key}' {problem}; the file is damaged or was edited")


def describe(value: Any) -> str:
    """The type of a value in words, for messages."""
    return _NAMES.get(type(value), "nothing" if value is None else f"a {type(value).__name__}")


def _is_a(value: Any, kinds: type | tuple[type, ...]) -> bool:
    kinds = kinds if isinstance(kinds, tuple) else (kinds,)
    return isinstance(value, kinds) and not (isinstance(value, bool) and bool not in kinds)


def _expected(kinds: type | tuple[type, ...]) -> str:
    kinds = kinds if isinstance(kinds, tuple) else (kinds,)
    return " or ".join(dict.fromkeys(_NAMES[kind] for kind in kinds if kind in _NAMES))
