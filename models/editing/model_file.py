"""Read a model YAML to be edited, and write the result if the model can be built."""

import argparse
import sys
from pathlib import Path

from graftdet.models.editing.file_text import decode_text, encode_text, write_file
from graftdet.models.graph.detection_model import build_model
from graftdet.models.spec.model_spec import ModelSpec
from graftdet.models.spec.scales import find_sized
from graftdet.utils.errors import UserError


def read_model_text(args: argparse.Namespace) -> tuple[Path, str]:
    """Return the path of the model YAML `args.cfg`, and its text with original line ends, without byte order mark.

    If the YAML has several sizes and the result is written elsewhere, the text states the size that `cfg` names.
    """
    path, where, size = find_sized(args.cfg)
    if size and args.in_place:
        raise UserError(f"{args.cfg}: is size {size} of {path}; edit that file, or write elsewhere with -o")
    text = decode_text(path.read_bytes())
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
    data = encode_text(new, path.read_bytes())
    if args.output or args.in_place:
        write_file(path if args.in_place else Path(args.output), data)
    elif hasattr(sys.stdout, "buffer"):  # original line ends, also on Windows
        sys.stdout.flush()
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    else:
        sys.stdout.write(new)
    return spec
