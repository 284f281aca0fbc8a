"""Size and format of an image from its first bytes, without decoding: every format that OpenCV decodes."""

import io
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO

from graftdet.utils.images import rare_headers
from graftdet.utils.images.rare_headers import DeclaredSize
from graftdet.utils.untrusted.limits import limit

MAX_PIXELS = 2**27  # 11585 x 11585; larger images are refused before memory is allocated
MAX_SCANS = 100  # of a JPEG file; progressive ones have about ten, and each one costs a pass over the whole image


@dataclass(frozen=True)
class ImageHeader:
    """What an image file declares; `width` and `height` are as stored, before the EXIF `orientation` (1..8)."""

    width: int
    height: int
    orientation: int = 1
    channels: int = 3
    bits: int = 8
    format: str = ""
    is_lab: bool = False  # CIELAB colors, which OpenCV converts to others

    @property
    def upright_size(self) -> tuple[int, int]:
        """(width, height) of the image after its EXIF orientation is applied."""
        return (self.height, self.width) if self.orientation >= 5 else (self.width, self.height)

    @property
    def max_pixels(self) -> int:
        """The most pixels that an image of this kind may have; decoders of some formats use 32 bits per value."""
        if self.bits > 16 or self.format == "jp2":
            return limit(MAX_PIXELS) // 4
        return limit(MAX_PIXELS) // 2 if self.bits == 16 else limit(MAX_PIXELS)

    @property
    def is_too_large(self) -> bool:
        """Whether the image has more pixels than `max_pixels`."""
        return self.width * self.height > self.max_pixels


def parse_header(stream: BinaryIO) -> ImageHeader | None:
    """Read the header of an image file.

    Args:
        stream: Seekable, at position 0.

    Returns:
        The header, or None if the format is unknown or the header is malformed.
    """
    start = stream.read(32)
    for magic, parse in _PARSERS:
        if start.startswith(magic):
            stream.seek(0)
            try:
                header = parse(stream)
            except (struct.error, IndexError, ValueError, OverflowError):
                return None
            return header if header and header.width > 0 and header.height > 0 else None
    return None


def _read(stream: BinaryIO, layout: str) -> tuple:
    return struct.unpack(layout, stream.read(struct.calcsize(layout)))


def _orientation(order: int) -> int:
    return order if 1 <= order <= 8 else 1


def _jpeg(stream: BinaryIO) -> ImageHeader | None:
    """Read the segments: APP1 holds the EXIF orientation, SOFn the size (ITU T.81, B.1)."""
    orientation = 1
    stream.seek(2)
    while True:
        byte = stream.read(1)
        while byte and byte != b"\xff":  # stray bytes between segments are allowed by every decoder
            byte = stream.read(1)
        while byte == b"\xff":
            byte = stream.read(1)
        if not byte:
            return None
        marker = byte[0]
        if marker in (0x00, 0x01) or 0xD0 <= marker <= 0xD8:  # markers without a length
            continue
        if marker in (0xD9, 0xDA):  # start of scan or end of image before any size
            return None
        (length,) = _read(stream, ">H")
        end = stream.tell() + length - 2
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            bits, height, width, channels = _read(stream, ">BHHB")
            return ImageHeader(width, height, orientation, channels, bits, "jpeg")
        if marker == 0xE1:
            payload = stream.read(max(length - 2, 0))
            if payload.startswith(b"Exif\0\0"):
                orientation = exif_orientation(payload[6:])
        stream.seek(end)


def _png(stream: BinaryIO) -> ImageHeader:
    stream.seek(16)
    width, height, bits, color = _read(stream, ">IIBB")
    channels = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}.get(color, 3)
    orientation, kind = 1, b""
    stream.seek(33)
    while kind not in (b"IDAT", b"IEND"):
        head = stream.read(8)
        if len(head) < 8:
            break
        length, kind = struct.unpack(">I4s", head)
        if kind == b"eXIf":
            orientation = exif_orientation(stream.read(min(length, 1 << 16)))
            break
        stream.seek(length + 4, 1)
    return ImageHeader(width, height, orientation, channels, 8 if color == 3 else bits, "png")


def _bmp(stream: BinaryIO) -> ImageHeader:
    stream.seek(14)
    (size,) = _read(stream, "<I")
    width, height, _, depth = _read(stream, "<HHHH" if size == 12 else "<iiHH")
    return ImageHeader(width, abs(height), 1, 4 if depth == 32 else 3, 8, "bmp")  # a negative height: rows from the top


def _gif(stream: BinaryIO) -> ImageHeader:
    stream.seek(6)
    width, height = _read(stream, "<HH")
    return ImageHeader(width, height, 1, 3, 8, "gif")


def _webp(stream: BinaryIO) -> ImageHeader | None:
    """The three kinds of first chunk of the WebP container (RFC 9649)."""
    start = stream.read(30)
    if start[8:12] != b"WEBP":
        return None
    kind = start[12:16]
    if kind == b"VP8 ":
        width, height = struct.unpack("<HH", start[26:30])
        return ImageHeader(width & 0x3FFF, height & 0x3FFF, 1, 3, 8, "webp")
    if kind == b"VP8L":
        (packed,) = struct.unpack("<I", start[21:25])
        return ImageHeader(
            (packed & 0x3FFF) + 1, (packed >> 14 & 0x3FFF) + 1, 1, 4 if packed >> 28 & 1 else 3, 8, "webp"
        )
    if kind != b"VP8X":
        return None
    flags = start[20]
    width = int.from_bytes(start[24:27], "little") + 1
    height = int.from_bytes(start[27:30], "little") + 1
    return ImageHeader(width, height, _webp_orientation(stream) if flags & 8 else 1, 4 if flags & 16 else 3, 8, "webp")


def _webp_orientation(stream: BinaryIO) -> int:
    stream.seek(30)
    while len(head := stream.read(8)) == 8:
        kind, length = struct.unpack("<4sI", head)
        if kind == b"EXIF":
            return exif_orientation(stream.read(min(length, 1 << 16)).removeprefix(b"Exif\0\0"))
        stream.seek(length + (length & 1), 1)
    return 1


def _tiff(stream: BinaryIO) -> ImageHeader:
    tags = _tiff_tags(stream, {256, 257, 258, 262, 274, 277})
    width, height, orientation = tags.get(256, 0), tags.get(257, 0), _orientation(tags.get(274, 1))
    is_lab = tags.get(262) in (8, 9, 10)  # CIELAB, ICCLAB, ITULAB
    return ImageHeader(width, height, orientation, tags.get(277, 1), tags.get(258, 1), "tiff", is_lab)


def _tiff_tags(stream: BinaryIO, wanted: set[int]) -> dict[int, int]:
    """First value of each wanted tag in the first directory of a TIFF file (TIFF 6.0, section 2)."""
    base = stream.tell()
    order = {b"II": "<", b"MM": ">"}.get(stream.read(2))
    if order is None:
        return {}
    _, offset = _read(stream, order + "HI")
    stream.seek(base + offset)
    (count,) = _read(stream, order + "H")
    entries = stream.read(12 * count)
    tags = {}
    for tag, kind, number, raw in struct.iter_unpack(order + "HHI4s", entries[: len(entries) // 12 * 12]):
        if tag not in wanted or kind not in (3, 4):
            continue
        letter, width = ("H", 2) if kind == 3 else ("I", 4)
        if number * width > 4:  # the values are stored at this offset
            stream.seek(base + struct.unpack(order + "I", raw)[0])
            tags[tag] = _read(stream, order + letter)[0]
        else:
            tags[tag] = struct.unpack(order + letter, raw[:width])[0]
    return tags


def exif_orientation(block: bytes) -> int:
    """Return the orientation 1..8 in an EXIF block (a small TIFF file); 1 if it has none or is malformed."""
    try:
        return _orientation(_tiff_tags(io.BytesIO(block), {274}).get(274, 1))
    except (struct.error, ValueError):
        return 1


def _pnm(stream: BinaryIO) -> ImageHeader:
    """Magic number, width, height and largest value, with comments between them (netpbm)."""
    text = b" ".join(line.partition(b"#")[0] for line in stream.read(1 << 16).splitlines())
    magic, width, height, *rest = text.split()[:4]
    largest = 1 if magic in (b"P1", b"P4") else int(rest[0])
    channels = 3 if magic in (b"P3", b"P6") else 1
    return ImageHeader(int(width), int(height), 1, channels, 16 if largest > 255 else 8, "pnm")


def _rare(parse: Callable[[BinaryIO], DeclaredSize | None], name: str) -> Callable[[BinaryIO], ImageHeader | None]:
    """A parser of `rare_headers`, whose formats have no orientation, for the table below."""

    def parse_rare(stream: BinaryIO) -> ImageHeader | None:
        size = parse(stream)
        return size and ImageHeader(size.width, size.height, 1, size.channels, size.bits, name)

    return parse_rare


def _big_tiff(stream: BinaryIO) -> ImageHeader | None:
    found = rare_headers.big_tiff(stream)
    if found is None:
        return None
    size, orientation = found
    return ImageHeader(size.width, size.height, _orientation(orientation), size.channels, size.bits, "tiff")


_jpeg2000 = _rare(rare_headers.jpeg2000, "jp2")
_radiance = _rare(rare_headers.radiance, "hdr")
_pfm = _rare(rare_headers.portable_float_map, "pfm")
_PARSERS: tuple[tuple[bytes, Callable[[BinaryIO], ImageHeader | None]], ...] = (
    (b"\xff\xd8", _jpeg),
    (b"\x89PNG\r\n\x1a\n", _png),
    (b"BM", _bmp),
    (b"GIF8", _gif),
    (b"RIFF", _webp),
    (b"II*\0", _tiff),
    (b"MM\0*", _tiff),
    *((b"P%d" % number, _pnm) for number in range(1, 7)),
    (b"II+\0", _big_tiff),
    (b"MM\0+", _big_tiff),
    (b"\0\0\0\x0cjP  \r\n\x87\n", _jpeg2000),
    (b"\xff\x4f\xff\x51", _jpeg2000),
    (b"#?RADIANCE", _radiance),
    (b"#?RGBE", _radiance),
    (b"PF", _pfm),
    (b"Pf", _pfm),
    (b"P7", _rare(rare_headers.portable_arbitrary_map, "pam")),
    (b"\x59\xa6\x6a\x95", _rare(rare_headers.sun_raster, "sun raster")),
    (b"\x76\x2f\x31\x01", _rare(rare_headers.open_exr, "exr")),
    *((bytes((0, 0, 0, size)) + b"ftyp", _rare(rare_headers.avif, "avif")) for size in range(16, 64, 4)),
)
