"""The values inside a `.pt` file, read without executing anything in it.

A `.pt` file is a zip archive: one pickle (`data.pkl`) that describes how objects are built, and one record per tensor
storage. Published detectors pickle whole module objects, which `torch.load(weights_only=True)` rightly refuses. Here
tensors, containers and numbers are read as such; objects of a few known families become a `RecordedObject`; any other
name is refused (see `graftdet.models.weights.restricted_unpickler`).
"""

import errno
import pickle
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from graftdet.models.weights.restricted_unpickler import (
    ForbiddenPickleError,
    GlobalName,
    TruncatedPickleError,
    read_pickle,
)
from graftdet.utils.errors import UserError

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
_RECORDED_PREFIXES = ("models.", "ultralytics.", "torch.nn.", "numpy.core.multiarray.", "numpy._core.multiarray.")
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
_OLD_FORMAT = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."


def read_archive(path: str | Path) -> Any:
    """Read the object in `.pt` file `path`. Nothing in the file is imported or called.

    Returns:
        The object, with tensors on the CPU and module objects as `RecordedObject`.

    Raises:
        UserError: the file is missing, truncated, not a weights file, or names anything that is not on the lists of
            this module. Files in the format of before torch 1.6 may hold tensors and containers only.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            start = file.read(len(_OLD_FORMAT))
        if start == _OLD_FORMAT:
            return _read_old_format(path)
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
        is_zip = start[:2] == b"PK"
        problem = f"is truncated or malformed ({_reason(error)})" if is_zip else "is not a weights file"
        raise UserError(
            f"{path}: {problem if start else 'is empty'}, expected a .pt file as written by torch.save"
        ) from None


def _read_old_format(path: Path) -> Any:
    """The object in a file in the format of before torch 1.6: several pickles in a row, without an archive."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns about what it then refuses; one message is enough
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise UserError(
            f"{path}: refused: in the format of before torch 1.6 only tensors are read, and it holds Python objects or "
            "is damaged; nothing in it was executed. Save its state_dict() with a newer torch"
        ) from None


def _reason(error: Exception) -> str:
    return f"{type(error).__name__.lstrip('_')}: {str(error)[:100]}"


class _Archive:
    """One opened `.pt` archive: finds its records and caches the storages that several tensors view."""

    def __init__(self, archive: zipfile.ZipFile, file_size: int):
        self.archive = archive
        self.records = {info.filename: info for info in archive.infolist()}
        self.storages: dict[tuple[str, torch.dtype], torch.Tensor] = {}
        if any(info.file_size > file_size for info in self.records.values()):
            raise ForbiddenPickleError("a record is larger than the file itself")
        pickles = [name for name in self.records if name.count("/") <= 1 and name.split("/")[-1] == "data.pkl"]
        if len(pickles) != 1:
            raise ForbiddenPickleError("a zip archive without data.pkl, expected a .pt file as written by torch.save")
        self.prefix = pickles[0].removesuffix("data.pkl")
        if self._read("byteorder", b"little") != b"little":
            raise ForbiddenPickleError("it was written on a machine of the other byte order")

    def _read(self, name: str, default: bytes | None = None) -> bytes:
        if default is not None and self.prefix + name not in self.records:
            return default
        return self.archive.read(self.prefix + name)

    def load(self) -> Any:
        return read_pickle(self._read("data.pkl"), _resolve_name, self._load_storage)

    def _load_storage(self, persistent_id) -> torch.Tensor:
        """The flat tensor of one ("storage", type, key, location, number of elements) reference."""
        kind, storage_type, key, _, number = persistent_id
        known = isinstance(storage_type, GlobalName)
        dtype = _STORAGE_DTYPES.get(storage_type.name.removeprefix("torch.")) if known else None
        if kind != "storage" or dtype is None:
            raise ForbiddenPickleError("a tensor of an unknown type")
        if (key, dtype) not in self.storages:
            raw = self._read(f"data/{key}")
            if len(raw) != number * dtype.itemsize:
                raise TruncatedPickleError(
                    f"tensor record {key} holds {len(raw)} bytes instead of {number * dtype.itemsize}"
                )
            flat = torch.frombuffer(bytearray(raw), dtype=dtype) if raw else torch.empty(0, dtype=dtype)
            self.storages[key, dtype] = flat
        return self.storages[key, dtype]


def _tensor(flat: torch.Tensor, offset: int, size: tuple, stride: tuple, *_) -> torch.Tensor:
    """A tensor as a view of its storage `flat`; never larger than its storage."""
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
