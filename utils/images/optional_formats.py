"""Images that OpenCV cannot decode: read with Pillow and its plugins if they are installed, else named."""

import io
from contextlib import suppress
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np

from graftdet.utils.images.header import ImageHeader

INSTALL_IMAGES = "pip install 'graftdet[images]' (pillow and pi-heif)"
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1", b"heif")
_PLUGINS = (("pi_heif", "register_heif_opener"), ("pillow_heif", "register_heif_opener"), ("pillow_jxl", None))
_FORMATS = "HEIF AVIF JXL JPEG2000 TGA PSD PCX SGI DDS ICNS ICO QOI PPM".split()  # none of them runs another program

_MAX_PIXELS = {"QOI": 2**22, "DDS": 2**22}  # which Pillow decodes in Python, a pixel at a time


def format_name(data: bytes, path: str | Path) -> str:
    """Return the name of a format that OpenCV lacks, by the first bytes, else by the suffix; empty for any other."""
    if data[4:8] == b"ftyp" and data[8:12] in _HEIF_BRANDS:
        return "HEIC"
    if data[4:8] == b"ftyp" and data[8:12] in (b"avif", b"avis"):
        return "AVIF"
    if data.startswith((b"\xff\x0a", b"\0\0\0\x0cJXL ")):
        return "JPEG XL"
    suffix = Path(path).suffix.lower()
    return suffix.lstrip(".").upper() if suffix in (".psd", ".tga", ".pcx", ".sgi", ".dds", ".ico", ".qoi") else ""


def requirement(data: bytes, path: str | Path) -> str:
    """Return what an image that cannot be decoded requires, for its error message; empty if that is unknown."""
    name = format_name(data, path)
    article = "an" if name[:1] in ("A", "I") else "a"
    if name and _can_read(name):
        return f"is {article} {name} image that is malformed or truncated"
    if name == "JPEG XL":
        return "is a JPEG XL image, which requires: pip install pillow pillow-jxl-plugin; or convert it to PNG"
    return f"is {article} {name} image, which requires: {INSTALL_IMAGES}" if name else ""


def _can_read(name: str) -> bool:
    """Whether files of a format of `format_name` can be read as the packages are installed."""
    if name == "AVIF" and cv2.haveImageWriter("a.avif"):  # OpenCV has readers and writers of AVIF together
        return True
    pillow = _load_pillow()
    return bool(pillow) and {"HEIC": "HEIF", "JPEG XL": "JXL"}.get(name, name) in pillow.OPEN


def decode_with_pillow(data: bytes, max_pixels: int, apply_exif: bool = True) -> np.ndarray | None:
    """Decode an image with Pillow.

    Args:
        data: the content of the file.
        max_pixels: larger images are not decoded.
        apply_exif: rotate the image as its EXIF orientation says. The rotation of a HEIC image is always applied.

    Returns:
        (H, W, 3) uint8 BGR; None if Pillow, or the plugin for this format, is missing or cannot decode it.
    """
    image = _open(data)
    if image is None or image.width * image.height > min(max_pixels, _MAX_PIXELS.get(image.format, max_pixels)):
        return None
    try:
        if apply_exif:
            image = import_module("PIL.ImageOps").exif_transpose(image)
        return cv2.cvtColor(np.asarray(image.convert("RGB")), cv2.COLOR_RGB2BGR)
    except Exception:  # plugins raise errors of any kind for malformed files
        return None


def read_pillow_header(data: bytes, path: str | Path) -> ImageHeader | None:
    """Return size and orientation of a HEIC or JPEG XL image without decoding it; None for others or without Pillow."""
    image = _open(data) if format_name(data, path) in ("HEIC", "JPEG XL") else None
    if image is None:
        return None
    orientation = image.getexif().get(0x0112, 1)
    orientation = orientation if orientation in range(1, 9) else 1
    channels = len(image.getbands())
    return ImageHeader(image.width, image.height, orientation, channels, 8, image.format.lower())


def _open(data: bytes) -> Any:
    """The image of Pillow, or None."""
    pillow = _load_pillow()
    try:
        return pillow and pillow.open(io.BytesIO(data), formats=[name for name in _FORMATS if name in pillow.OPEN])
    except Exception:  # plugins raise errors of any kind for malformed files
        return None


@cache
def _load_pillow() -> ModuleType | None:
    """Pillow with the plugins that are installed; None without Pillow."""
    try:
        pillow = import_module("PIL.Image")
    except ImportError:
        return None
    pillow.init()
    for name, register in _PLUGINS:
        with suppress(ImportError):
            plugin = import_module(name)
            if register:
                getattr(plugin, register)()
    return pillow
