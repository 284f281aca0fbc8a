"""Sizes in the headers of rarer image formats, each of which OpenCV decodes: read before memory is allocated.

JPEG 2000, AVIF, BigTIFF, Radiance HDR, PFM, PAM, Sun raster, OpenEXR. A header that states several sizes counts with
the largest one: decoders disagree about which of them is valid.
"""

import re
import struct
from typing import BinaryIO, NamedTuple

_TEXT_BYTES = 1 << 16  # of a header in text
_BOX_BYTES = 1 << 20  # of the boxes of an AVIF file before its image
_FLOAT_BITS = 32


class DeclaredSize(NamedTuple):
    """What a header declares; the fields are those of `graftdet.utils.images.header.ImageHeader`."""

    width: int
    height: int
    channels: int
    bits: int


def jpeg2000(stream: BinaryIO) -> DeclaredSize | None:
    """The marker SIZ of the codestream (ITU T.800, A.5.1), which lies in the box jp2c of a JP2 file (I.4)."""
    start = stream.read(12)
    if not start.startswith(_CODESTREAM):
        stream.seek(0)
        while True:
            (length, kind), header = _read(stream, ">I4s"), 8
            if kind == b"jp2c":
                stream.seek(8 if length == 1 else 0, 1)
                break
            if length == 1:
                (length,), header = _read(stream, ">Q"), 16
            if length < header:
                return None
            stream.seek(length - header, 1)
        start = stream.read(4)
        if start != _CODESTREAM:
            return None
    else:
        stream.seek(4)
    _, _, x1, y1, x0, y0, *_, channels, bits = _read(stream, ">HHIIIIIIIIHB")
    return DeclaredSize(x1 - x0, y1 - y0, channels, 16 if bits & 0x7F >= 8 else 8)


def avif(stream: BinaryIO) -> DeclaredSize | None:
    """The largest of the boxes ispe (ISO/IEC 23008-12, 6.5.3), which give the sizes of the images in the file."""
    data = stream.read(_BOX_BYTES)
    if data[8:12] not in (b"avif", b"avis") and b"avif" not in data[16:64]:
        return None
    sizes = [struct.unpack(">II", match[1]) for match in re.finditer(rb"ispe\0{4}(.{8})", data, re.DOTALL)]
    if not sizes:
        return None
    width, height = max(sizes, key=lambda size: size[0] * size[1])
    depths = re.search(rb"pixi\0{4}.(.)", data, re.DOTALL)
    return DeclaredSize(width, height, 3, 16 if depths and depths[1][0] > 8 else 8)


def big_tiff(stream: BinaryIO) -> tuple[DeclaredSize, int] | None:
    """The size and the orientation in the first directory of a TIFF file with offsets of 64 bits."""
    order = "<" if stream.read(2) == b"II" else ">"
    _, _, _, offset = _read(stream, order + "HHHQ")
    stream.seek(offset)
    (count,) = _read(stream, order + "Q")
    tags: dict[int, int] = {}
    for _ in range(min(count, 1 << 16)):
        tag, kind, number, raw = _read(stream, order + "HHQ8s")
        letter = {3: "H", 4: "I", 16: "Q"}.get(kind)
        if letter and tag in (256, 257, 258, 274, 277):
            if number * struct.calcsize(letter) > 8:  # the values are stored at this offset
                position = stream.tell()
                stream.seek(struct.unpack(order + "Q", raw)[0])
                tags[tag] = _read(stream, order + letter)[0]
                stream.seek(position)
            else:
                tags[tag] = struct.unpack(order + letter, raw[: struct.calcsize(letter)])[0]
    size = DeclaredSize(tags.get(256, 0), tags.get(257, 0), tags.get(277, 1), tags.get(258, 1))
    return size, tags.get(274, 1)


def radiance(stream: BinaryIO) -> DeclaredSize | None:
    """The line of the resolution, such as `-Y 480 +X 640`, after the header of a Radiance file."""
    sizes = re.findall(rb"-Y\s*(\d{1,10})\s*\+X\s*(\d{1,10})", stream.read(_TEXT_BYTES))
    if not sizes:
        return None
    height, width = max(((int(height), int(width)) for height, width in sizes), key=lambda size: size[0] * size[1])
    return DeclaredSize(width, height, 3, _FLOAT_BITS)


def portable_float_map(stream: BinaryIO) -> DeclaredSize:
    """Magic number, width and height of a PFM file."""
    magic, width, height = stream.read(_TEXT_BYTES).split(None, 3)[:3]
    return DeclaredSize(int(width), int(height), 3 if magic == b"PF" else 1, _FLOAT_BITS)


def portable_arbitrary_map(stream: BinaryIO) -> DeclaredSize:
    """The lines WIDTH, HEIGHT, DEPTH and MAXVAL of a PAM file (netpbm)."""
    text = stream.read(_TEXT_BYTES).partition(b"ENDHDR")[0]
    width, height, channels, largest = (
        max(int(number) for number in re.findall(rb"^%s\s+(\d{1,10})" % key, text, re.MULTILINE))
        for key in (b"WIDTH", b"HEIGHT", b"DEPTH", b"MAXVAL")
    )
    return DeclaredSize(width, height, channels, 16 if largest > 255 else 8)


def sun_raster(stream: BinaryIO) -> DeclaredSize:
    """Width, height and bits per pixel after the magic number of a Sun raster file."""
    _, width, height, depth = _read(stream, ">IIII")
    return DeclaredSize(width, height, 4 if depth == 32 else 3, 8)


def open_exr(stream: BinaryIO) -> DeclaredSize | None:
    """The attribute dataWindow of an OpenEXR file."""
    windows = re.findall(rb"dataWindow\0box2i\0.{4}(.{16})", stream.read(_TEXT_BYTES), re.DOTALL)
    if not windows:
        return None
    sizes = [(right - left + 1, lower - upper + 1) for left, upper, right, lower in (_box(w) for w in windows)]
    width, height = max(sizes, key=lambda size: size[0] * size[1])
    return DeclaredSize(width, height, 4, _FLOAT_BITS)


def _box(window: bytes) -> tuple[int, int, int, int]:
    return struct.unpack("<iiii", window)


def _read(stream: BinaryIO, layout: str) -> tuple:
    return struct.unpack(layout, stream.read(struct.calcsize(layout)))


_CODESTREAM = b"\xff\x4f\xff\x51"
