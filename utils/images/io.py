"""Read and write image files as BGR uint8 arrays. OpenCV only, no torch.

Files are read by Python and decoded from memory, because OpenCV's own reader fails on non-ASCII paths on Windows.
"""

import io
import os
from pathlib import Path

import cv2
import numpy as np

from graftdet.utils.errors import UserError
from graftdet.utils.files import LFS_POINTER, is_lfs_pointer, regular_file, write_atomically
from graftdet.utils.images.header import MAX_PIXELS, MAX_SCANS, ImageHeader, parse_header
from graftdet.utils.images.optional_formats import decode_with_pillow, read_pillow_header, requirement
from graftdet.utils.untrusted.limits import limit

OPTIONAL_SUFFIXES = frozenset(".heic .heif .hif .jxl".split())  # read by Pillow with its plugins
IMAGE_SUFFIXES = OPTIONAL_SUFFIXES.union(
    ".jpg .jpeg .jpe .jfif .png .bmp .dib .webp .tif .tiff .gif .jp2 .avif .pbm .pgm .ppm .pnm .mpo".split()
)
RARE_SUFFIXES = frozenset(  # of images that Pillow reads, or nothing here: named where they are skipped
    ".psd .tga .pcx .sgi .dds .ico .qoi .svg .exr .hdr .jxr .dcm .dng .cr2 .cr3 .nef .arw .raf .rw2 .orf".split()
)
VIDEO_SUFFIXES = frozenset(
    ".mp4 .avi .mov .mkv .m4v .mpg .mpeg .mpe .m2v .webm .wmv .ts .mts .m2ts .vob .ogv .flv .f4v .3gp .3g2 .mjpeg"
    " .mjpg .asf .h264 .264 .h265 .265 .hevc .mxf .rm .divx".split()
)
MAX_BYTES = 2**30  # of an image file, which is read as a whole
_EITHER = frozenset(("avif", "jp2"))  # formats that some versions of OpenCV lack, and Pillow may have
_ROWS_BYTES = 2**26  # of values of 32 bits that are converted at once

_ROTATIONS = {3: cv2.ROTATE_180, 6: cv2.ROTATE_90_CLOCKWISE, 8: cv2.ROTATE_90_COUNTERCLOCKWISE}


class UnreadableImage(UserError):
    """A file that is missing, not an image, or truncated. The message is path and reason."""

    def __init__(self, path: str | Path, reason: str):
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason

    def __reduce__(self) -> tuple:  # sent from a loader's worker to its parent
        return type(self), (self.path, self.reason)


def read_image(path: str | Path, apply_exif: bool = True, depth: int = 16) -> np.ndarray:
    """Read an image file of any kind: gray, with alpha (dropped), CMYK, 16 bits (scaled to 8), HEIC with Pillow.

    Args:
        path: Image file.
        apply_exif: Rotate the image as its EXIF orientation says.
        depth: Number of bits that 16-bit images use: 12 maps 0..4095 to 0..255.

    Returns:
        (H, W, 3) uint8 BGR.

    Raises:
        UnreadableImage: If the file is missing, empty, truncated, not an image, or larger than `MAX_PIXELS`.
    """
    return decode_image(read_bytes(path), path, apply_exif, depth)


def read_bytes(path: str | Path) -> bytes:
    """Return the content of a file. Raises `UnreadableImage`."""
    try:
        with open(path, "rb", opener=regular_file) as file:
            if (size := os.fstat(file.fileno()).st_size) > limit(MAX_BYTES):
                raise UnreadableImage(path, f"is {size} bytes, more than the limit of {limit(MAX_BYTES)}")
            return file.read()
    except FileNotFoundError:
        raise UnreadableImage(path, "no such file") from None
    except UnreadableImage:
        raise
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise UnreadableImage(path, f"cannot be read ({getattr(error, 'strerror', None) or error})") from None


def decode_image(data: bytes, path: str | Path, apply_exif: bool = True, depth: int = 16) -> np.ndarray:
    """Decode the content of an image file, as `read_image`; `path` appears in errors only."""
    if not data:
        raise UnreadableImage(path, "is empty")
    if is_lfs_pointer(data[:64]):
        raise UnreadableImage(path, LFS_POINTER)
    header = parse_header(io.BytesIO(data))
    refuse_large(path, header)
    if _lacks_end(data, header):
        raise UnreadableImage(path, "is truncated")
    if header and header.is_lab:
        raise UnreadableImage(path, "is a TIFF image of CIELAB colors, expected RGB; convert it")
    if header and header.format == "jpeg" and (scans := data.count(b"\xff\xda")) > MAX_SCANS:
        raise UnreadableImage(path, f"is a JPEG file of {scans} scans, more than {MAX_SCANS}")
    # what has no header that is known has no known size, and is not given to OpenCV
    image = _decode(data, depth if header.bits == 16 else 16) if header else None
    if image is None and (header is None or header.format in _EITHER):
        image = decode_with_pillow(data, header.max_pixels if header else MAX_PIXELS, apply_exif)
    if image is None:
        reason = requirement(data, path) if header is None or header.format == "avif" else ""
        reason = reason or (f"is a malformed {header.format} image" if header else "")
        raise UnreadableImage(path, reason or "is not an image that OpenCV can read")
    orientation = header.orientation if header else 1
    if header and header.format == "tiff":  # OpenCV's TIFF reader always applies the orientation
        return image if apply_exif else apply_orientation(image, {6: 8, 8: 6}.get(orientation, orientation))
    return apply_orientation(image, orientation) if apply_exif else image


def refuse_large(path: str | Path, header: ImageHeader | None) -> None:
    """Raise `UnreadableImage` if the image of this header is larger than its limit."""
    if header and header.is_too_large:
        size, limit = f"{header.width}x{header.height}", f"the limit of {header.max_pixels}"
        is_special = header.max_pixels < ImageHeader(1, 1).max_pixels
        kind = f" for images of format {header.format} with {header.bits} bits per value" if is_special else ""
        raise UnreadableImage(path, f"is {size} pixels, more than {limit}{kind}")


def sixteen_bit_range(data: bytes) -> tuple[int, int] | None:
    """Return the smallest and the largest value of a 16-bit image; None if it is of another kind.

    Args:
        data: The content of an image file.
    """
    header = parse_header(io.BytesIO(data))
    if header is None or header.bits != 16 or header.is_too_large:
        return None
    image = _imdecode(data, cv2.IMREAD_UNCHANGED)
    return None if image is None or image.dtype != np.uint16 else (int(image.min()), int(image.max()))


def unused_depth(largest: int) -> int | None:
    """Return the depth that fits 16-bit images, if their values use less than a quarter of the range.

    Args:
        largest: The largest value of the images.

    Returns:
        The number of bits, from 8; None if the range is used.
    """
    bits = max(largest.bit_length(), 8)
    return bits if bits <= 14 else None


def _decode(data: bytes, depth: int = 16) -> np.ndarray | None:
    try:
        image = _imdecode(data, cv2.IMREAD_UNCHANGED) if depth < 16 else None
        if image is None or image.dtype != np.uint16:
            image = _imdecode(data, cv2.IMREAD_COLOR)
        if image is None:  # such as a TIFF of floats, which cannot be read as color
            image = _imdecode(data, cv2.IMREAD_UNCHANGED)
        return None if image is None else to_bgr8(image, depth)
    except (cv2.error, MemoryError):
        return None


def _imdecode(data: bytes, flags: int) -> np.ndarray | None:
    silence_opencv()
    try:
        return cv2.imdecode(np.frombuffer(data, np.uint8), flags | cv2.IMREAD_IGNORE_ORIENTATION)
    except (cv2.error, MemoryError):
        return None


def to_bgr8(image: np.ndarray, depth: int = 16) -> np.ndarray:
    """(H, W) or (H, W, C) of any type -> (H, W, 3) uint8; 16-bit values use `depth` bits."""
    if image.dtype == np.uint16:
        image = scale_to_uint8(image, depth)
    elif image.dtype != np.uint8:
        image = _floats_to_uint8(image)
    if image.ndim == 2 or image.shape[2] <= 2:  # gray, perhaps with alpha
        return cv2.cvtColor(np.ascontiguousarray(image if image.ndim == 2 else image[..., 0]), cv2.COLOR_GRAY2BGR)
    return np.ascontiguousarray(image[..., :3])


def _floats_to_uint8(image: np.ndarray) -> np.ndarray:
    """(H, W, ...) of numbers in 0..1 or 0..255 -> uint8, a few rows at a time; what is not finite is 0."""
    result = np.empty(image.shape, np.uint8)
    rows = max(_ROWS_BYTES // max(image[:1].size * 4, 1), 1)
    parts = [slice(start, start + rows) for start in range(0, len(image), rows)]
    scale = 255 if all(_finite(image[part]).max(initial=0) <= 1 for part in parts) else 1
    for part in parts:
        result[part] = np.clip(_finite(image[part]) * scale + 0.5, 0, 255)
    return result


def _finite(values: np.ndarray) -> np.ndarray:
    return np.nan_to_num(values.astype(np.float32), posinf=0, neginf=0)


def scale_to_uint8(image: np.ndarray, depth: int) -> np.ndarray:
    """uint16 values that use `depth` bits (8 to 16) -> uint8 of the same shape; larger values are white."""
    result = np.empty(image.shape, np.uint8)
    rows = max(_ROWS_BYTES // max(image[:1].nbytes, 1), 1)
    for start in range(0, len(image), rows):
        result[start : start + rows] = np.minimum(image[start : start + rows] >> (depth - 8), 255)
    return result


def apply_orientation(image: np.ndarray, orientation: int) -> np.ndarray:
    """Rotate or flip a stored image (H, W, ...) as its EXIF orientation 1..8 says."""
    if orientation in (2, 4):
        return np.ascontiguousarray(image[:, ::-1] if orientation == 2 else image[::-1])
    if orientation in (5, 7):  # mirrored along a diagonal
        image = image if orientation == 5 else image[::-1, ::-1]
        return np.ascontiguousarray(image.swapaxes(0, 1))
    return cv2.rotate(image, _ROTATIONS[orientation]) if orientation in _ROTATIONS else image


def write_image(path: str | Path, image: np.ndarray) -> None:
    """Write an image file, completely or not at all.

    Args:
        path: Its suffix selects the format.
        image: (H, W, 3) BGR or (H, W) gray, uint8.

    Raises:
        UserError: If the format is unknown or the file cannot be written.
    """
    path = Path(path)
    try:
        encoded, data = cv2.imencode(path.suffix, np.ascontiguousarray(image))
    except cv2.error:
        encoded = False
    if not encoded:
        raise UserError(f"{path}: cannot write an image of this format; use .jpg or .png")
    write_atomically(path, data.tobytes())


def image_header(path: str | Path) -> ImageHeader:
    """Return size and format of an image file; decodes it only if neither `parse_header` nor Pillow knows the format.

    Raises:
        UnreadableImage: If the file is missing or not an image.
    """
    try:
        with open(path, "rb", opener=regular_file) as file:
            header = parse_header(file)
    except FileNotFoundError:
        raise UnreadableImage(path, "no such file") from None
    except (OSError, ValueError) as error:
        raise UnreadableImage(path, f"cannot be read ({getattr(error, 'strerror', None) or error})") from None
    header = header or read_pillow_header(read_bytes(path), path)
    if header:
        return header
    height, width = read_image(path).shape[:2]
    return ImageHeader(width, height, format=Path(path).suffix.lower().lstrip("."))


def is_truncated(path: str | Path) -> bool:
    """Return whether the file has a valid image header but its end is missing.

    Raises:
        UnreadableImage: If the file cannot be opened.
    """
    data = read_bytes(path)
    header = parse_header(io.BytesIO(data))
    if header is None:
        return False
    return _lacks_end(data, header) or (not header.is_too_large and _decode(data) is None)


def _lacks_end(data: bytes, header: ImageHeader | None) -> bool:
    """JPEG without its end marker or PNG without its IEND chunk. Bytes after the end are allowed."""
    if header and header.format == "jpeg":  # an EXIF thumbnail before the scan has an end marker of its own
        return data.rfind(b"\xff\xd9") < max(data.rfind(b"\xff\xda"), 0)
    return bool(header and header.format == "png" and b"IEND" not in data[-4096:] and b"IEND" not in data)


def silence_opencv() -> None:
    """Disable OpenCV's messages about malformed images, which do not name the file. $OPENCV_LOG_LEVEL enables them."""
    if "OPENCV_LOG_LEVEL" in os.environ:
        return
    logging = getattr(getattr(cv2, "utils", None), "logging", None)
    if logging and logging.getLogLevel() != logging.LOG_LEVEL_SILENT:
        logging.setLogLevel(logging.LOG_LEVEL_SILENT)
