"""Images that OpenCV cannot decode: read with Pillow, or named with what they require."""

import sys

import cv2
import numpy as np
import pytest

from graftdet.utils.images import optional_formats
from graftdet.utils.images.io import UnreadableImage, image_header, read_image, write_image

HEIC = b"\0\0\0\x1cftypheic\0\0\0\0mif1heicmiaf" + b"\0" * 40
JXL = b"\xff\x0a" + b"\0" * 40


@pytest.fixture
def no_pillow(monkeypatch):
    optional_formats._load_pillow.cache_clear()
    monkeypatch.setitem(sys.modules, "PIL", None)
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    yield
    optional_formats._load_pillow.cache_clear()


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.heic", HEIC, r"is a HEIC image, which requires: pip install 'graftdet\[images\]'"),
        ("a.jpg", HEIC, "is a HEIC image"),
        ("a.jxl", JXL, "is a JPEG XL image, which requires: pip install pillow pillow-jxl-plugin"),
        ("a.psd", b"8BPS" + b"\0" * 40, r"is a PSD image, .*graftdet\[images\]"),
        ("a.xyz", b"what" + b"\0" * 40, "is not an image that OpenCV can read"),
    ],
)
def test_what_an_image_requires(tmp_path, name, data, message, no_pillow):
    path = tmp_path / name
    path.write_bytes(data)
    for read in (read_image, image_header):
        with pytest.raises(UnreadableImage, match=message):
            read(path)


def test_a_truncated_image_of_an_installed_format_requires_nothing(tmp_path, monkeypatch):
    class Pillow:
        OPEN = ("HEIF", "JXL", "PSD")

        @staticmethod
        def open(*_, **__):
            raise OSError("truncated")

    monkeypatch.setattr(optional_formats, "_load_pillow", lambda: Pillow)
    for name, data in (("a.heic", HEIC), ("a.jpg", JXL), ("a.psd", b"8BPS")):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(UnreadableImage, match="image that is malformed or truncated$"):
            read_image(tmp_path / name)


def test_a_truncated_avif_image(tmp_path, no_pillow):
    if not cv2.haveImageWriter("a.avif"):
        pytest.skip("OpenCV without AVIF")
    data = cv2.imencode(".avif", gradient())[1].tobytes()
    (tmp_path / "a.avif").write_bytes(data[: len(data) // 2])
    with pytest.raises(UnreadableImage, match="is an AVIF image that is malformed or truncated"):
        read_image(tmp_path / "a.avif")


def test_mpo_is_read_as_jpeg(tmp_path):
    image = np.full((20, 30, 3), 90, np.uint8)
    write_image(tmp_path / "a.jpg", image)
    (tmp_path / "a.jpg").rename(tmp_path / "a.mpo")
    assert read_image(tmp_path / "a.mpo").shape == (20, 30, 3)
    assert image_header(tmp_path / "a.mpo").format == "jpeg"


def gradient():
    """An image of 32x24 that is red at the left and blue at the bottom, BGR."""
    rows, columns = np.mgrid[:24, :32]
    return np.stack([rows * 10, np.full((24, 32), 80), 250 - columns * 7], 2).astype(np.uint8)


def test_heic_is_read_with_a_plugin(tmp_path):
    pillow_heif = pytest.importorskip("pillow_heif")
    pillow = pytest.importorskip("PIL.Image")
    pillow_heif.register_heif_opener()
    pillow.fromarray(np.ascontiguousarray(gradient()[..., ::-1])).save(tmp_path / "a.heic", quality=95)
    assert np.abs(read_image(tmp_path / "a.heic").astype(int) - gradient()).mean() < 6
    header = image_header(tmp_path / "a.heic")
    assert (header.width, header.height, header.orientation) == (32, 24, 1)


def test_other_formats_of_pillow(tmp_path):
    pillow = pytest.importorskip("PIL.Image")
    pillow.fromarray(np.ascontiguousarray(gradient()[..., ::-1])).save(tmp_path / "a.tga")
    assert np.array_equal(read_image(tmp_path / "a.tga"), gradient())
