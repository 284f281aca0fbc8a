"""Text that is not UTF-8: names of files, which on Linux may be any bytes, and the content of YAML files."""

import codecs
import itertools
import re
from collections.abc import Sequence
from pathlib import PurePath

from graftdet.utils.errors import UserError

_SURROGATE = re.compile("[\ud800-\udfff]")  # how Python decodes such bytes; also possible in JSON as an escape


def valid_utf8(text: str) -> str:
    r"""Return `text` with each byte that is not UTF-8 percent-encoded: the name b'caf\xe9.jpg' becomes 'caf%E9.jpg'.

    Used for everything that is written about files, and for names of output files.
    """
    return _SURROGATE.sub(_percent_encoded, text)


_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")  # not tab and newline


def printable(text: str) -> str:
    r"""Return `text` for a terminal: control characters, also those that reverse the order of letters, as escapes.

    Names of classes and files may come from strangers, and terminals execute escape sequences: `\x1b[2J` clears the
    screen. Bytes that are not UTF-8 are percent-encoded, see `valid_utf8`.
    """
    return _CONTROL.sub(lambda match: ascii(match[0])[1:-1], valid_utf8(text))


def counted(number: int, noun: str) -> str:
    """Return a count with its noun: `1 image`, `1,200 images`, `2 boxes`, `3 categories`."""
    if number == 1:
        return f"1 {noun}"
    plural = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}es" if noun.endswith(("s", "x")) else f"{noun}s"
    return f"{number:,} {plural}"


_PLURALS = re.compile(
    r"\b(?:annotations|boxes|categories|classes|entries|files|images|ids|kinds|lines|objects|regions|rows|splits)\b"
)


def counted_phrase(number: int, phrase: str) -> str:
    """Return a count with a phrase whose first plural noun is counted: `1 label file without an image`.

    Args:
        number: the count.
        phrase: with a noun of `_PLURALS`, and no verb that depends on the number.
    """
    if number != 1:
        return f"{number:,} {phrase}"
    return "1 " + _PLURALS.sub(lambda match: _SINGULARS.get(match[0], match[0][:-1]), phrase, count=1)


_SINGULARS = {"boxes": "box", "categories": "category", "classes": "class", "entries": "entry"}


def _percent_encoded(match: re.Match) -> str:
    code = ord(match[0])
    data = bytes([code - 0xDC00]) if 0xDC80 <= code <= 0xDCFF else match[0].encode("utf-8", "surrogatepass")
    return "".join(f"%{byte:02X}" for byte in data)


_BYTE_ORDER_MARKS = (  # the first one of UTF-16 is the start of that of UTF-32
    (codecs.BOM_UTF32_LE, "UTF-32"),
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
    (codecs.BOM_UTF8, "UTF-8-sig"),
)
_COMMON = {  # encoding -> ranges of the first and of the second byte of its common characters
    "GBK": (((0xB0, 0xD7), (0xA1, 0xFE)),),  # level 1 of GB 2312
    "Shift-JIS": (((0x82, 0x82), (0x9F, 0xF1)), ((0x83, 0x83), (0x40, 0x96)), ((0x88, 0x98), (0x40, 0xFC))),
    "Big5": (((0xA4, 0xC6), (0x40, 0xFE)),),  # level 1
    "EUC-KR": (((0xB0, 0xC8), (0xA1, 0xFE)),),  # Hangul
}
_SYMBOLS = {
    "GBK": (0xA1, 0xA3),
    "Shift-JIS": (0x81, 0x81),
    "Big5": (0xA1, 0xA3),
    "EUC-KR": (0xA1, 0xA3),
}  # first bytes of punctuation


def comment_start(line: bytes) -> int:
    """Return the position of the comment in a line of YAML; the length of the line if it has none."""
    quote = 0
    for index, byte in enumerate(line):
        if quote:
            quote = 0 if byte == quote else quote
        elif byte in b"\"'" and (index == 0 or line[index - 1] in b" \t[{,:"):
            quote = byte
        elif byte == ord("#") and (index == 0 or line[index - 1] in b" \t"):
            return index
    return len(line)


def marked_encoding(data: bytes) -> str:
    """Return the encoding whose byte order mark the data start with, such as UTF-16; empty without a mark."""
    return next((name for mark, name in _BYTE_ORDER_MARKS if data.startswith(mark)), "")


def decode_unicode(data: bytes, where: str, comments: bool = True) -> str:
    """Decode a text file in UTF-8, or in UTF-16 or UTF-32 with a byte order mark, as Windows' Notepad writes them.

    Args:
        data: the content.
        where: name of the file, for messages.
        comments: the text has comments as YAML. In comments, bytes that are not UTF-8 are replaced; anywhere else they
            are an error.

    Raises:
        UserError: if it is in another encoding; names the likely one and how to convert the file.
    """
    encoding = marked_encoding(data) or "UTF-8"
    if encoding in ("UTF-16", "UTF-32"):
        try:
            return data.decode(encoding)
        except UnicodeDecodeError:
            raise UserError(f"{where}: starts as {encoding}, but is malformed; save it as UTF-8 in an editor") from None
    if b"\0" in data and (half := _utf16_without_mark(data)):
        raise UserError(f"{where}: is encoded in {half}, expected UTF-8; {_conversion(half, where)}")
    if b"\0" in data and comments:
        raise UserError(f"{where}: not a text file, expected YAML")
    for number, line in enumerate(data.split(b"\n") if not _is_utf8(data) else (), 1):
        content = (line[: comment_start(line)] if comments else line).strip()
        if not _is_utf8(content):
            encodings = likely_encodings(data)
            readings = [f"{encoding} ({content.decode(encoding, 'ignore'):.80})" for encoding in encodings]
            reason = f"not UTF-8, likely {' or '.join(readings)}"
            raise UserError(f"{where}:{number}: {reason}; {_conversion(encodings[0], where)}")
    return data.decode("utf-8-sig", errors="replace")


def _utf16_without_mark(data: bytes) -> str:
    """UTF-16LE or UTF-16BE if the first line has a zero in every second byte; empty otherwise."""
    head = data[:16]
    if len(head) < 4 or all(head[::2]) == all(head[1::2]):
        return ""
    return "UTF-16LE" if not any(head[1::2]) else "UTF-16BE" if not any(head[::2]) else ""


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _conversion(encoding: str, where: str) -> str:
    suffix = PurePath(where).suffix or ".yaml"
    return f"save it as UTF-8 in an editor, or run: iconv -f {encoding.upper()} -t UTF-8 {where} > converted{suffix}"


def likely_encodings(data: bytes) -> list[str]:
    """Guess the encoding of text that is not UTF-8.

    Isolated letters beyond ASCII are accents. Otherwise a multi-byte encoding is rated by how many of the characters
    beyond ASCII are common ones in it. What is common in none consists of single bytes: Windows-1251 if they form whole
    words, as Cyrillic letters do, else Latin-1.

    Args:
        data: bytes of the text, some of them above 127.

    Returns:
        The most likely of GBK, Shift-JIS, Big5, EUC-KR, Windows-1251, Windows-1252 and Latin-1; several if they are
        equally likely.
    """
    high = [byte for byte in data if byte > 127]
    pairs = sum(first >= 0xC0 and second >= 0xC0 for first, second in itertools.pairwise(data))
    if not any(first > 127 < second for first, second in itertools.pairwise(data)) and min(high) >= 0xC0:
        return ["Latin-1"]
    ratings = {name: _rate(data, name) for name in _COMMON}
    best = max(ratings.values())
    if best >= 0.5:
        return [name for name, rating in ratings.items() if rating == best]
    return ["Windows-1251"] if 2 * pairs > len(high) else [_single_byte(high)]


def _single_byte(high: Sequence[int]) -> str:
    """The encoding of western languages; Latin-1 has no letters from 128 to 159."""
    return "Windows-1252" if min(high) < 0xA0 else "Latin-1"


def _rate(data: bytes, encoding: str) -> float:
    """The fraction of the characters beyond ASCII that are common ones, from 0 to 1; 0 if `data` cannot be decoded."""
    try:
        characters = [character.encode(encoding) for character in data.decode(encoding) if not character.isascii()]
    except UnicodeError:
        return 0.0
    first_symbol, last_symbol = _SYMBOLS[encoding]  # punctuation is no evidence
    words = [pair for pair in characters if not first_symbol <= pair[0] <= last_symbol]
    common = [pair for pair in words if len(pair) == 2 and _is_common(pair, encoding)]
    return len(common) / len(words) if words else 0.0


def _is_common(pair: bytes, encoding: str) -> bool:
    return any(low <= pair[0] <= high and start <= pair[1] <= end for (low, high), (start, end) in _COMMON[encoding])
