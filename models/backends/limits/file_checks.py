"""Checks of an exported file before a runtime opens it: device, existence, changes after the export."""

import logging
import re
from pathlib import Path

from graftdet.utils.errors import UserError
from graftdet.utils.files import read_regular_file, refuse_lfs_file
from graftdet.utils.untrusted.embedded_digest import check_embedded_digest

logger = logging.getLogger(__name__)
_KEY = re.compile(rb"files?_sha256|[\x0b<]files?_.{6}|[\x0b<].{5,6}sha256[\x12 ]", re.DOTALL)
"""The key of a digest, of which half may be damaged, as ONNX and OpenVINO write it."""


def check_cpu_only(device: str, files: str) -> None:
    """Raise `UserError` for any --device but the CPU, or mps and "", which mean it for `files` of this format."""
    if device.lower() not in ("", "cpu", "mps"):
        raise UserError(f"--device {device}: {files} run on the CPU only; use --device cpu")


def check_is_file(path: Path) -> None:
    """Raise `UserError` if there is no file at `path`, or a Git LFS pointer in its place."""
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    refuse_lfs_file(path)


def read_exported_file(path: Path) -> bytes:
    """Return the content of a file. Raises `UserError` if it cannot be read, see also `check_is_file`."""
    check_is_file(path)
    try:
        return read_regular_file(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None


def warn_of_changes(path: str | Path, data: bytes, pattern: re.Pattern[bytes], companion: bytes = b"") -> None:
    """Warn of a file whose digest is not that of its content: a program may have edited it, or it is damaged.

    Args:
        path: the file, for messages.
        data, pattern, companion: see `graftdet.utils.untrusted.embedded_digest`; without digest nothing happens.
    """
    try:
        is_unchanged = check_embedded_digest(data, pattern, companion)
    except ValueError:
        is_unchanged = not _KEY.search(data)  # such as a file without digest
    if not is_unchanged:
        logger.warning(f"{path}: changed after its export: edited by another program, or damaged; if so, export again")
