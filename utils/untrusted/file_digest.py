"""A digest at the end of a zip archive, by which any later change of the file is noticed.

The checksums of a zip archive cover its records but not its directory. The comment of the archive, its last bytes,
holds the SHA-256 of all bytes before it; programs that read zip archives, torch among them, ignore it.
"""

import hashlib
import os
from pathlib import Path
from typing import BinaryIO

_PREFIX = b"graftdet sha256 "
_COMMENT = len(_PREFIX) + 64  # bytes of the comment
_END = 22  # bytes of the record that ends an archive: signature, ..., length of the comment
_SIGNATURE = b"PK\x05\x06"


class DamagedFileError(Exception):
    """The file changed after it was written."""


def append_digest(file: BinaryIO) -> None:
    """Append the digest to the zip archive that was just written to `file`, which is open for reading and writing."""
    size = file.seek(-2, os.SEEK_END)
    if file.read(2) != b"\0\0":
        raise ValueError("expected a zip archive without a comment")
    file.seek(-2, os.SEEK_END)
    file.write(_COMMENT.to_bytes(2, "little"))
    file.seek(0)
    file.write(_PREFIX + _sha256(file, size + 2).encode())


def check_digest(path: str | Path) -> bool:
    """Compare a zip archive with its digest.

    Returns:
        Whether it has one; False where another program wrote the file.

    Raises:
        DamagedFileError: the file is not what was written.
        OSError: it cannot be read.
    """
    with open(path, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - _END))
        end = file.read()
        if end.startswith(_SIGNATURE) and end.endswith(b"\0\0"):
            return False
        file.seek(max(0, size - _COMMENT))
        comment = file.read()
        file.seek(0)
        digest = _sha256(file, size - _COMMENT)
    if comment != _PREFIX + digest.encode():
        raise DamagedFileError("its content does not match its digest")
    return True


def _sha256(file: BinaryIO, number: int) -> str:
    """The digest of the next `number` bytes of a file."""
    sha256 = hashlib.sha256()
    while number > 0 and (block := file.read(min(number, 1 << 20))):
        sha256.update(block)
        number -= len(block)
    return sha256.hexdigest()
