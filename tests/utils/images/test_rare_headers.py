"""Sizes in the headers of rarer formats, and the limits that are checked before memory is taken."""

import io
import struct

import cv2
import numpy as np
import pytest

from graftdet.utils.errors import UserError
from graftdet.utils.images import io as io_module
from graftdet.utils.images.header import MAX_PIXELS, MAX_SCANS, ImageHeader, parse_header
from graftdet.utils.images.io import UnreadableImage, read_image, scale_to_uint8, to_bgr8
from graftdet.utils.untrusted import limits

GRADIENT = np.dstack([np.add.outer(np.arange(64), np.arange(96)).astype(np.uint8)] * 3)  # (64, 96, 3)


def encode(suffix):
    image = GRADIENT.astype(np.float32) / 255 if suffix in (".hdr", ".pfm") else GRADIENT
    return cv2.imencode(suffix, image)[1].tobytes()


def swap(data, old, new):
    """Replace the first place where `old` stands, which must exist."""
    assert old in data
    return data.replace(old, new)


def sizes(width, height, order=">"):
    return struct.pack(order + "II", width, height)


@pytest.mark.parametrize("suffix", [".jp2", ".hdr", ".pfm", ".pam", ".ras", ".avif"])
def test_header_has_the_size_of_the_decoded_image(suffix):
    if not cv2.haveImageWriter("a" + suffix):
        pytest.skip(f"this OpenCV does not write {suffix}")
    header = parse_header(io.BytesIO(encode(suffix)))
    assert (header.width, header.height, header.channels) == (96, 64, 3)


def large(suffix):
    """Files of a few hundred bytes that declare 30000x30000 pixels."""
    data = encode(suffix)
    if suffix == ".jp2":
        return swap(swap(data, sizes(64, 96), sizes(30000, 30000)), sizes(96, 64), sizes(30000, 30000))
    if suffix == ".hdr":
        return swap(data, b"-Y 64 +X 96", b"-Y 30000 +X 30000")
    if suffix == ".pfm":
        return swap(data, b"96 64", b"30000 30000")
    if suffix == ".pam":
        return swap(swap(data, b"WIDTH 96", b"WIDTH 30000"), b"HEIGHT 64", b"HEIGHT 30000")
    return swap(data, sizes(96, 64), sizes(30000, 30000))


@pytest.mark.parametrize("suffix", [".jp2", ".hdr", ".pfm", ".pam", ".ras", ".avif"])
def test_image_above_the_limit_is_refused_before_it_is_decoded(suffix, tmp_path, monkeypatch):
    if not cv2.haveImageWriter("a" + suffix):
        pytest.skip(f"this OpenCV does not write {suffix}")
    (tmp_path / ("a" + suffix)).write_bytes(large(suffix))
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("decoded"))
    with pytest.raises(UnreadableImage, match="30000x30000 pixels, more than the limit"):
        read_image(tmp_path / ("a" + suffix))


def test_size_of_the_codestream_counts_not_that_of_the_box_before_it():
    data = encode(".jp2")
    assert parse_header(io.BytesIO(swap(data, sizes(64, 96), sizes(1, 1)))).width == 96


def test_formats_of_32_bits_have_a_lower_limit():
    hdr = b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 11000 +X 11000\n"
    header = parse_header(io.BytesIO(hdr))
    assert header.is_too_large and header.width * header.height < MAX_PIXELS


@pytest.mark.parametrize("order", ["<", ">"])
def test_tiff_with_offsets_of_64_bits(order):
    tags = [(256, 3, 48), (257, 4, 20), (274, 3, 6), (277, 3, 3)]
    data = struct.pack(order + "2sHHHQQ", b"II" if order == "<" else b"MM", 43, 8, 0, 16, len(tags))
    for tag, kind, value in tags:
        data += struct.pack(order + "HHQ", tag, kind, 1) + struct.pack(order + ("H6x" if kind == 3 else "I4x"), value)
    header = parse_header(io.BytesIO(data))
    assert (header.width, header.height, header.orientation, header.channels) == (48, 20, 6, 3)


def test_header_of_openexr():
    window = struct.pack("<iiii", -4, 0, 43, 19)
    header = parse_header(io.BytesIO(b"\x76\x2f\x31\x01" + b"dataWindow\0box2i\0" + b"\x10\0\0\0" + window))
    assert (header.width, header.height) == (48, 20)


def test_data_without_a_known_header_is_not_given_to_opencv(tmp_path, monkeypatch):
    (tmp_path / "a.jpg").write_bytes(b"no image at all")
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("decoded"))
    with pytest.raises(UnreadableImage, match="is not an image"):
        read_image(tmp_path / "a.jpg")


def test_floats_are_converted_a_few_rows_at_a_time(monkeypatch):
    values = np.random.default_rng(0).random((9, 5, 3)).astype(np.float32)
    values[0, 0, 0], values[8, 4] = np.nan, 1
    whole = to_bgr8(values)
    monkeypatch.setattr("graftdet.utils.images.io._ROWS_BYTES", 150)  # two rows
    np.testing.assert_array_equal(to_bgr8(values), whole)
    assert whole[8, 4].tolist() == [255] * 3 and whole[0, 0, 0] == 0
    values[8, 4] = 200  # in the last rows: then all values are in 0..255
    assert to_bgr8(values)[8, 4].tolist() == [200] * 3 and to_bgr8(values)[:8].max() <= 1


def test_a_jpeg_of_many_scans_is_refused(tmp_path):
    data = cv2.imencode(".jpg", np.full((64, 64, 3), 90, np.uint8), [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes()
    last, end = data.rfind(b"\xff\xda"), data.rfind(b"\xff\xd9")
    (tmp_path / "good.jpg").write_bytes(data)
    assert read_image(tmp_path / "good.jpg").shape == (64, 64, 3) and 5 < data.count(b"\xff\xda") < MAX_SCANS / 5
    (tmp_path / "many.jpg").write_bytes(data[:end] + data[last:end] * MAX_SCANS + data[end:])
    with pytest.raises(UserError, match=rf"many.jpg: is a JPEG file of 1\d\d scans, more than {MAX_SCANS}"):
        read_image(tmp_path / "many.jpg")


@pytest.mark.parametrize(("bits", "side"), [(8, 11_586), (16, 8_193)])
def test_the_limit_of_pixels_depends_on_the_bits_and_can_be_raised(bits, side, monkeypatch):
    header = ImageHeader(side, side, bits=bits)
    assert header.is_too_large and not ImageHeader(side - 2, side - 2, bits=bits).is_too_large
    monkeypatch.setattr(limits, "_factor", 1)  # restored behind the test
    limits.allow_large()
    assert not header.is_too_large


def test_sixteen_bits_are_scaled_in_parts(monkeypatch):
    image = np.random.default_rng(0).integers(0, 1 << 16, (33, 7, 3)).astype(np.uint16)
    expected = np.minimum(image >> 4, 255).astype(np.uint8)
    monkeypatch.setattr(io_module, "_ROWS_BYTES", 100)
    assert np.array_equal(scale_to_uint8(image, 12), expected)
