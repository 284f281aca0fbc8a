"""The values inside a `.pt` file, read without executing anything of it.

A `.pt` file is a zip archive: one pickle (`data.pkl`) that says how objects are put together, and one record a tensor.
A pickle is a program: the usual reader imports what it names and calls it. Published detectors need a reader because
they pickle whole module objects, and `torch.load(weights_only=True)` rightly refuses those. This one interprets the
opcodes itself: it imports nothing and calls nothing that a file names. Tensors, containers and numbers become
themselves; objects of a few known families become an `Inert` record of their name and state; any other name is refused.
"""

import pickletools
import zipfile
from collections.abc import Callable
from pathlib import Path

import torch

from utils.errors import UserError

_STORAGE_DTYPES = {
    "DoubleStorage": torch.float64, "FloatStorage": torch.float32, "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16, "LongStorage": torch.int64, "IntStorage": torch.int32,
    "ShortStorage": torch.int16, "CharStorage": torch.int8, "ByteStorage": torch.uint8, "BoolStorage": torch.bool,
}  # fmt: skip
# Families of objects that checkpoints hold and that are only looked at, never made.
_INERT_PREFIXES = ("models.", "ultralytics.", "torch.nn.", "numpy.core.multiarray.", "numpy._core.multiarray.")
_INERT_NAMES = {
    "numpy.dtype", "numpy.ndarray", "_codecs.encode", "argparse.Namespace", "types.SimpleNamespace",
    "pathlib.Path", "pathlib.PosixPath", "pathlib.WindowsPath", "pathlib.PurePosixPath", "pathlib.PureWindowsPath",
    "pathlib._local.PosixPath", "pathlib._local.WindowsPath", "datetime.datetime",
    "torch.device", "torch.float32", "torch.float16", "torch.float64", "torch.bfloat16", "torch.int64",
}  # fmt: skip
_OLD_FORMAT = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."


class Inert:
    """An object of the file that was not made: `name` of its class, `args` it asked for, `state` it was given."""

    def __init__(self, name: str, args: tuple = ()):
        self.name = name
        self.args = args
        self.state: dict = {}


class _Name:
    """A name the pickle refers to, and what calling it means here (None: an `Inert`)."""

    def __init__(self, name: str, call: Callable | None = None):
        self.name = name
        self.call = call or (lambda *args: Inert(name, args))


class _Refused(Exception):
    """The file asks for something that weights do not need."""


class _Torn(Exception):
    """The file is damaged or cut off."""


def read_archive(path: str | Path):
    """Return the object that `.pt` file `path` holds, with tensors on the CPU and module objects as `Inert`.

    Raises `UserError` when the file is missing, torn, in the format of before torch 1.6, no weights file at all, or
    names anything that is not on the list above; nothing in it is imported or called.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            start = file.read(len(_OLD_FORMAT))
        if start == _OLD_FORMAT:
            raise UserError(f"{path}: is in the format of before torch 1.6, which is not read; save it with a newer torch")
        with zipfile.ZipFile(path) as archive:
            return _Archive(archive, path.stat().st_size).load()
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise UserError(f"{path}: is a folder, expected a weights file") from None
    except zipfile.BadZipFile:
        kind = "torn" if start[:2] == b"PK" else "no weights file" if start else "empty"
        raise UserError(f"{path}: is {kind}, expected a .pt file as torch.save writes it") from None
    except _Refused as error:
        raise UserError(f"{path}: refused: {error}; nothing in it was executed") from None
    except _Torn as error:
        raise UserError(f"{path}: is torn ({error})") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None


class _Archive:
    """One opened `.pt` archive: finds its records, keeps the storages that several tensors share."""

    def __init__(self, archive: zipfile.ZipFile, file_size: int):
        self.archive = archive
        self.records = {info.filename: info for info in archive.infolist()}
        self.storages: dict[tuple[str, str], torch.Tensor] = {}
        if any(info.file_size > file_size for info in self.records.values()):
            raise _Refused("a record is larger than the file itself")
        pickles = [name for name in self.records if name.count("/") <= 1 and name.split("/")[-1] == "data.pkl"]
        if len(pickles) != 1:
            raise _Refused("a zip archive without data.pkl, expected a .pt file as torch.save writes it")
        self.prefix = pickles[0].removesuffix("data.pkl")
        if self._read("byteorder", b"little") != b"little":
            raise _Refused("it was written on a machine of the other byte order")

    def _read(self, name: str, default: bytes | None = None) -> bytes:
        if default is not None and self.prefix + name not in self.records:
            return default
        return self.archive.read(self.prefix + name)

    def load(self):
        try:
            return _interpret(self._read("data.pkl"), self._storage)
        except (_Refused, _Torn, OSError, MemoryError):
            raise
        except Exception as error:  # whatever a damaged or crafted file runs into: indices, types, sizes, checksums
            raise _Torn(f"{type(error).__name__}: {str(error)[:100]}") from None

    def _storage(self, persistent_id) -> torch.Tensor:
        """Return the flat tensor of one ("storage", type, key, location, number) reference."""
        kind, storage_type, key, _, number = persistent_id
        dtype = _STORAGE_DTYPES.get(storage_type.name.removeprefix("torch.")) if isinstance(storage_type, _Name) else None
        if kind != "storage" or dtype is None:
            raise _Refused("a tensor of an unknown kind")
        if (key, dtype) not in self.storages:
            raw = self._read(f"data/{key}")
            if len(raw) != number * dtype.itemsize:
                raise _Torn(f"tensor record {key} holds {len(raw)} bytes instead of {number * dtype.itemsize}")
            flat = torch.frombuffer(bytearray(raw), dtype=dtype) if raw else torch.empty(0, dtype=dtype)
            self.storages[key, dtype] = flat
        return self.storages[key, dtype]


def _tensor(flat: torch.Tensor, offset: int, size: tuple, stride: tuple, *_) -> torch.Tensor:
    """Return the view of storage `flat` that a tensor is; never larger than its storage."""
    count = 1
    for length in size:
        count *= length
    if count > flat.numel() or min((*size, *stride, offset), default=0) < 0:
        raise _Refused("a tensor larger than its data")
    return flat.as_strided(tuple(size), tuple(stride), offset)


def _parameter(tensor: torch.Tensor, *_) -> torch.Tensor:
    if not isinstance(tensor, torch.Tensor):
        raise _Refused("a parameter that is no tensor")
    return tensor


_CALLS: dict[str, Callable] = {
    "collections.OrderedDict": dict,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
    "torch.Size": tuple,
    **{f"{module}.{kind.__name__}": kind for module in ("builtins", "__builtin__") for kind in (set, frozenset, list, dict)},
}


def _resolve(module: str, name: str) -> _Name:
    """What the name `module.name` stands for; anything that is not on the lists is refused."""
    full = f"{module}.{name}"
    if full in _CALLS:
        return _Name(full, _CALLS[full])
    known = module == "torch" and name in _STORAGE_DTYPES
    if known or full in _INERT_NAMES or full.startswith(_INERT_PREFIXES):
        return _Name(full)
    raise _Refused(f"it names '{full}', which weights do not need")


def _interpret(data: bytes, persistent: Callable):
    """Run the opcodes of pickle `data` on a stack of plain values; `persistent` turns storage references to tensors."""
    machine = _Machine(persistent)
    for opcode, argument, _ in pickletools.genops(data):
        if opcode.name == "STOP":
            return machine.stack.pop()
        step = _STEPS.get(opcode.name)
        if step is None:
            raise _Refused(f"its pickle uses '{opcode.name}', which weights do not need")
        step(machine, argument)
    raise _Torn("its pickle has no end")


class _Machine:
    """The state of an unpickler: a stack, the stacks below the open marks, and the memo."""

    def __init__(self, persistent: Callable):
        self.stack: list = []
        self.below: list[list] = []
        self.memo: dict[int, object] = {}
        self.persistent = persistent

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
        if not isinstance(name, _Name) or not isinstance(args, tuple):
            raise _Refused("it calls something that is no known name")
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
            raise _Refused("it changes something that is no object of a module")

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
        "GLOBAL": lambda m, a: m.push(_resolve(*a.split(" ", 1))),
        "STACK_GLOBAL": lambda m, a: m.push(_resolve(*m.take(2))),
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
