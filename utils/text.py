"""File names in text files. On Linux a file name may not be UTF-8, which JSON, CSV, XML and YAML must be."""

import re

_SURROGATE = re.compile("[\ud800-\udfff]")  # how Python decodes such bytes; also possible in JSON as an escape


def valid_utf8(text: str) -> str:
    r"""Return `text` with each byte that is not UTF-8 percent-encoded: the name b'caf\xe9.jpg' becomes 'caf%E9.jpg'.

    Used for everything that is written about files, and for names of output files.
    """
    return _SURROGATE.sub(_percent_encoded, text)


def _percent_encoded(match: re.Match) -> str:
    code = ord(match[0])
    data = bytes([code - 0xDC00]) if 0xDC80 <= code <= 0xDCFF else match[0].encode("utf-8", "surrogatepass")
    return "".join(f"%{byte:02X}" for byte in data)
