"""File names in text files. On Linux a name is bytes that need not be UTF-8, which JSON, CSV, XML and YAML must be."""

import re

_SURROGATE = re.compile("[\ud800-\udfff]")  # what Python makes of such bytes, and what JSON may hold by an escape


def valid_utf8(text: str) -> str:
    """`text` with each byte that is not UTF-8 percent-encoded: the name b'caf\\xe9.jpg' becomes 'caf%E9.jpg'.

    Everything that is written about a file whose name is not UTF-8, and every file named after it, has that form.
    """
    return _SURROGATE.sub(_percent_encoded, text)


def _percent_encoded(match: re.Match) -> str:
    code = ord(match[0])
    data = bytes([code - 0xDC00]) if 0xDC80 <= code <= 0xDCFF else match[0].encode("utf-8", "surrogatepass")
    return "".join(f"%{byte:02X}" for byte in data)
