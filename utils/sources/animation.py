"""Images of several frames: animated GIF, WebP and PNG, and TIFF files of several pages."""

import io
import logging
import math
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np

from graftdet.utils.files import regular_file
from graftdet.utils.images.header import MAX_PIXELS, parse_header
from graftdet.utils.images.io import UnreadableImage, read_bytes, refuse_large, silence_opencv, to_bgr8
from graftdet.utils.untrusted.limits import limit

logger = logging.getLogger(__name__)
ANIMATION_SUFFIXES = frozenset((".gif", ".webp", ".png", ".apng", ".tif", ".tiff"))
DEFAULT_MILLISECONDS = 100  # of a frame that declares less than 20 ms, as browsers show it
PAGE_MILLISECONDS = 1000  # of a page of a TIFF file
MAX_FPS = 50.0
MAX_PAGES = 5000  # of a TIFF file
_CHUNK_BYTES = 2**28  # of frames that are decoded at once


def frame_durations(path: str | Path) -> list[int]:
    """Milliseconds for which each frame of an animation is shown; an empty list for an image of a single frame.

    Reads the structure of the file only. Files that are malformed or cannot be opened count as single images, whose
    reader reports what is wrong.
    """
    try:
        with open(path, "rb", opener=regular_file) as file:
            start = file.read(12)
            file.seek(0)
            for magic, parse in _PARSERS:
                if start.startswith(magic):
                    durations = parse(file)
                    return durations if len(durations) > 1 else []
    except (OSError, ValueError, struct.error, IndexError):
        pass
    return []


def lacks_pages(path: str | Path) -> bool:
    """Whether a TIFF file names a page that is beyond its end; `frame_durations` has the pages before it."""
    try:
        with open(path, "rb", opener=regular_file) as file:
            return file.read(4) in (b"II*\0", b"MM\0*") and file.seek(0) == 0 and not _tiff_pages(file)[1]
    except (OSError, ValueError, struct.error):
        return False


def report_missing_frames(path: str | Path) -> None:
    """Warn that a file ends before its last frame or page."""
    logger.warning("%s: is truncated; frames or pages at its end are missing", path)


def frame_rate_of(durations: list[int]) -> float:
    """The frames per second at which every duration [ms] is a whole number of frames, at most `MAX_FPS`."""
    return min(1000 / math.gcd(*durations), MAX_FPS)


def read_animation(path: str | Path, count: int, depth: int = 16) -> Iterator[np.ndarray]:
    """Yield the frames (H, W, 3) BGR uint8 of an animation.

    Args:
        path: the file.
        count: number of its frames.
        depth: bits that pages of 16 bits use.

    Raises:
        UnreadableImage: The file cannot be decoded, or neither the installed OpenCV nor Pillow reads its frames.
    """
    data = read_bytes(path)
    header = parse_header(io.BytesIO(data))
    refuse_large(path, header)
    silence_opencv()
    if header is None:
        raise UnreadableImage(path, "is a malformed animation")
    area = header.width * header.height
    if header.format == "tiff":
        _refuse_large_pages(path, data)
        frames = _pages(data, depth)
    elif area > limit(MAX_PIXELS) // 4:  # decoders hold several frames
        raise UnreadableImage(path, f"is an animation of {header.width}x{header.height} pixels, more than the limit")
    elif hasattr(cv2, "imdecodeanimation"):
        frames = _decode_in_chunks(data, count, max(_CHUNK_BYTES // (4 * area), 1))
    else:
        frames = _with_pillow(data, path)
    number = 0
    for image in frames:
        number += 1
        yield to_bgr8(image, depth)
    if not number:
        raise UnreadableImage(path, "is a malformed animation")
    if number < count or lacks_pages(path):
        report_missing_frames(path)


def _decode_in_chunks(data: bytes, count: int, size: int) -> Iterator[np.ndarray]:
    buffer = np.frombuffer(data, np.uint8)
    for start in range(0, count, size):
        try:
            good, animation = cv2.imdecodeanimation(buffer, start, size)
        except cv2.error:
            return
        if not good or not animation.frames:
            return
        yield from animation.frames


def _refuse_large_pages(path: str | Path, data: bytes) -> None:
    """Raise `UnreadableImage` for a page that is too large; each has a size of its own. All are decoded together."""
    pages = _tiff_pages(io.BytesIO(data))[0]
    if len(pages) > MAX_PAGES:
        raise UnreadableImage(path, f"has {len(pages)} pages, more than the limit of {MAX_PAGES}; split it into images")
    if any(page.pixels > MAX_PIXELS for page in pages) or sum(page.pixels for page in pages) > 2 * MAX_PIXELS:
        raise UnreadableImage(path, f"has pages of {sum(page.pixels for page in pages)} pixels; split it into images")


def _pages(data: bytes, depth: int) -> Iterator[np.ndarray]:
    """The pages of a TIFF file. Smaller copies of a page and masks, which some programs add, are skipped."""
    buffer = np.frombuffer(data, np.uint8)
    try:
        pages = _decode_pages(buffer, cv2.IMREAD_COLOR)
        if not pages:  # such as floats, which cannot be read as color
            pages = _decode_pages(buffer, cv2.IMREAD_UNCHANGED)
        elif depth < 16:
            unchanged = _decode_pages(buffer, cv2.IMREAD_UNCHANGED)
            pages = [raw if raw.dtype == np.uint16 else page for raw, page in zip(unchanged, pages, strict=True)]
    except cv2.error:
        return
    declared, _ = _tiff_pages(io.BytesIO(data))
    for index, page in enumerate(pages):
        if index >= len(declared) or not declared[index].is_extra:
            yield page


def _decode_pages(buffer: np.ndarray, flags: int) -> Sequence[np.ndarray]:
    """All pages; where they cannot be decoded together, those before the first that cannot be decoded."""
    good, pages = cv2.imdecodemulti(buffer, flags)
    if good:
        return pages
    decoded: list[np.ndarray] = []
    while True:
        good, pages = cv2.imdecodemulti(buffer, flags, range=(len(decoded), len(decoded) + 1))
        if not good or not pages:
            return decoded
        decoded += pages


def _with_pillow(data: bytes, path: str | Path) -> Iterator[np.ndarray]:
    try:
        from PIL import Image, ImageSequence
    except ImportError:
        raise UnreadableImage(
            path,
            "is an animation, which needs OpenCV 4.11 or Pillow; install it with \"pip install 'graftdet[images]'\"",
        ) from None
    with Image.open(io.BytesIO(data)) as image:
        for frame in ImageSequence.Iterator(image):
            yield np.ascontiguousarray(np.asarray(frame.convert("RGB"))[..., ::-1])


def _read(stream: BinaryIO, layout: str) -> tuple:
    return struct.unpack(layout, stream.read(struct.calcsize(layout)))


def _shown(milliseconds: int) -> int:
    return milliseconds if milliseconds >= 20 else DEFAULT_MILLISECONDS


def _gif(stream: BinaryIO) -> list[int]:
    """The blocks of a GIF file (GIF89a specification, sections 18 to 26)."""
    stream.seek(10)
    flags, _ = _read(stream, "<B2s")
    stream.seek(13 + (3 << (flags & 7) + 1 if flags & 0x80 else 0))
    durations, delay = [], 0
    while (kind := stream.read(1)) in (b"!", b","):
        if kind == b"!":
            label = stream.read(1)
            if label == b"\xf9":  # graphic control: of the image that follows
                _, _, hundredths, _ = _read(stream, "<BBHB")
                delay = 10 * hundredths
        else:
            durations.append(_shown(delay))
            delay = 0
            _, flags = _read(stream, "<8sB")
            stream.seek((3 << (flags & 7) + 1 if flags & 0x80 else 0) + 1, io.SEEK_CUR)
        while (length := stream.read(1)) not in (b"", b"\0"):
            stream.seek(length[0], io.SEEK_CUR)
    return durations


def _webp(stream: BinaryIO) -> list[int]:
    """The frames (chunks ANMF) of a WebP file (RFC 9649, section 2.7)."""
    stream.seek(12)
    durations = []
    while len(head := stream.read(8)) == 8:
        kind, length = struct.unpack("<4sI", head)
        end = stream.tell() + length + (length & 1)
        if kind == b"ANMF":
            durations.append(_shown(int.from_bytes(stream.read(15)[12:15], "little")))
        stream.seek(end)
    return durations


def _png(stream: BinaryIO) -> list[int]:
    """The frame controls (chunks fcTL) of an animated PNG file (PNG specification, third edition, section 11.3.6)."""
    stream.seek(8)
    durations, animated = [], False
    while len(head := stream.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        end = stream.tell() + length + 4
        if kind == b"IDAT" and not animated:
            return []
        animated = animated or kind == b"acTL"  # before the first image
        if kind == b"fcTL":
            numerator, denominator = struct.unpack(">HH", stream.read(length)[20:24])
            durations.append(_shown(round(1000 * numerator / (denominator or 100))))
        stream.seek(end)
    return durations


def _tiff(stream: BinaryIO) -> list[int]:
    return [PAGE_MILLISECONDS] * sum(not page.is_extra for page in _tiff_pages(stream)[0])


@dataclass(frozen=True)
class _Page:
    """A page of a TIFF file: its tag NewSubfileType (TIFF 6.0, section 8) and its number of pixels."""

    kind: int
    pixels: int

    @property
    def is_extra(self) -> bool:
        """Whether it is a smaller copy of another page (bit 0) or a mask (bit 2)."""
        return bool(self.kind & 5)


def _tiff_pages(stream: BinaryIO) -> tuple[list[_Page], bool]:
    """The pages, and whether all of them are there."""
    order = {b"II": "<", b"MM": ">"}[stream.read(2)]
    _, offset = _read(stream, order + "HI")
    pages: list[_Page] = []
    seen = set()
    while offset and offset not in seen:
        seen.add(offset)
        stream.seek(offset)
        try:
            (count,) = _read(stream, order + "H")
            entries = stream.read(12 * count)
            (offset,) = _read(stream, order + "I")
        except struct.error:
            return pages, False
        tags = {
            tag: struct.unpack(order + ("H2x" if kind == 3 else "I"), value)[0]
            for tag, kind, _, value in struct.iter_unpack(order + "HHI4s", entries)
        }
        pages.append(_Page(tags.get(254, 0), tags.get(256, 0) * tags.get(257, 0)))
    return pages, True


_PARSERS = (
    (b"GIF8", _gif),
    (b"RIFF", _webp),
    (b"\x89PNG\r\n\x1a\n", _png),
    (b"II*\0", _tiff),
    (b"MM\0*", _tiff),
)
