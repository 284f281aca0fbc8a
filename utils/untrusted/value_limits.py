"""Limits of what a value from a file costs those who read it.

One list may stand in another a thousand times, and that one in a third: whoever copies or prints such a value, or
descends into it, sees each of its items again and again. Values are therefore measured as the trees that readers see.
"""

from typing import Any

MAX_STEPS = 3_000_000  # operations of an unpickler and items of a value; the largest detectors need a thirtieth
MAX_DEPTH = 100  # of containers inside of each other
_LONG_TEXT = 1000  # characters from which a repeated text counts
_CHARACTERS = 20  # of a repeated text that count as one item


class ValueLimitError(Exception):
    """A value is nested too deeply, or has too many items."""


class RecordedObject:
    """An object of the file that was recorded instead of constructed.

    Attributes:
        name: the full name of its class, such as `models.common.Conv`.
        args: the arguments its class would have been called with.
        state: its attributes, name -> value (`{"": value}` where the state is not a dict).
    """

    def __init__(self, name: str, args: tuple = ()):
        self.name = name
        self.args = args
        self.state: dict = {}


def check_values(value: Any) -> None:
    """Check the depth and the number of items of a value, in which shared items count as often as they are reached.

    A `RecordedObject` counts once: modules are shared, and their readers count them.

    Raises:
        ValueLimitError: it is nested more deeply than `MAX_DEPTH`, without end, or has more than `MAX_STEPS` items.
    """
    steps = 0
    seen: set[int] = set()  # recorded objects and long texts
    waiting = [(value, 0)]
    while waiting:
        item, depth = waiting.pop()
        steps += 1
        inner: Any = ()
        if isinstance(item, dict):
            inner = (*item.keys(), *item.values())
        elif isinstance(item, (list, tuple, set, frozenset)):
            inner = item
        elif isinstance(item, RecordedObject):
            if id(item) not in seen:
                seen.add(id(item))
                inner, depth = (item.args, item.state), -1
        elif isinstance(item, str) and len(item) > _LONG_TEXT:
            steps += len(item) // _CHARACTERS if id(item) in seen else 0
            seen.add(id(item))
        if depth >= MAX_DEPTH:
            raise ValueLimitError(f"its values are nested more than {MAX_DEPTH} deep")
        if steps + len(waiting) + len(inner) > MAX_STEPS:
            raise ValueLimitError(f"its values have more than {MAX_STEPS:,} items")
        waiting += [(one, depth + 1) for one in inner]
