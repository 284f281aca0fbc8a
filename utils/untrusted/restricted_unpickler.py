"""A restricted unpickler: reads the values of a pickle without executing it.

A pickle is a program. Python's own unpickler imports the names in it and calls them. This one imports nothing and calls
nothing by name: a table of the caller maps each allowed name to a harmless function, and any other name is refused.

A small pickle can also cost much: keys of nested tuples take exponential time to hash, keys of equal hashes quadratic
time, and copies of copies fill the memory. Keys are therefore plain values, and operations and copied items are
counted. What a reader may do with the result is bounded as well (`graftdet.utils.untrusted.value_limits`).
"""

import itertools
import pickletools
from collections.abc import Callable, Iterable
from typing import Any, BinaryIO

from graftdet.utils.untrusted.value_limits import MAX_STEPS, RecordedObject, ValueLimitError, check_values

_KEY_STEPS = 300  # that a key of several values counts: their hashes can be chosen to be equal
_MAX_KEY = 2**60  # larger integers can be chosen to have equal hashes
_MAX_BITS = 1024  # of an integer; states of random generators have 128
_MAX_NAME = 200  # characters of a name in a message
_CONTAINERS = (list, tuple, set, frozenset, dict)


class GlobalName:
    """A class or function that the pickle names, and the function that runs in its place.

    Args:
        name: the full name, `module.name`.
        call: the replacement. None: a call gives a `RecordedObject`.
    """

    def __init__(self, name: str, call: Callable | None = None):
        self.name = name
        self.call = call or (lambda *args: RecordedObject(name, args))


class ForbiddenPickleError(Exception):
    """The pickle asks for something that weights do not need."""


class TruncatedPickleError(Exception):
    """The pickle, or a record that it refers to, is damaged or incomplete."""


def read_pickle(
    data: bytes | BinaryIO, resolve_name: Callable[[str, str], GlobalName], load_persistent: Callable[[Any], Any]
) -> Any:
    """Return the value of pickle `data`, built from plain values and `RecordedObject`s.

    Args:
        data: the bytes of the pickle, or a file that stands at its start and is read to its end.
        resolve_name: maps `(module, name)` to a `GlobalName`, or raises `ForbiddenPickleError`.
        load_persistent: maps a persistent id (in `.pt` files: a reference to a tensor's storage) to its value.

    Raises:
        ForbiddenPickleError: an opcode, name or call that weights do not need.
        TruncatedPickleError: the pickle has no end.
        Exception: whatever list, dict and tuple raise where a pickle is malformed.
    """
    machine = _PickleMachine(resolve_name, load_persistent)
    for opcode, argument, _ in pickletools.genops(data):
        if opcode.name == "STOP":
            return machine.result()
        step = _OPCODES.get(opcode.name)
        if step is None:
            raise ForbiddenPickleError(f"its pickle uses '{opcode.name}', which weights do not need")
        machine.count(1)
        step(machine, argument)
    raise TruncatedPickleError("its pickle has no end")


class _PickleMachine:
    """The state of an unpickler: the stack, the stacks below the open marks, and the memo."""

    def __init__(self, resolve_name: Callable, load_persistent: Callable):
        self.resolve_name, self.load_persistent = resolve_name, load_persistent
        self.stack: list = []
        self.stacks_below_marks: list[list] = []
        self.memo: dict[int, object] = {}
        self.steps = 0

    def result(self) -> Any:
        """The value on top of the stack, within the limits for those who read it."""
        value = self.stack.pop()
        try:
            check_values(value)
        except ValueLimitError as error:
            raise ForbiddenPickleError(str(error)) from None
        return value

    def count(self, steps: int):
        self.steps += steps
        if self.steps > MAX_STEPS:
            raise ForbiddenPickleError("its pickle is longer than that of any detector")

    def push(self, value):
        if type(value) is int and value.bit_length() > _MAX_BITS:
            raise ForbiddenPickleError(f"an integer of {value.bit_length()} bits, which weights do not need")
        self.stack.append(value)

    def mark(self, _):
        self.stacks_below_marks.append(self.stack)
        self.stack = []

    def pop_to_mark(self) -> list:
        items, self.stack = self.stack, self.stacks_below_marks.pop()
        return items

    def pop(self, count: int) -> tuple:
        items = tuple(self.stack[-count:])
        if len(items) < count:
            raise IndexError("stack is empty")
        del self.stack[-count:]
        return items

    def call(self, name, args):
        if not isinstance(name, GlobalName) or not isinstance(args, tuple):
            raise ForbiddenPickleError("it calls something that is not a known name")
        self.count(sum(len(argument) for argument in args if isinstance(argument, (str, bytes, *_CONTAINERS))))
        if name.call in _CONTAINERS and not all(isinstance(argument, _CONTAINERS) for argument in args):
            raise ForbiddenPickleError("a container of something that is none")  # such as each value of a tensor
        if name.call in (set, frozenset):
            self.check_keys(*args)
        elif name.call is dict:
            self.check_keys(*([pair[0] for pair in pairs] for pairs in args if not isinstance(pairs, dict)))
        self.push(name.call(*args))

    def set_items(self, items: list):
        target = self.stack[-1]
        if isinstance(target, dict):
            self.check_keys(items[::2])
            target.update(zip(items[::2], items[1::2], strict=True))
        elif not isinstance(target, RecordedObject):
            raise TypeError("sets items of something that is not a mapping")

    def add_items(self, items: list):
        target = self.stack[-1]
        if isinstance(target, list):
            target.extend(items)
        elif isinstance(target, set):
            self.check_keys(items)
            target.update(items)
        elif not isinstance(target, RecordedObject):
            raise TypeError("adds items to something that is not a list")

    def check_keys(self, *collections: Iterable):
        """Raise `ForbiddenPickleError` unless all items are plain values, or tuples of them, that are hashed fast."""
        for item in itertools.chain(*collections):
            if isinstance(item, (tuple, frozenset)):
                if any(isinstance(inner, (tuple, frozenset)) for inner in item):
                    raise ForbiddenPickleError("a key of nested tuples, which weights do not need")
                self.count(len(item) + _KEY_STEPS)
            elif type(item) is int and abs(item) >= _MAX_KEY:
                raise ForbiddenPickleError("a key of more than 60 bits, which weights do not need")

    def frozen_set(self, _):
        items = self.pop_to_mark()
        self.check_keys(items)
        self.push(frozenset(items))

    def name(self, module: Any, name: Any):
        if not isinstance(module, str) or not isinstance(name, str):
            raise ForbiddenPickleError("a name that is not text")
        if len(module) + len(name) > _MAX_NAME:
            raise ForbiddenPickleError(f"it names '{f'{module}.{name}':.100} ...', which weights do not need")
        self.push(self.resolve_name(module, name))

    def build(self, _):
        """Set an object's state: stored for a `RecordedObject`, dropped for a dict (`_metadata` of a state dict)."""
        target, state = self.stack[-2], self.stack.pop()
        if isinstance(target, RecordedObject):
            target.state = state if isinstance(state, dict) else {"": state}
        elif not isinstance(target, dict):
            raise ForbiddenPickleError("it changes something that is not an object of a module")

    def memoize(self, key: int | None):
        self.memo[len(self.memo) if key is None else key] = self.stack[-1]


def _opcode_table() -> dict[str, Callable]:
    """The opcodes that `torch.save` writes, each with its effect on the machine."""
    constants = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
    values = (
        "INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT STRING BINSTRING SHORT_BINSTRING UNICODE "
        "BINUNICODE SHORT_BINUNICODE BINUNICODE8 BINBYTES SHORT_BINBYTES BINBYTES8"
    ).split()
    empty_containers = {"EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_TUPLE": tuple, "EMPTY_SET": set}
    table = {
        "PROTO": lambda m, a: None,
        "FRAME": lambda m, a: None,
        "MARK": _PickleMachine.mark,
        "POP": lambda m, a: m.pop(1),
        "POP_MARK": lambda m, a: m.pop_to_mark(),
        "DUP": lambda m, a: m.push(m.stack[-1]),
        "LIST": lambda m, a: m.push(m.pop_to_mark()),
        "TUPLE": lambda m, a: m.push(tuple(m.pop_to_mark())),
        "FROZENSET": _PickleMachine.frozen_set,
        "TUPLE1": lambda m, a: m.push(m.pop(1)),
        "TUPLE2": lambda m, a: m.push(m.pop(2)),
        "TUPLE3": lambda m, a: m.push(m.pop(3)),
        "APPEND": lambda m, a: m.add_items(list(m.pop(1))),
        "APPENDS": lambda m, a: m.add_items(m.pop_to_mark()),
        "ADDITEMS": lambda m, a: m.add_items(m.pop_to_mark()),
        "SETITEM": lambda m, a: m.set_items(list(m.pop(2))),
        "SETITEMS": lambda m, a: m.set_items(m.pop_to_mark()),
        "GLOBAL": lambda m, a: m.name(*a.split(" ", 1)),
        "STACK_GLOBAL": lambda m, a: m.name(*m.pop(2)),
        "REDUCE": lambda m, a: m.call(*m.pop(2)),
        "NEWOBJ": lambda m, a: m.call(*m.pop(2)),
        "BUILD": _PickleMachine.build,
        "BINPERSID": lambda m, a: m.push(m.load_persistent(m.pop(1)[0])),
        "MEMOIZE": _PickleMachine.memoize,
    }
    table |= {name: _PickleMachine.memoize for name in ("PUT", "BINPUT", "LONG_BINPUT")}
    table |= {name: lambda m, a: m.push(m.memo[a]) for name in ("GET", "BINGET", "LONG_BINGET")}
    table |= {name: _PickleMachine.push for name in values}
    table |= {
        name: lambda m, a, value=value: m.push(value)  # type: ignore[misc]
        for name, value in constants.items()
    }
    table |= {
        name: lambda m, a, kind=kind: m.push(kind())  # type: ignore[misc]
        for name, kind in empty_containers.items()
    }
    return table


_OPCODES = _opcode_table()
