import io
import os
import pickle
import struct
import zlib

import cv2
import numpy as np
import pytest

from graftdet.utils.errors import UserError
from graftdet.utils.images.header import ImageHeader, parse_header
from graftdet.utils.images.io import (
    UnreadableImage,
    apply_orientation,
    image_header,
    is_truncated,
    read_image,
    write_image,
)

HEIGHT, WIDTH = 40, 64


def smooth_image():
    """A smooth image with a bright top left corner, so that rotations are visible after JPEG."""
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    image[...] = np.linspace(0, 80, WIDTH, dtype=np.uint8)[None, :, None]
    image[:20, :20] = (30, 120, 250)
    return image


def encode(suffix, image=None, *options):
    return cv2.imencode(suffix, smooth_image() if image is None else image, list(options))[1].tobytes()


def exif(orientation, order="<"):
    head = (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, 8)
    entry = struct.pack(order + "HHIHH", 274, 3, 1, orientation, 0)
    return head + struct.pack(order + "H", 1) + entry + b"\0" * 4


def png_chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def with_exif(kind, orientation, order="<"):
    block = exif(orientation, order)
    if kind == "jpeg":
        data, body = encode(".jpg"), b"Exif\0\0" + block
        return data[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + data[2:]
    if kind == "png":
        data = encode(".png")
        return data[:33] + png_chunk(b"eXIf", block) + data[33:]
    data = encode(".webp", None, cv2.IMWRITE_WEBP_QUALITY, 101)
    size = (WIDTH - 1).to_bytes(3, "little") + (HEIGHT - 1).to_bytes(3, "little")
    body = b"VP8X" + struct.pack("<I", 10) + bytes([8, 0, 0, 0]) + size + data[12:]
    body += b"EXIF" + struct.pack("<I", len(block)) + block
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def tiff(orientation=1, colors=2):
    data = smooth_image()[..., ::-1].tobytes()
    tags = [
        (256, 3, 1, WIDTH),
        (257, 3, 1, HEIGHT),
        (258, 3, 1, 8),
        (259, 3, 1, 1),
        (262, 3, 1, colors),
        (273, 4, 1, 8),
    ]
    tags += [(274, 3, 1, orientation), (277, 3, 1, 3), (278, 3, 1, HEIGHT), (279, 4, 1, len(data))]
    directory = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags) + b"\0" * 4
    return b"II" + struct.pack("<HI", 42, 8 + len(data)) + data + directory


def save(folder, name, data):
    path = folder / name
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".webp", ".tiff"])
def test_round_trip_through_a_path_with_spaces_and_letters(tmp_path, suffix):
    path = tmp_path / "größe 测试" / f"a b{suffix}"
    write_image(path, smooth_image())
    assert np.abs(read_image(path).astype(int) - smooth_image()).mean() < 4
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]  # no temporary file is left
    header = image_header(path)
    assert (header.width, header.height, header.orientation, header.bits) == (WIDTH, HEIGHT, 1, 8)


def test_unknown_formats_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"x\.foo.*\.jpg or \.png"):
        write_image(tmp_path / "x.foo", smooth_image())


@pytest.mark.skipif(os.name == "nt", reason="Windows has no mode mask")
def test_writing_does_not_change_the_mode_mask(tmp_path, monkeypatch):
    before = os.umask(0o027)
    try:
        monkeypatch.setattr(os, "umask", lambda mask: pytest.fail("another thread may write in the meantime"))
        write_image(tmp_path / "a.png", np.zeros((2, 2, 3), np.uint8))
        assert (tmp_path / "a.png").stat().st_mode & 0o777 == 0o640
    finally:
        monkeypatch.undo()
        os.umask(before)


def test_a_file_that_cannot_be_written_leaves_no_temporary_file(tmp_path):
    (tmp_path / "a.png").mkdir()
    with pytest.raises(UserError, match="cannot be written"):
        write_image(tmp_path / "a.png", np.zeros((2, 2, 3), np.uint8))
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_gray_alpha_and_16_bits_become_bgr8(tmp_path):
    gray = smooth_image()[..., 1]
    assert np.array_equal(read_image(save(tmp_path, "g.png", encode(".png", gray))), np.dstack([gray] * 3))
    alpha = np.dstack([smooth_image(), np.zeros((HEIGHT, WIDTH), np.uint8)])
    assert np.array_equal(read_image(save(tmp_path, "a.png", encode(".png", alpha))), smooth_image())
    for suffix in (".png", ".tiff"):
        deep = smooth_image().astype(np.uint16) * 257
        path = save(tmp_path, "d" + suffix, encode(suffix, deep))
        assert np.abs(read_image(path).astype(int) - smooth_image()).max() <= 1
        assert image_header(path).bits == 16
    floats = save(tmp_path, "f.tiff", encode(".tiff", gray.astype(np.float32) / 255))
    assert np.abs(read_image(floats)[..., 0].astype(int) - gray).max() <= 1


def test_cmyk_jpeg_reads_and_its_header_has_four_channels(tmp_path):
    path = save(tmp_path, "cmyk.jpg", flat_cmyk_jpeg())
    assert image_header(path).channels == 4
    image = read_image(path)
    assert image.shape == (8, 8, 3)
    assert image.std() == 0


def flat_cmyk_jpeg():
    """An 8x8 baseline JPEG of four components in which every coefficient is zero, written by hand (ITU T.81)."""
    segment = lambda marker, body: b"\xff" + bytes([marker]) + struct.pack(">H", len(body) + 2) + body  # noqa: E731
    adobe = segment(0xEE, b"Adobe" + struct.pack(">HHHB", 100, 0, 0, 0))
    tables = segment(0xDB, b"\0" + b"\1" * 64)
    frame = segment(0xC0, struct.pack(">BHHB", 8, 8, 8, 4) + b"".join(bytes([i, 0x11, 0]) for i in range(1, 5)))
    one_code = bytes([1] + [0] * 15) + b"\0"  # the code '0' means: nothing here, or end of block
    huffman = segment(0xC4, b"\x00" + one_code) + segment(0xC4, b"\x10" + one_code)
    scan = segment(0xDA, b"\4" + b"".join(bytes([i, 0]) for i in range(1, 5)) + b"\0\x3f\0")
    return b"\xff\xd8" + adobe + tables + frame + huffman + scan + b"\0" + b"\xff\xd9"


@pytest.mark.parametrize("kind", ["jpeg", "png", "webp", "tiff"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(tmp_path, kind, orientation):
    data = tiff(orientation) if kind == "tiff" else with_exif(kind, orientation, "<" if orientation % 2 else ">")
    path = save(tmp_path, f"p.{kind}", data)
    header = image_header(path)
    assert (header.width, header.height, header.orientation, header.format) == (WIDTH, HEIGHT, orientation, kind)
    stored = read_image(path, apply_exif=False)
    assert np.abs(stored.astype(int) - smooth_image()).mean() < 5
    upright = read_image(path)
    assert upright.shape[1::-1] == header.upright_size
    assert np.array_equal(upright, apply_orientation(stored, orientation))


@pytest.mark.parametrize(
    ("orientation", "corner"),
    [(1, (0, 0)), (2, (0, 1)), (3, (1, 1)), (4, (1, 0)), (5, (0, 0)), (6, (0, 1)), (7, (1, 1)), (8, (1, 0))],
)
def test_orientation_moves_the_corner(orientation, corner):
    """EXIF 2.32, tag 0x0112: where the stored row 0, column 0 is seen."""
    turned = apply_orientation(smooth_image(), orientation)
    shape = (HEIGHT, WIDTH) if orientation < 5 else (WIDTH, HEIGHT)
    assert turned.shape[:2] == shape
    assert turned[corner[0] * (shape[0] - 1), corner[1] * (shape[1] - 1), 2] == 250
    assert turned[(1 - corner[0]) * (shape[0] - 1), (1 - corner[1]) * (shape[1] - 1), 2] < 100


def huge_png():
    head = png_chunk(b"IHDR", struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + png_chunk(b"IDAT", zlib.compress(b"\0" * 99)) + png_chunk(b"IEND", b"")


BROKEN = {
    "empty.jpg": (b"", "is empty"),
    "text.jpg": (b"hello, I am text", "not an image"),
    "half.jpg": (encode(".jpg")[:500], "truncated"),
    "no_end.jpg": (encode(".jpg")[:-2], "truncated"),
    "thumbnail.jpg": (b"\xff\xd8\xff\xe1\x00\x08\xff\xd8\xff\xd9xx" + encode(".jpg")[2:-2], "truncated"),
    "half.png": (encode(".png")[:-200], "truncated"),
    "head.png": (encode(".png")[:20], "not an image"),
    "half.webp": (encode(".webp")[:-60], "malformed webp"),
    "half.bmp": (encode(".bmp")[:3000], "malformed bmp"),
    "huge.png": (huge_png(), "is 60000x60000 pixels"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_files_are_named(tmp_path, name, capfd):
    data, reason = BROKEN[name]
    path = save(tmp_path, name, data)
    with pytest.raises(UnreadableImage, match=reason) as caught:
        read_image(path)
    assert str(path) in str(caught.value)
    assert capfd.readouterr().err == ""


def test_missing_file_and_folder(tmp_path):
    for read in (read_image, image_header, is_truncated):
        with pytest.raises(UnreadableImage, match="no such file"):
            read(tmp_path / "none.jpg")
        with pytest.raises(UnreadableImage, match="cannot be read"):
            read(tmp_path)


def test_error_crosses_processes():
    error = pickle.loads(pickle.dumps(UnreadableImage("a.jpg", "is empty")))
    assert isinstance(error, UserError) and str(error) == "a.jpg: is empty" and error.path == "a.jpg"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("half.jpg", True),
        ("no_end.jpg", True),
        ("half.png", True),
        ("half.webp", True),
        ("half.bmp", True),
        ("text.jpg", False),
        ("empty.jpg", False),
    ],
)
def test_is_truncated(tmp_path, name, expected):
    assert is_truncated(save(tmp_path, name, BROKEN[name][0])) is expected


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".bmp"])
def test_complete_images_are_not_truncated_even_with_bytes_after_the_end(tmp_path, suffix):
    path = save(tmp_path, "a" + suffix, encode(suffix) + b"trailing bytes of a camera")
    assert not is_truncated(path)
    assert read_image(path).shape == (HEIGHT, WIDTH, 3)


@pytest.mark.parametrize("name", ["jpeg", "png", "webp", "tiff", "bmp", "gif"])
def test_a_malformed_header_gives_none_and_never_raises(name):
    data = {"jpeg": with_exif("jpeg", 6), "png": with_exif("png", 6), "webp": with_exif("webp", 6), "tiff": tiff()}
    complete = data.get(name) or encode(f".{name}")
    rng = np.random.default_rng(0)
    for cut in range(2, min(len(complete), 300), 3):
        header = parse_header(io.BytesIO(complete[:cut]))
        assert header is None or isinstance(header, ImageHeader)
        damaged = bytearray(complete[:2000])
        damaged[2 + int(rng.integers(60))] = int(rng.integers(256))
        parse_header(io.BytesIO(bytes(damaged)))


@pytest.mark.parametrize("colors", [8, 9, 10])
def test_tiff_images_of_lab_colors_are_refused(tmp_path, colors):
    path = save(tmp_path, "a.tif", tiff(colors=colors))
    with pytest.raises(UnreadableImage, match="a.tif: is a TIFF image of CIELAB colors, expected RGB; convert it"):
        read_image(path)
    assert image_header(path).upright_size == (WIDTH, HEIGHT)


def test_files_without_end_are_not_read(tmp_path):
    with open(tmp_path / "a.jpg", "wb") as file:
        file.truncate(2**30 + 1)
    with pytest.raises(UnreadableImage, match="is 1073741825 bytes, more than the limit of 1073741824"):
        read_image(tmp_path / "a.jpg")


def test_formats_that_are_decoded_in_python_have_a_smaller_limit(tmp_path):
    pytest.importorskip("PIL")
    for side, is_read in ((64, True), (2049, False)):
        runs = side * side // 62
        data = b"qoif" + struct.pack(">IIBB", side, side, 3, 0) + b"\xfd" * (runs + 1) + b"\0" * 7 + b"\1"
        (tmp_path / "a.png").write_bytes(data)
        if is_read:
            assert read_image(tmp_path / "a.png").shape == (side, side, 3)
        else:
            with pytest.raises(UnreadableImage):
                read_image(tmp_path / "a.png")
