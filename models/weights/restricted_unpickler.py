"""A pickle gone through without executing it.

A pickle is a program: the usual reader imports what it names and calls it. This one imports nothing and calls nothing
that a pickle names: a table given by the caller says what each allowed name stands for, the rest is refused.
"""

import pickletools
from collections.abc import Callable


class Inert:
    """An object of the file that was not made: `name` of its class, `args` it asked for, `state` it was given."""

    def __init__(self, name: str, args: tuple = ()):
        self.name = name
        self.args = args
        self.state: dict = {}


class Name:
    """A name the pickle refers to, and what calling it means here (None: an `Inert`)."""

    def __init__(self, name: str, call: Callable | None = None):
        self.name = name
        self.call = call or (lambda *args: Inert(name, args))


class Refused(Exception):
    """The file asks for something that weights do not need."""


class Torn(Exception):
    """The file is damaged or cut off."""


def interpret(data: bytes, resolve: Callable[[str, str], Name], persistent: Callable):
    """Go through the opcodes of pickle `data` on a stack of plain values and return the value that is left.

    `resolve(module, name)` says what a name stands for, or raises `Refused`; `persistent(id)` what an outside reference
    stands for. Raises `Refused` and `Torn`, and whatever list, dict and tuple raise when the pickle makes no sense.
    """
    machine = _Machine(resolve, persistent)
    for opcode, argument, _ in pickletools.genops(data):
        if opcode.name == "STOP":
            return machine.stack.pop()
        step = _STEPS.get(opcode.name)
        if step is None:
            raise Refused(f"its pickle uses '{opcode.name}', which weights do not need")
        step(machine, argument)
    raise Torn("its pickle has no end")


class _Machine:
    """The state of an unpickler: a stack, the stacks below the open marks, and the memo."""

    def __init__(self, resolve: Callable, persistent: Callable):
        self.resolve, self.persistent = resolve, persistent
        self.stack: list = []
        self.below: list[list] = []
        self.memo: dict[int, object] = {}

    def push(self, value):
        self.stack.append(value)

    def mark(self, _):
        self.below.append(self.stack)
        self.stack = []

    def to_mark(self) -> list:
        items, self.stack = self.stack, self.below.pop()
        return items

    def take(self, count: int) -> tuple:
        items = tuple(self.stack[-count:])
        if len(items) < count:
            raise IndexError("stack is empty")
        del self.stack[-count:]
        return items

    def call(self, name, args):
        if not isinstance(name, Name) or not isinstance(args, tuple):
            raise Refused("it calls something that is no known name")
        self.push(name.call(*args))

    def set_items(self, items: list):
        target = self.stack[-1]
        if isinstance(target, dict):
            target.update(zip(items[::2], items[1::2], strict=True))
        elif not isinstance(target, Inert):
            raise TypeError("items for something that is no mapping")

    def add_items(self, items: list):
        target = self.stack[-1]
        if isinstance(target, list):
            target.extend(items)
        elif isinstance(target, set):
            target.update(items)
        elif not isinstance(target, Inert):
            raise TypeError("items for something that is no list")

    def build(self, _):
        """Give an object its state: kept for an `Inert`, dropped for a container (`_metadata` of a state dict)."""
        target, state = self.stack[-2], self.stack.pop()
        if isinstance(target, Inert):
            target.state = state if isinstance(state, dict) else {"": state}
        elif not isinstance(target, dict):
            raise Refused("it changes something that is no object of a module")

    def memoize(self, key: int | None):
        self.memo[len(self.memo) if key is None else key] = self.stack[-1]


def _steps() -> dict[str, Callable]:
    """The opcodes that files of torch.save use, each with what it does to the machine."""
    constants = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
    values = (
        "INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT STRING BINSTRING SHORT_BINSTRING UNICODE BINUNICODE "
        "SHORT_BINUNICODE BINUNICODE8 BINBYTES SHORT_BINBYTES BINBYTES8"
    ).split()
    empties = {"EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_TUPLE": tuple, "EMPTY_SET": set}
    steps = {
        "PROTO": lambda m, a: None,
        "FRAME": lambda m, a: None,
        "MARK": _Machine.mark,
        "POP": lambda m, a: m.take(1),
        "POP_MARK": lambda m, a: m.to_mark(),
        "DUP": lambda m, a: m.push(m.stack[-1]),
        "LIST": lambda m, a: m.push(m.to_mark()),
        "TUPLE": lambda m, a: m.push(tuple(m.to_mark())),
        "FROZENSET": lambda m, a: m.push(frozenset(m.to_mark())),
        "TUPLE1": lambda m, a: m.push(m.take(1)),
        "TUPLE2": lambda m, a: m.push(m.take(2)),
        "TUPLE3": lambda m, a: m.push(m.take(3)),
        "APPEND": lambda m, a: m.add_items(list(m.take(1))),
        "APPENDS": lambda m, a: m.add_items(m.to_mark()),
        "ADDITEMS": lambda m, a: m.add_items(m.to_mark()),
        "SETITEM": lambda m, a: m.set_items(list(m.take(2))),
        "SETITEMS": lambda m, a: m.set_items(m.to_mark()),
        "GLOBAL": lambda m, a: m.push(m.resolve(*a.split(" ", 1))),
        "STACK_GLOBAL": lambda m, a: m.push(m.resolve(*m.take(2))),
        "REDUCE": lambda m, a: m.call(*m.take(2)),
        "NEWOBJ": lambda m, a: m.call(*m.take(2)),
        "BUILD": _Machine.build,
        "BINPERSID": lambda m, a: m.push(m.persistent(m.take(1)[0])),
        "MEMOIZE": _Machine.memoize,
    }
    steps |= {name: _Machine.memoize for name in ("PUT", "BINPUT", "LONG_BINPUT")}
    steps |= {name: lambda m, a: m.push(m.memo[a]) for name in ("GET", "BINGET", "LONG_BINGET")}
    steps |= {name: _Machine.push for name in values}
    steps |= {name: lambda m, a, value=value: m.push(value) for name, value in constants.items()}
    steps |= {name: lambda m, a, kind=kind: m.push(kind()) for name, kind in empties.items()}
    return steps


_STEPS = _steps()
