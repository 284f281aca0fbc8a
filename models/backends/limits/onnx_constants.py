"""Sizes that the constants of an ONNX file ask for, read before a runtime folds them. Needs no package.

A runtime computes what does not depend on the input when it opens a file: `ConstantOfShape` with shape [10**5, 10**5]
takes 40 GB. Protocol buffers are sequences of (field number, value), read here as far as needed
(protobuf.dev/programming-guides/encoding; field numbers of onnx.proto).
"""

import math
import struct
from collections.abc import Iterator

_SHAPED = frozenset((b"ConstantOfShape", b"Expand", b"Tile", b"Reshape", b"Resize", b"Pad", b"Upsample", b"Range"))
_MAX_RANK = 16
_TILED = 3 * 32 * 32  # values that `Tile` repeats at least where it repeats an image
_INT64 = 7  # TensorProto.DataType


def largest_constant_shape(data: bytes) -> int:
    """The largest number of values that a constant shape in an ONNX file asks for.

    Args:
        data: the content of the file.

    Returns:
        The product of the shape, 0 where none is constant or the file is malformed, which the runtime reports.
    """
    try:
        graphs = [value for field, value in _fields(data) if field == 7 and isinstance(value, bytes)]
        return max((_largest_in_graph(graph) for graph in graphs), default=0)
    except (ValueError, struct.error, IndexError):
        return 0


def _largest_in_graph(graph: bytes) -> int:
    constants: dict[bytes, list[int]] = {}
    wanted: list[bytes] = []
    tiled: list[bytes] = []
    for field, value in _fields(graph):
        if field == 5 and isinstance(value, bytes):
            name, numbers = _tensor(value)
            constants[name] = numbers
        elif field == 1 and isinstance(value, bytes):
            inputs, outputs, kind, tensor = _node(value)
            if kind in _SHAPED:
                wanted += inputs
            if kind == b"Tile":
                tiled += inputs[1:]
            elif kind == b"Constant" and tensor is not None and outputs:
                constants[outputs[0]] = tensor
    sizes = {name: math.prod(max(abs(n), 1) for n in numbers) for name, numbers in constants.items()}
    return max(
        (sizes[name] * factor for names, factor in ((wanted, 1), (tiled, _TILED)) for name in names if name in sizes),
        default=0,
    )


def _node(data: bytes) -> tuple[list[bytes], list[bytes], bytes, list[int] | None]:
    """Names of the inputs and outputs of a NodeProto, its operator, and its constant."""
    inputs, outputs, kind, tensor = [], [], b"", None
    for field, value in _fields(data):
        if not isinstance(value, bytes):
            continue
        if field == 1:
            inputs.append(value)
        elif field == 2:
            outputs.append(value)
        elif field == 4:
            kind = value
        elif field == 5:  # AttributeProto, whose field 5 is a tensor
            tensor = next((_tensor(v)[1] for f, v in _fields(value) if f == 5 and isinstance(v, bytes)), tensor)
    return inputs, outputs, kind, tensor


def _tensor(data: bytes) -> tuple[bytes, list[int]]:
    """Name and values of a TensorProto of at most `_MAX_RANK` integers; no values for any other."""
    name, raw, numbers, kind = b"", b"", [], 0
    for field, value in _fields(data):
        if field == 8 and isinstance(value, bytes):
            name = value
        elif field == 2 and isinstance(value, int):
            kind = value
        elif field == 9 and isinstance(value, bytes):
            raw = value
        elif field == 7:
            numbers += [value] if isinstance(value, int) else _packed(value)
    if kind != _INT64 or len(raw) > 8 * _MAX_RANK or len(numbers) > _MAX_RANK:
        return name, []
    return name, numbers or list(struct.unpack(f"<{len(raw) // 8}q", raw[: len(raw) // 8 * 8]))


def _packed(data: bytes) -> list[int]:
    numbers, position = [], 0
    while position < len(data) and len(numbers) <= _MAX_RANK:
        number, position = _varint(data, position)
        numbers.append(number - (1 << 64) if number >> 63 else number)
    return numbers


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The fields of a message: (number, integer or bytes); numbers of fixed width are skipped."""
    position = 0
    while position < len(data):
        key, position = _varint(data, position)
        kind = key & 7
        if kind == 0:
            number, position = _varint(data, position)
            yield key >> 3, number
        elif kind == 2:
            length, position = _varint(data, position)
            yield key >> 3, data[position : position + length]
            position += length
        elif kind in (1, 5):
            position += 8 if kind == 1 else 4
        else:
            raise ValueError(f"field of kind {kind}")


def _varint(data: bytes, position: int) -> tuple[int, int]:
    number = shift = 0
    while shift < 70:
        byte = data[position]
        position += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, position
        shift += 7
    raise ValueError("an integer of more than 64 bits")
