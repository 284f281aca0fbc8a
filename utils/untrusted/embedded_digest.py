"""A digest inside a file whose format has room for texts, by which later changes of the file are noticed.

It is the SHA-256 of the whole file with zeros in the place of the digest, and of companion files after it.
"""

import hashlib
import re

NO_DIGEST = "0" * 64
"""The text to write where the digest belongs."""


def fill_embedded_digest(data: bytes, pattern: re.Pattern[bytes], companion: bytes = b"") -> bytes:
    """Replace the digest of a file, or `NO_DIGEST`, by that of its content.

    Args:
        data: The content.
        pattern: Matches the digest, once, as its first group.
        companion: The content of a file that belongs to it.

    Raises:
        ValueError: If the pattern does not match exactly once.
    """
    start, end = _place(data, pattern)
    return data[:start] + _sha256(data, start, end, companion) + data[end:]


def check_embedded_digest(data: bytes, pattern: re.Pattern[bytes], companion: bytes = b"") -> bool:
    """Return whether a file is what `fill_embedded_digest` returned.

    Args:
        data, pattern, companion: See `fill_embedded_digest`.

    Raises:
        ValueError: If the file has no digest, or several.
    """
    start, end = _place(data, pattern)
    return _sha256(data, start, end, companion) == data[start:end]


def _place(data: bytes, pattern: re.Pattern[bytes]) -> tuple[int, int]:
    found = list(pattern.finditer(data))
    if len(found) != 1:
        raise ValueError(f"expected one digest, found {len(found)}")
    return found[0].span(1)


def _sha256(data: bytes, start: int, end: int, companion: bytes) -> bytes:
    sha256 = hashlib.sha256(data[:start])
    for part in (NO_DIGEST.encode(), data[end:], companion):
        sha256.update(part)
    return sha256.hexdigest().encode()
