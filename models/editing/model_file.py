"""Read a model YAML to be edited, and write the result if the model can be built."""

import argparse
import os
import sys
from pathlib import Path

from graftdet.models.graph.detection_model import build_model
from graftdet.models.spec.model_spec import ModelSpec
from graftdet.models.spec.scales import find_sized
from graftdet.utils.errors import UserError
from graftdet.utils.files import atomic_file

_BYTES = {0xDC80 + i: 0x10FE80 + i for i in range(128)}  # bytes that are not UTF-8 -> characters that YAML allows
_BACK = {character: byte for byte, character in _BYTES.items()}
_BYTE_ORDER_MARK = "\ufeff".encode()


def read_model_text(args: argparse.Namespace) -> tuple[Path, str]:
    """Return the path of the model YAML `args.cfg`, and its text with original line ends, without byte order mark.

    If the YAML has several sizes and the result is written elsewhere, the text states the size that `cfg` names.
    """
    path, where, size = find_sized(args.cfg)
    if size and args.in_place:
        raise UserError(f"{args.cfg}: is size {size} of {path}; edit that file, or write elsewhere with -o")
    text = path.read_bytes().removeprefix(_BYTE_ORDER_MARK).decode("utf-8", "surrogateescape").translate(_BYTES)
    spec = ModelSpec.from_text(text, where, lambda problem: None, size)
    return path, text if args.in_place else spec.text


def write_model_text(args: argparse.Namespace, path: Path, old: str, new: str, what: str) -> ModelSpec:
    """Write an edited YAML if its model can be built.

    Args:
        args: `output` and `in_place` select where to write.
        path: The YAML that was edited.
        old: Its text.
        new: The edited text.
        what: The change, for messages.

    Returns:
        The edited model.

    Raises:
        UserError: If the model cannot be built; nothing is written then.
    """
    spec = ModelSpec.from_text(new, path.name)
    try:
        build_model(spec.with_classes(spec.nc or 80))
    except UserError as error:
        try:
            build_model(ModelSpec.from_text(old, path.name).with_classes(spec.nc or 80))
        except UserError as before:
            raise UserError(f"before any change: {before}") from None
        raise UserError(f"{what}: {error}") from None
    mark = _BYTE_ORDER_MARK if path.read_bytes().startswith(_BYTE_ORDER_MARK) else b""
    data = mark + new.translate(_BACK).encode("utf-8", "surrogateescape")
    if args.output or args.in_place:
        _write(path if args.in_place else Path(args.output), data)
    elif hasattr(sys.stdout, "buffer"):  # original line ends, also on Windows
        sys.stdout.flush()
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    else:
        sys.stdout.write(new)
    return spec


def _write(path: Path, data: bytes) -> None:
    """Write a file completely or not at all; a link is followed, permissions are preserved."""
    path = path.resolve()
    if path.is_dir():
        raise UserError(f"{path}: is a folder, expected a file to write")
    if path.exists() and not os.access(path, os.W_OK):
        raise UserError(f"{path}: cannot be written (it is read-only); write elsewhere with -o")
    with atomic_file(path, copy_mode=True) as file:
        file.write(data)
