"""`.safetensors` files: tensors by name and a text header, without anything that could be executed.

The header of a file of this project holds what is needed to build its model
(see `graftdet.models.weights.weights_file`) and, for pretrained weights, their card, and a digest of the file, which is
verified whenever it is read. Torch is imported only where tensors are read or written.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from graftdet.utils.errors import UserError, missing_weights
from graftdet.utils.files import refuse_lfs_file, write_atomically
from graftdet.utils.untrusted.file_digest import DamagedFileError
from graftdet.utils.untrusted.header_digest import KEYS, check_header_digest, fill_digest
from graftdet.utils.untrusted.limits import MAX_TENSORS, limit

if TYPE_CHECKING:
    from torch import Tensor

SUFFIX = ".safetensors"
MIN_HALF_SIZE = 1024  # elements: smaller tensors (batch norms, biases, anchors) hardly add to the size of the file
MAX_DIMENSIONS = 64
MAX_HALF = 65504.0  # largest number of float16


@dataclass(frozen=True)
class SafetensorsHeader:
    """The header of a `.safetensors` file.

    Attributes:
        path: the file.
        metadata: texts by key, as stored, without the digest.
        shapes: tensor name -> shape.
    """

    path: Path
    metadata: dict[str, str] = field(default_factory=dict)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)

    def read_value(self, key: str, kind: type | tuple[type, ...]) -> Any:
        """The value that `metadata[key]` holds as JSON, None where the key is missing.

        Raises:
            UserError: the text is not JSON, or not a value of `kind`.
        """
        text = self.metadata.get(key)
        if text is None:
            return None
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            raise UserError(f"{self.path}: its metadata '{key}' is not valid JSON") from None
        if value is not None and not isinstance(value, kind):
            raise UserError(
                f"{self.path}: its metadata '{key}' is a {type(value).__name__}, which does not belong there"
            )
        return value


def is_safetensors(path: str | Path) -> bool:
    """Whether the name of the file ends in `.safetensors`."""
    return Path(path).suffix.lower() == SUFFIX


def read_header(path: str | Path) -> SafetensorsHeader:
    """Read the header of a file, without its tensors and without torch.

    Raises:
        UserError: the file is missing, cannot be read, or is truncated, malformed or damaged.
    """
    return _read(Path(path), "np")[0]


def read_safetensors(path: str | Path) -> tuple[SafetensorsHeader, dict[str, "Tensor"]]:
    """Read the header and the tensors of a file, with float16 and bfloat16 tensors as float32.

    Raises:
        UserError: the file is missing, cannot be read, or is truncated, malformed or damaged.
    """
    return _read(Path(path), "pt")


def _read(path: Path, framework: str) -> tuple[SafetensorsHeader, dict[str, "Tensor"]]:
    """The header and, with framework "pt", the tensors."""
    if not path.exists():
        raise missing_weights(path)
    if path.is_dir():
        raise UserError(f"{path}: is a folder, expected a {SUFFIX} file")
    if not path.is_file():
        raise UserError(f"{path}: is not a regular file, expected a {SUFFIX} file")
    refuse_lfs_file(path)
    try:
        with safe_open(path, framework=framework) as file:
            check_header_digest(path)
            names = file.keys()
            if len(names) > limit(MAX_TENSORS):
                raise UserError(f"{path}: holds {len(names)} tensors, more than the limit of {limit(MAX_TENSORS)}")
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in names}
            if max(map(len, shapes.values()), default=0) > MAX_DIMENSIONS:
                raise UserError(f"{path}: holds a tensor of more than {MAX_DIMENSIONS} dimensions")
            metadata = {key: text for key, text in (file.metadata() or {}).items() if key not in KEYS}
            header = SafetensorsHeader(path, metadata, shapes)
            tensors = {name: _as_float32(file.get_tensor(name), path) for name in shapes} if framework == "pt" else {}
    except DamagedFileError as error:
        raise UserError(f"{path}: is damaged: {error}; copy it again") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from None
    except SafetensorError as error:
        reason = str(error).removeprefix("Error while deserializing header: ").splitlines()[0]
        problem = "is truncated or malformed" if path.stat().st_size else "is empty"
        raise UserError(f"{path}: {problem} ({reason}), expected a {SUFFIX} file") from None
    return header, tensors


def write_safetensors(
    path: str | Path, tensors: Mapping[str, "Tensor"], metadata: Mapping[str, str], half: bool = True
) -> None:
    """Write tensors, metadata and a digest. Equal content gives equal bytes.

    Args:
        path: the file to write.
        tensors: tensor name -> tensor; they may be views of each other.
        metadata: texts by key.
        half: store weights as float16. Tensors of less than two dimensions, those of fewer than `MIN_HALF_SIZE`
            elements, such as batch norms, biases and anchors, those with values beyond float16, and integers keep
            their type.

    Raises:
        UserError: the file cannot be written.
    """
    from safetensors.torch import save

    stored = {name: _as_stored(tensor, half) for name, tensor in tensors.items()}
    write_atomically(path, fill_digest(_with_sorted_metadata(save(stored, {**metadata, **KEYS}))))


def _as_float32(tensor: "Tensor", path: Path) -> "Tensor":
    """Half precision -> float32, anything else unchanged; a copy, independent of the file."""
    if tensor.is_complex() or (tensor.is_floating_point() and tensor.element_size() == 1):
        raise UserError(f"{path}: holds tensors of type {tensor.dtype}, which no model here has")
    return tensor.float() if tensor.is_floating_point() and tensor.element_size() == 2 else tensor.clone()


def _as_stored(tensor: "Tensor", half: bool) -> "Tensor":
    """A contiguous copy on the CPU, in float16 where `write_safetensors` says so."""
    tensor = tensor.detach().cpu()
    is_large = tensor.dim() > 1 and tensor.numel() >= MIN_HALF_SIZE
    if half and is_large and tensor.is_floating_point() and bool(tensor.abs().max() <= MAX_HALF):
        tensor = tensor.half()
    return tensor.contiguous().clone()


def _with_sorted_metadata(data: bytes) -> bytes:
    """The file `data` with its metadata sorted by key: the library writes them in random order.

    Layout: length of the header (8 bytes, little endian), header (JSON, padded by blanks to a multiple of 8), tensors.
    """
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:end])
    header["__metadata__"] = dict(sorted(header.get("__metadata__", {}).items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data[end:]
