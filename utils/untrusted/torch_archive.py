"""The values inside a `.pt` file, read without executing anything in it.

A `.pt` file is a zip archive: one pickle (`data.pkl`) that describes how objects are built, and one record per tensor
storage. Published detectors pickle whole module objects, which `torch.load(weights_only=True)` rightly refuses. Here
tensors, containers and numbers are read as such; objects of a few known families become a `RecordedObject`; any other
name is refused (see `graftdet.utils.untrusted.restricted_unpickler`).
"""

import errno
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, cast

import torch

from graftdet.utils.errors import UserError
from graftdet.utils.untrusted.restricted_unpickler import (
    ForbiddenPickleError,
    GlobalName,
    TruncatedPickleError,
    read_pickle,
)

_STORAGE_DTYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
# Objects that checkpoints hold and that are recorded, never constructed: whole packages, then single names.
_RECORDED_PREFIXES = (
    *("models.", "ultralytics.", "torch.nn.", "numpy.core.multiarray.", "numpy._core.multiarray."),
    *("mmengine.", "pytorch_lightning.", "lightning."),  # of checkpoints of RTMDet and NanoDet, beside their tensors
)
_RECORDED_NAMES = {
    "numpy.dtype",
    "numpy.ndarray",
    "_codecs.encode",
    "argparse.Namespace",
    "types.SimpleNamespace",
    "datetime.datetime",
    *(f"pathlib.{kind}" for kind in ("Path", "PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath")),
    *(f"pathlib._local.{kind}" for kind in ("PosixPath", "WindowsPath")),
    *(f"torch.{name}" for name in ("device", "float32", "float16", "float64", "bfloat16", "int64")),
}
MAX_UNPACKED = 4  # size of all records, as a multiple of that of the file: detectors are hardly compressible
MAX_VIEWED = 16  # size of all tensors, as a multiple of that of the file: several of them may view one record
_MAX_DIMENSIONS = 64
_SLACK = 1 << 20  # [bytes] that a small file may take beyond these limits
_OLD_FORMAT = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."


def read_archive(path: str | Path) -> Any:
    """Read the object in `.pt` file `path`. Nothing in the file is imported or called.

    Returns:
        The object, with tensors on the CPU and module objects as `RecordedObject`.

    Raises:
        UserError: the file is missing, truncated, not a weights file, or names anything that is not on the lists of
            this module, or is not worth its size in memory.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            start = file.read(len(_OLD_FORMAT))
        if start == _OLD_FORMAT:
            return _OldFile(path).load()
        with zipfile.ZipFile(path) as archive:
            return _Archive(archive, path.stat().st_size).load()
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise UserError(f"{path}: is a folder, expected a weights file") from None
    except (UserError, MemoryError):
        raise
    except OSError as error:
        if error.errno == errno.EINVAL:  # the archive's directory points before its start
            raise UserError(f"{path}: is truncated or malformed; copy or download it again") from None
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except ForbiddenPickleError as error:
        raise UserError(f"{path}: refused: {error}; nothing in it was executed") from None
    except Exception as error:  # a damaged or crafted file decides what is raised: indices, types, sizes, checksums
        known = start[:2] == b"PK" or start == _OLD_FORMAT
        problem = f"is truncated or malformed ({_reason(error)})" if known else "is not a weights file"
        raise UserError(
            f"{path}: {problem if start else 'is empty'}, expected a .pt file as written by torch.save"
        ) from None


def _reason(error: Exception) -> str:
    return f"{type(error).__name__.lstrip('_')}: {str(error)[:100]}"


class _Storages:
    """The storages of one `.pt` file: each is read once and viewed by several tensors, within limits."""

    def __init__(self, file_size: int):
        self.storages: dict[tuple[str, torch.dtype], torch.Tensor] = {}
        self.viewed, self.max_viewed = 0, MAX_VIEWED * file_size + _SLACK

    def read_storage(self, key: str, dtype: torch.dtype, number: int) -> torch.Tensor:
        """The flat tensor of the storage `key` of `number` elements."""
        raise NotImplementedError

    def resolve_name(self, module: str, name: str) -> GlobalName:
        resolved = _resolve_name(module, name)
        if resolved.call is _tensor:
            resolved.call = self._view
        return resolved

    def load_storage(self, persistent_id) -> torch.Tensor | GlobalName:
        """The flat tensor of one ("storage", type, key, location, number of elements) reference.

        The format of before torch 1.6 also refers to a class, as ("module", class, file and text of its source).
        """
        if persistent_id[0] == "module" and isinstance(persistent_id[1], GlobalName):
            return persistent_id[1]
        kind, storage_type, key, _, number = persistent_id[:5]
        if not isinstance(key, str):
            raise ForbiddenPickleError("a tensor whose key is not text")
        known = isinstance(storage_type, GlobalName)
        dtype = _STORAGE_DTYPES.get(storage_type.name.removeprefix("torch.")) if known else None
        if kind != "storage" or dtype is None or type(number) is not int or any(persistent_id[5:]):
            raise ForbiddenPickleError("a tensor of an unknown type")
        if (key, dtype) not in self.storages:
            self.storages[key, dtype] = self.read_storage(key, dtype, number)
        return self.storages[key, dtype]

    def _view(self, *args) -> torch.Tensor:
        """A tensor, whose size is counted: readers copy tensors, and many may view one record."""
        tensor = _tensor(*args)
        self.viewed += tensor.numel() * tensor.element_size()
        if self.viewed > self.max_viewed:
            raise ForbiddenPickleError("its tensors are much larger than the file itself")
        return tensor


class _Archive(_Storages):
    """One opened `.pt` archive and its records."""

    def __init__(self, archive: zipfile.ZipFile, file_size: int):
        super().__init__(file_size)
        self.archive = archive
        self.records = {info.filename: info for info in archive.infolist()}
        if sum(info.file_size for info in archive.infolist()) > MAX_UNPACKED * file_size + _SLACK:
            raise ForbiddenPickleError("its records are much larger than the file itself")
        pickles = [name for name in self.records if name.count("/") <= 1 and name.split("/")[-1] == "data.pkl"]
        if len(pickles) != 1:
            raise ForbiddenPickleError("a zip archive without data.pkl, expected a .pt file as written by torch.save")
        self.prefix = pickles[0].removesuffix("data.pkl")
        if self._read("byteorder", b"little") != b"little":
            raise ForbiddenPickleError("it was written on a machine of the other byte order")

    def _read(self, name: str, default: bytes | None = None) -> bytes:
        """A record, of which no more is unpacked than its header declares."""
        info = self.records.get(self.prefix + name)
        if info is None and default is not None:
            return default
        if info is None:
            raise TruncatedPickleError(f"it has no record '{name:.100}'")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ForbiddenPickleError(f"a record is compressed by method {info.compress_type}")
        with self.archive.open(info) as file:
            return file.read(info.file_size)

    def load(self) -> Any:
        """The object in the archive. The checksum of every record that is read is verified."""
        return read_pickle(self._read("data.pkl"), self.resolve_name, self.load_storage)

    def read_storage(self, key: str, dtype: torch.dtype, number: int) -> torch.Tensor:
        """The record `data/key`."""
        raw = self._read(f"data/{key}")
        if len(raw) != number * dtype.itemsize:
            raise TruncatedPickleError(
                f"tensor record {key} holds {len(raw)} bytes instead of {number * dtype.itemsize}"
            )
        return torch.frombuffer(bytearray(raw), dtype=dtype) if raw else torch.empty(0, dtype=dtype)


class _OldFile(_Storages):
    """A file in the format of before torch 1.6.

    Three pickles describe it, one is the object, one lists the keys of its storages; then follows each storage, as its
    number of elements (8 bytes) and its values.
    """

    def __init__(self, path: Path):
        super().__init__(path.stat().st_size)
        self.path, self.free = path, path.stat().st_size

    def load(self) -> Any:
        """The object in the file."""
        with self.path.open("rb") as file:
            stream = cast(BinaryIO, _LimitedFile(file, self.path.stat().st_size))
            for _ in range(3):
                read_pickle(stream, self.resolve_name, self.load_storage)
            content = read_pickle(stream, self.resolve_name, self.load_storage)
            flat = {key: storage for (key, _), storage in self.storages.items()}
            for key in _texts(read_pickle(stream, self.resolve_name, self.load_storage)):
                number = int.from_bytes(file.read(8), "little")
                if number != flat[key].numel():
                    raise TruncatedPickleError(f"tensor {key} has {number} elements instead of {flat[key].numel()}")
                if number and file.readinto(flat[key].view(torch.uint8).numpy().data) < flat[key].nbytes:
                    raise TruncatedPickleError(f"tensor {key} is incomplete")
        return content

    def read_storage(self, key: str, dtype: torch.dtype, number: int) -> torch.Tensor:
        """Memory of the storage, whose values follow later in the file."""
        self.free -= number * dtype.itemsize
        if number < 0 or self.free < 0:
            raise TruncatedPickleError("its tensors are larger than the file")
        return torch.empty(number, dtype=dtype)


class _LimitedFile:
    """A file whose reads ask for no more than its size: memory is allocated for what is asked for."""

    def __init__(self, file: BinaryIO, size: int):
        self._file, self._size = file, size
        self.readline, self.tell = file.readline, file.tell

    def read(self, number: int) -> bytes:
        """The next bytes, fewer where the file ends."""
        return self._file.read(min(number, self._size))


def _texts(keys: Any) -> list[str]:
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise ForbiddenPickleError("keys of tensors that are not text")
    return keys


def _tensor(flat: torch.Tensor, offset: int, size: tuple, stride: tuple, *_) -> torch.Tensor:
    """A tensor as a view of its storage `flat`; never larger than its storage."""
    if len(size) > _MAX_DIMENSIONS or len(stride) > _MAX_DIMENSIONS:
        raise ForbiddenPickleError(f"a tensor of {len(size)} dimensions")
    count = 1
    for length in size:
        count *= length
    if count > flat.numel() or min((*size, *stride, offset), default=0) < 0:
        raise ForbiddenPickleError("a tensor larger than its data")
    return flat.as_strided(tuple(size), tuple(stride), offset)


def _parameter(tensor: torch.Tensor, *_) -> torch.Tensor:
    if not isinstance(tensor, torch.Tensor):
        raise ForbiddenPickleError("a parameter that is not a tensor")
    return tensor


_CALLS: dict[str, Callable] = {
    "collections.OrderedDict": dict,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
    "torch.Size": tuple,
    **{
        f"{module}.{kind.__name__}": kind
        for module in ("builtins", "__builtin__")
        for kind in (set, frozenset, list, dict)
    },
}


def _resolve_name(module: str, name: str) -> GlobalName:
    """The replacement of `module.name`; a name that is not on the lists above is refused."""
    full = f"{module}.{name}"
    if full in _CALLS:
        return GlobalName(full, _CALLS[full])
    is_storage = module == "torch" and name in _STORAGE_DTYPES
    if is_storage or full in _RECORDED_NAMES or full.startswith(_RECORDED_PREFIXES):
        return GlobalName(full)
    raise ForbiddenPickleError(f"it names '{full}', which weights do not need")
