"""The bytes of a model YAML as text and back: byte order mark, line ends, and bytes that are not UTF-8 survive."""

import codecs
import os
from pathlib import Path

from graftdet.utils.errors import UserError
from graftdet.utils.files import atomic_file
from graftdet.utils.text import decode_unicode, marked_encoding

_BYTES = {0xDC80 + i: 0x10FE80 + i for i in range(128)}  # bytes that are not UTF-8 -> characters that YAML allows
_BACK = {character: byte for byte, character in _BYTES.items()}


def decode_text(data: bytes) -> str:
    """Return the text of a file without byte order mark, with its line ends.

    Raises:
        UserError: If it starts with the byte order mark of UTF-16 or UTF-32, but is malformed.
    """
    encoding = marked_encoding(data)
    if encoding in ("UTF-16", "UTF-32"):
        return decode_unicode(data, "the model YAML")
    return data.removeprefix(codecs.BOM_UTF8).decode("utf-8", "surrogateescape").translate(_BYTES)


def encode_text(text: str, old: bytes) -> bytes:
    """Return the bytes of a text that replaces the file content `old`, with the byte order mark of that, if any."""
    encoding = marked_encoding(old)
    if encoding in ("UTF-16", "UTF-32"):
        return text.encode(encoding)
    mark = codecs.BOM_UTF8 if encoding else b""
    return mark + text.translate(_BACK).encode("utf-8", "surrogateescape")


def write_file(path: Path, data: bytes) -> None:
    """Write a file completely or not at all; a link is followed, permissions are preserved.

    Raises:
        UserError: If it is a folder, or cannot be written.
    """
    path = path.resolve()
    if path.is_dir():
        raise UserError(f"{path}: is a folder, expected a file to write")
    if path.exists() and not os.access(path, os.W_OK):
        raise UserError(f"{path}: cannot be written (it is read-only); write elsewhere with -o")
    with atomic_file(path, copy_mode=True) as file:
        file.write(data)
