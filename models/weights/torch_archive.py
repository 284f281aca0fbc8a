"""The values inside a `.pt` file, read without executing anything of it.

A `.pt` file is a zip archive: one pickle (`data.pkl`) that says how objects are put together, and one record a tensor.
Published detectors pickle whole module objects, which `torch.load(weights_only=True)` rightly refuses. Here tensors,
containers and numbers become themselves; objects of a few known families become an `Inert` record of their name and
state; any other name is refused (`graftdet.models.weights.restricted_unpickler` goes through the pickle).
"""

import errno
import zipfile
from collections.abc import Callable
from pathlib import Path

import torch
from graftdet.models.weights.restricted_unpickler import Name, Refused, Torn, interpret
from graftdet.utils.errors import UserError

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
            raise UserError(
                f"{path}: is in the format of before torch 1.6, which is not read; save it with a newer torch"
            )
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
            raise UserError(f"{path}: is torn or incomplete; copy or download it again") from None
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except Refused as error:
        raise UserError(f"{path}: refused: {error}; nothing in it was executed") from None
    except Exception as error:  # whatever a damaged or crafted file runs into: indices, types, sizes, checksums
        kind = f"is torn ({_reason(error)})" if start[:2] == b"PK" else "is no weights file" if start else "is empty"
        raise UserError(f"{path}: {kind}, expected a .pt file as torch.save writes it") from None


def _reason(error: Exception) -> str:
    return f"{type(error).__name__.lstrip('_')}: {str(error)[:100]}"


class _Archive:
    """One opened `.pt` archive: finds its records, keeps the storages that several tensors share."""

    def __init__(self, archive: zipfile.ZipFile, file_size: int):
        self.archive = archive
        self.records = {info.filename: info for info in archive.infolist()}
        self.storages: dict[tuple[str, str], torch.Tensor] = {}
        if any(info.file_size > file_size for info in self.records.values()):
            raise Refused("a record is larger than the file itself")
        pickles = [name for name in self.records if name.count("/") <= 1 and name.split("/")[-1] == "data.pkl"]
        if len(pickles) != 1:
            raise Refused("a zip archive without data.pkl, expected a .pt file as torch.save writes it")
        self.prefix = pickles[0].removesuffix("data.pkl")
        if self._read("byteorder", b"little") != b"little":
            raise Refused("it was written on a machine of the other byte order")

    def _read(self, name: str, default: bytes | None = None) -> bytes:
        if default is not None and self.prefix + name not in self.records:
            return default
        return self.archive.read(self.prefix + name)

    def load(self):
        return interpret(self._read("data.pkl"), _resolve, self._storage)

    def _storage(self, persistent_id) -> torch.Tensor:
        """Return the flat tensor of one ("storage", type, key, location, number) reference."""
        kind, storage_type, key, _, number = persistent_id
        dtype = (
            _STORAGE_DTYPES.get(storage_type.name.removeprefix("torch.")) if isinstance(storage_type, Name) else None
        )
        if kind != "storage" or dtype is None:
            raise Refused("a tensor of an unknown kind")
        if (key, dtype) not in self.storages:
            raw = self._read(f"data/{key}")
            if len(raw) != number * dtype.itemsize:
                raise Torn(f"tensor record {key} holds {len(raw)} bytes instead of {number * dtype.itemsize}")
            flat = torch.frombuffer(bytearray(raw), dtype=dtype) if raw else torch.empty(0, dtype=dtype)
            self.storages[key, dtype] = flat
        return self.storages[key, dtype]


def _tensor(flat: torch.Tensor, offset: int, size: tuple, stride: tuple, *_) -> torch.Tensor:
    """Return the view of storage `flat` that a tensor is; never larger than its storage."""
    count = 1
    for length in size:
        count *= length
    if count > flat.numel() or min((*size, *stride, offset), default=0) < 0:
        raise Refused("a tensor larger than its data")
    return flat.as_strided(tuple(size), tuple(stride), offset)


def _parameter(tensor: torch.Tensor, *_) -> torch.Tensor:
    if not isinstance(tensor, torch.Tensor):
        raise Refused("a parameter that is no tensor")
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


def _resolve(module: str, name: str) -> Name:
    """What the name `module.name` stands for; anything that is not on the lists is refused."""
    full = f"{module}.{name}"
    if full in _CALLS:
        return Name(full, _CALLS[full])
    known = module == "torch" and name in _STORAGE_DTYPES
    if known or full in _INERT_NAMES or full.startswith(_INERT_PREFIXES):
        return Name(full)
    raise Refused(f"it names '{full}', which weights do not need")
