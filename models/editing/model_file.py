"""Reading a model YAML that is to be rewritten, and writing it once the result builds."""

import os
import shutil
import sys
from pathlib import Path

from graftdet.models.graph.detection_model import build_model
from graftdet.models.spec.model_spec import ModelSpec
from graftdet.models.spec.scales import find_sized
from graftdet.utils.errors import UserError
from graftdet.utils.files import write_errors

_BYTES = {0xDC80 + i: 0x10FE80 + i for i in range(128)}  # bytes that are no UTF-8, as characters that YAML allows
_BACK = {character: byte for byte, character in _BYTES.items()}
_MARK = "\ufeff".encode()


def add_file_arguments(parser) -> None:
    """The arguments that all commands have which rewrite a file."""
    parser.add_argument("cfg", metavar="FILE.yaml", help="model YAML, a path or a bare name")
    target = parser.add_mutually_exclusive_group()
    target.add_argument("-o", "--output", metavar="FILE", help="write here instead of to standard output")
    target.add_argument("--in-place", action="store_true", help="rewrite FILE.yaml itself")


def read_model_text(args) -> tuple[Path, str]:
    """The path of the model YAML `args.cfg` and its text, line ends as they are, without a byte order mark. A text with a
    table of sizes that goes elsewhere names its size, which its name may tell now."""
    path, where, size = find_sized(args.cfg)
    if size and args.in_place:
        raise UserError(f"{args.cfg}: is size {size} of {path}; rewrite that file, or write elsewhere with -o")
    text = path.read_bytes().removeprefix(_MARK).decode("utf-8", "surrogateescape").translate(_BYTES)
    spec = ModelSpec.from_text(text, where, lambda problem: None, size)
    return path, text if args.in_place else spec.text


def write_model_text(args, path: Path, old: str, new: str, what: str) -> ModelSpec:
    """Build the rewritten model, and write its text where `args` say. Raises `UserError`, and writes nothing, when it
    cannot be built although the old one can."""
    spec = ModelSpec.from_text(new, path.name)
    try:
        build_model(spec.with_classes(spec.nc or 80))
    except UserError as error:
        try:
            build_model(ModelSpec.from_text(old, path.name).with_classes(spec.nc or 80))
        except UserError as before:
            raise UserError(f"before any change: {before}") from None
        raise UserError(f"{what}: {error}") from None
    mark = _MARK if path.read_bytes().startswith(_MARK) else b""
    data = mark + new.translate(_BACK).encode("utf-8", "surrogateescape")
    if args.output or args.in_place:
        _write(path if args.in_place else Path(args.output), data)
    elif hasattr(sys.stdout, "buffer"):  # line ends as they are, on Windows too
        sys.stdout.flush()
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    else:
        sys.stdout.write(new)
    return spec


def _write(target: Path, data: bytes) -> None:
    """Write a file as a whole or not at all: through a link, with the rights that it had."""
    target = target.resolve()
    with write_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists() and not os.access(target, os.W_OK):
            raise UserError(f"{target}: cannot be written (it is read-only); write elsewhere with -o")
        if target.is_dir():
            raise UserError(f"{target}: is a folder, expected a file to write")
        part = target.with_name(f"{target.name}.part")
        try:
            part.write_bytes(data)
            if target.exists():
                shutil.copymode(target, part)
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)
