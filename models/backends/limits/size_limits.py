"""Limits of what an exported file may declare, checked before memory is allocated for it.

A file of a few hundred bytes can declare shapes and metadata that take gigabytes. The limits are far above what
detectors need: inputs of 4096x4096, outputs of 500,000 rows of 85 columns per image.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from graftdet.models.backends.metadata import is_own, parse_size, parse_value
from graftdet.utils.errors import UserError
from graftdet.utils.text import counted

MAX_INPUT = 2**26  # numbers per input
MAX_OUTPUT = 2**28  # numbers per output
MAX_CLASSES = 100_000
MAX_METADATA = 2**24  # characters per value


def check_declared_sizes(
    path: str | Path,
    input_shape: Sequence[int | None],
    outputs: Sequence[tuple[str, Sequence[int | None]]],
    metadata: Mapping[str, str],
) -> None:
    """Raise `UserError` for a file whose declared sizes are beyond the limits.

    Args:
        path: the file, for messages.
        input_shape: (batch, channels, height, width), None where any is taken.
        outputs: name and shape of each output, None where a side varies.
        metadata: the file's metadata.
    """
    for name, shape, limit in (("input", input_shape, MAX_INPUT), *((name, s, MAX_OUTPUT) for name, s in outputs)):
        if (count := math.prod(side or 1 for side in shape)) > limit:
            raise UserError(f"{path}: its {name} has {count} numbers, more than the limit of {limit}")
    for key, text in metadata.items():
        if len(text) > MAX_METADATA:
            raise UserError(f"{path}: its '{key}' has {len(text)} characters, more than the limit of {MAX_METADATA}")
    size = parse_size(metadata.get("size") or metadata.get("imgsz"))
    if size and 3 * math.prod(size) > MAX_INPUT:
        raise UserError(f"{path}: its size is {size[0]}x{size[1]}, more than the limit of {MAX_INPUT // 3} pixels")
    nc = parse_value(metadata.get("nc"))
    if isinstance(nc, int) and nc > MAX_CLASSES:
        number = f"{nc:.3g}" if nc < 10**100 else "very large"
        raise UserError(f"{path}: its 'nc' is {number}, more than the limit of {MAX_CLASSES} classes")
    columns = outputs[0][1][-1] if len(outputs) == 1 and outputs[0][1] else None
    is_decoded = is_own(metadata) and metadata.get("output", "decoded") == "decoded"
    if is_decoded and isinstance(nc, int) and columns is not None and columns != 5 + nc:
        raise UserError(f"{path}: its 'nc' is {nc}, but its output has {counted(columns, 'column')}, expected {5 + nc}")


def check_label(path: str | Path, highest: int) -> None:
    """Raise `UserError` for a class index that no detector has; placeholders for names are made up to it."""
    if highest >= MAX_CLASSES:
        raise UserError(f"{path}: detects class {highest}, more than the limit of {MAX_CLASSES} classes")
