"""A digest in the header of a `.safetensors` file, by which any later change of the file is noticed.

Metadata are texts by key. `sha256` holds the SHA-256 of the whole file with zeros in its place, and `digest` the name
of that key: one of them is left where damage makes the other one unreadable.
"""

import hashlib
import json
import os
from pathlib import Path

from graftdet.utils.untrusted.file_digest import DamagedFileError

KEYS = {"digest": "sha256", "sha256": "0" * 64}
"""Metadata that a header has before the digest is known."""
MAX_HEADER = 100_000_000  # bytes; the limit of the library


def fill_digest(data: bytes) -> bytes:
    """Return the file `data`, whose metadata have `KEYS` as compact JSON, with its digest."""
    end = 8 + int.from_bytes(data[:8], "little")
    start = data.index(_entry(KEYS["sha256"]), 8, end)
    entry = _entry(hashlib.sha256(data).hexdigest())
    return data[:start] + entry + data[start + len(entry) :]


def check_header_digest(path: str | Path) -> bool:
    """Compare a file with the digest in its header.

    Returns:
        Whether it has one; False where another program wrote the file, or an earlier version.

    Raises:
        DamagedFileError: the file is not what was written.
        OSError: it cannot be read.
    """
    with open(path, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        length = int.from_bytes(file.read(8), "little")
        if length > min(size - 8, MAX_HEADER):
            return False  # malformed, which the library reports
        file.seek(0)
        header = file.read(8 + length)
        metadata = _metadata(header[8:])
        if not metadata.keys() & KEYS.keys():
            return False
        entry = _entry(str(metadata.get("sha256")))
        if metadata.get("digest") != KEYS["digest"] or header.count(entry) != 1:
            raise DamagedFileError("its digest is damaged")
        sha256 = hashlib.sha256(header.replace(entry, _entry(KEYS["sha256"])))
        while block := file.read(1 << 20):
            sha256.update(block)
    if sha256.hexdigest() != metadata["sha256"]:
        raise DamagedFileError("its content does not match its digest")
    return True


def _entry(digest: str) -> bytes:
    """The entry of a digest in a header."""
    return f'"sha256":"{digest}"'.encode("utf-8", "replace")


def _metadata(header: bytes) -> dict:
    """The metadata in a header; empty where it is malformed, which the library reports."""
    try:
        metadata = json.loads(header)["__metadata__"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return {}
    return metadata if isinstance(metadata, dict) else {}
