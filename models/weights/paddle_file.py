"""`.pdparams` files of PaddlePaddle: a pickle of arrays by name, read without executing it.

Published facts of the format: `paddle.save(layer.state_dict(), path)` pickles a dict of NumPy arrays, bare or as
(name of the variable, array). Running statistics are called `_mean` and `_variance`, and the weight of a linear layer
is stored as (in, out).
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from graftdet.models.weights.yolov5_checkpoint import PublishedWeights
from graftdet.utils.errors import UserError
from graftdet.utils.files import read_regular_file
from graftdet.utils.untrusted.restricted_unpickler import (
    ForbiddenPickleError,
    GlobalName,
    TruncatedPickleError,
    read_pickle,
)
from graftdet.utils.untrusted.torch_archive import MAX_VIEWED
from graftdet.utils.untrusted.value_limits import RecordedObject

_STATISTICS = {"_mean": "running_mean", "_variance": "running_var"}
_DTYPES = ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "b1")
_ENDINGS = ("<", "|")  # little-endian, or of one byte
_RECORDED = {
    f"{package}.{name}"
    for package in ("numpy.core.multiarray", "numpy._core.multiarray")
    for name in ("_reconstruct", "scalar")
} | {"numpy.ndarray", "numpy.dtype", "_codecs.encode"}
_CALLS: dict[str, Callable] = {
    "collections.OrderedDict": dict,
    "builtins.tuple": tuple,
    "__builtin__.tuple": tuple,
}


def is_paddle(path: str | Path) -> bool:
    """Whether the name of a file is that of PaddlePaddle parameters."""
    return Path(path).suffix.lower() == ".pdparams"


def read_paddle(path: str | Path) -> PublishedWeights:
    """Read the tensors of a `.pdparams` file, with torch's names for running statistics and layouts of linear layers.

    Raises:
        UserError: the file is missing, damaged, holds no arrays, or names anything that arrays do not need.
    """
    path = Path(path)
    try:
        data = read_regular_file(path)
        content = read_pickle(data, _resolve_name, _refuse_persistent)
        state = _collect(content, MAX_VIEWED * len(data)) if isinstance(content, dict) else {}
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except ForbiddenPickleError as error:
        raise UserError(f"{path}: refused: {error}; nothing in it was executed") from None
    except MemoryError:
        raise
    except Exception as error:  # a damaged or crafted file decides what is raised
        reason = str(error) if isinstance(error, TruncatedPickleError) else type(error).__name__
        raise UserError(f"{path}: is truncated or malformed ({reason}), expected arrays of PaddlePaddle") from None
    if not state:
        raise UserError(f"{path}: holds no arrays, expected the parameters of a PaddlePaddle model")
    return PublishedWeights(state)


def _resolve_name(module: str, name: str) -> GlobalName:
    full = f"{module}.{name}"
    if full in _CALLS:
        return GlobalName(full, _CALLS[full])
    if full in _RECORDED:
        return GlobalName(full)
    raise ForbiddenPickleError(f"it names '{full}', which arrays do not need")


def _refuse_persistent(_: Any) -> None:
    raise ForbiddenPickleError("it refers to data outside its pickle")


def _collect(content: dict, max_bytes: int) -> dict[str, torch.Tensor]:
    """The arrays of a state dict as tensors; entries of other kinds, such as a table of names, are skipped.

    Raises `ForbiddenPickleError` where they take more than `max_bytes`: many may share one record of the file.
    """
    state: dict[str, torch.Tensor] = {}
    for name, value in content.items():
        array = value[1] if isinstance(value, tuple) and len(value) == 2 else value
        if isinstance(name, str) and isinstance(array, RecordedObject) and array.name.endswith("._reconstruct"):
            tensor = state[_rename(name)] = _as_torch(name, _array(array))
            max_bytes -= tensor.nbytes
            if max_bytes < 0:
                raise ForbiddenPickleError("its arrays are much larger than the file itself")
    return state


def _rename(name: str) -> str:
    layer, _, kind = name.rpartition(".")
    return f"{layer}.{_STATISTICS.get(kind, kind)}".removeprefix(".")


def _as_torch(name: str, array: np.ndarray) -> torch.Tensor:
    tensor = torch.from_numpy(array)
    tensor = tensor.float() if tensor.is_floating_point() else tensor
    return tensor.t().contiguous() if tensor.dim() == 2 and name.endswith(".weight") else tensor


def _array(recorded: RecordedObject) -> np.ndarray:
    """The array whose reconstruction was recorded: version, shape, dtype, whether in Fortran order, bytes."""
    _, shape, dtype, is_fortran, data = recorded.state[""]
    kind = np.dtype(_dtype(dtype))
    data = _bytes(data)
    if not all(type(side) is int and side >= 0 for side in shape):
        raise ForbiddenPickleError("an array of a shape that is not one")
    if len(data) != math.prod(shape) * kind.itemsize:
        raise TruncatedPickleError(f"an array of shape {shape} holds {len(data)} bytes")
    return np.frombuffer(bytearray(data), kind).reshape(shape, order="F" if is_fortran else "C").copy(order="C")


def _dtype(recorded: Any) -> str:
    """`<f4` and the like, from the recorded construction of a dtype."""
    kind, order = (recorded.args[0], recorded.state[""][1]) if isinstance(recorded, RecordedObject) else ("", "")
    if kind not in _DTYPES or order not in _ENDINGS:
        raise ForbiddenPickleError(f"an array of an unknown type ({order}{kind})")
    return f"{order}{kind}"


def _bytes(data: Any) -> bytes:
    """Bytes, which old protocols of pickle spell as text that is to be encoded as Latin-1."""
    if isinstance(data, RecordedObject) and data.name == "_codecs.encode" and data.args[1:] == ("latin1",):
        data = data.args[0].encode("latin1")
    if not isinstance(data, bytes):
        raise ForbiddenPickleError("an array without its bytes")
    return data
