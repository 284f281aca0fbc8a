"""Animated GIF, WebP and PNG files and TIFF files of several pages are videos with their frames and durations."""

import struct
import sys

import cv2
import numpy as np
import pytest

from graftdet.utils.images.io import UnreadableImage, read_image, write_image
from graftdet.utils.sources import animation
from graftdet.utils.sources.animation import frame_durations, frame_rate_of
from graftdet.utils.sources.source import open_source

pytestmark = pytest.mark.skipif(not hasattr(cv2, "imencodeanimation"), reason="needs OpenCV 4.11")
DURATIONS = [100, 200, 300, 100]
VALUES = [20, 70, 120, 170]


def write_animation(path, durations=None):
    animated = cv2.Animation()
    animated.frames = [np.dstack((np.full((40, 60, 3), value, np.uint8), np.full((40, 60), 255))) for value in VALUES]
    animated.frames = [np.ascontiguousarray(frame, np.uint8) for frame in animated.frames]
    animated.durations = np.array(durations or DURATIONS, np.int32)
    _, data = cv2.imencodeanimation(path.suffix, animated)
    path.write_bytes(data.tobytes())
    return path


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png"])
@pytest.mark.parametrize("reader", ["OpenCV", "Pillow"])
def test_frames_and_durations(tmp_path, suffix, reader, monkeypatch):
    path = write_animation(tmp_path / f"a{suffix}")
    if reader == "Pillow":
        pytest.importorskip("PIL")
        monkeypatch.delattr(cv2, "imdecodeanimation")
    assert frame_durations(path) == DURATIONS
    frames = list(open_source(path))
    assert [frame.index for frame in frames] == [0, 1, 2, 3]
    assert [frame.image.shape for frame in frames] == [(40, 60, 3)] * 4
    assert [int(frame.image.mean()) for frame in frames] == pytest.approx(VALUES, abs=16)  # GIF: few colors
    assert frames[0].info.kind == "video" and frames[0].info.frame_count == 4 and frames[0].info.fps == 10
    assert [frame.repeats for frame in frames] == [1, 2, 3, 1]


def test_frames_that_are_decoded_in_parts(tmp_path, monkeypatch):
    path = write_animation(tmp_path / "a.gif")
    monkeypatch.setattr(animation, "_CHUNK_BYTES", 40 * 60 * 4 * 3)
    assert [int(frame.image.mean()) for frame in open_source(path)] == pytest.approx(VALUES, abs=16)


def test_stride(tmp_path):
    frames = list(open_source(write_animation(tmp_path / "a.gif"), stride=2))
    assert [int(frame.image.mean()) for frame in frames] == pytest.approx(VALUES[::2], abs=16)
    assert [frame.repeats for frame in frames] == [3, 4] and frames[0].info.fps == 10


def test_pages_of_a_tiff_file(tmp_path):
    pages = [np.full((40, 60 - 10 * index, 3), value, np.uint8) for index, value in enumerate(VALUES)]
    assert cv2.imwritemulti(str(tmp_path / "pages.tiff"), pages)
    frames = list(open_source(tmp_path / "pages.tiff"))
    assert [frame.image.shape for frame in frames] == [page.shape for page in pages]
    assert [int(frame.image.mean()) for frame in frames] == VALUES
    assert frames[0].info.fps == 1 and [frame.repeats for frame in frames] == [1] * 4


@pytest.mark.parametrize(("kind", "scale"), [(np.uint16, 256), (np.float32, 1)])
def test_pages_of_16_bits_and_of_floats(tmp_path, kind, scale):
    """Each page has the brightness that it has as a file of its own."""
    ramp = np.tile(np.linspace(0, 200, 60, dtype=np.float32), (40, 1))
    pages = [(ramp * scale).astype(kind), (ramp[:, ::-1] * scale).astype(kind)]
    assert cv2.imwritemulti(str(tmp_path / "pages.tiff"), pages) and cv2.imwrite(str(tmp_path / "one.tiff"), pages[0])
    first, second = (frame.image for frame in open_source(tmp_path / "pages.tiff"))
    assert np.array_equal(first, read_image(tmp_path / "one.tiff")) and np.array_equal(second, first[:, ::-1])


def test_pages_are_scaled_by_the_depth(tmp_path, caplog):
    pages = [np.full((20, 30), value, np.uint16) for value in (1024, 2048, 4095)]
    assert cv2.imwritemulti(str(tmp_path / "pages.tiff"), pages)
    assert [int(frame.image.max()) for frame in open_source(tmp_path / "pages.tiff", depth=12)] == [64, 128, 255]
    assert not caplog.text
    assert [int(frame.image.max()) for frame in open_source(tmp_path / "pages.tiff")] == [4, 8, 15]
    assert "values 1024 to 1024 of 65535; --depth 11 scales by it" in caplog.text
    assert cv2.imwritemulti(str(tmp_path / "eight.tiff"), [np.full((20, 30, 3), value, np.uint8) for value in (9, 99)])
    assert [int(frame.image.max()) for frame in open_source(tmp_path / "eight.tiff", depth=12)] == [9, 99]


@pytest.mark.parametrize(("fraction", "expected"), [(0.4, VALUES[:1]), (0.7, VALUES[:2]), (0.95, VALUES[:3])])
def test_missing_pages_of_a_tiff_file_are_reported(tmp_path, caplog, fraction, expected):
    path = tmp_path / "pages.tiff"
    noise = np.random.default_rng(0).integers(-9, 9, (40, 60, 3))
    assert cv2.imwritemulti(str(path), [np.uint8(value + noise) for value in VALUES])
    path.write_bytes(path.read_bytes()[: int(fraction * path.stat().st_size)])
    frames = list(open_source(path))
    assert [int(frame.image.mean()) for frame in frames] == pytest.approx(expected, abs=2)
    assert f"{path}: is truncated; frames or pages at its end are missing" in caplog.text


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png", ".tiff"])
def test_single_images_stay_images(tmp_path, suffix):
    write_image(tmp_path / f"a{suffix}", np.full((40, 60, 3), 90, np.uint8))
    (frame,) = open_source(tmp_path / f"a{suffix}")
    assert frame.index is None and frame.info.kind == "image" and frame.repeats == 1


def test_truncated_files_end_early_or_are_reported(tmp_path):
    content = write_animation(tmp_path / "a.webp").read_bytes()
    (tmp_path / "a.webp").write_bytes(content[: len(content) - 20])
    with pytest.raises(UnreadableImage, match=r"a\.webp: "):
        list(open_source(tmp_path / "a.webp"))
    assert frame_durations(tmp_path / "missing.gif") == []
    (tmp_path / "short.gif").write_bytes(b"GIF89a")
    assert frame_durations(tmp_path / "short.gif") == []


def test_without_a_reader_the_message_names_the_extra(tmp_path, monkeypatch):
    path = write_animation(tmp_path / "a.gif")
    monkeypatch.delattr(cv2, "imdecodeanimation")
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(UnreadableImage, match=r"graftdet\[images\]"):
        list(open_source(path))


@pytest.mark.parametrize(
    ("durations", "fps"), [([100, 200, 300], 10), ([40, 40], 25), ([33, 34], 50), ([1000], 1), ([10], 50)]
)
def test_the_rate_at_which_durations_are_whole_frames(durations, fps):
    assert frame_rate_of(durations) == fps


def test_a_large_page_after_a_small_one_is_refused_before_it_is_decoded(tmp_path, monkeypatch):
    assert cv2.imwritemulti(
        str(tmp_path / "a.tiff"), [np.zeros((20, 30, 3), np.uint8), np.zeros((77, 99, 3), np.uint8)]
    )
    data = (tmp_path / "a.tiff").read_bytes()
    order = "<" if data[:2] == b"II" else ">"
    entries = [struct.pack(order + "HHIHH", tag, 3, 1, old, 0) for tag, old in ((256, 99), (257, 77))]
    for entry in entries:
        assert data.count(entry) == 1
        data = data.replace(entry, entry[:2] + struct.pack(order + "HII", 4, 1, 60_000))
    (tmp_path / "a.tiff").write_bytes(data)
    monkeypatch.setattr(cv2, "imdecodemulti", lambda *_, **__: pytest.fail("decoded"))
    with pytest.raises(UnreadableImage, match="has pages of 3600000600 pixels"):
        list(open_source(tmp_path / "a.tiff"))


def test_animations_of_large_frames_are_refused(tmp_path):
    frame = b"," + struct.pack("<HHHH", 0, 0, 1, 1) + b"\0\x02\x02\x44\x01\0"
    header = b"GIF89a" + struct.pack("<HH", 6000, 6000) + b"\x80\0\0" + b"\0\0\0\xff\xff\xff"
    (tmp_path / "a.gif").write_bytes(header + frame * 3 + b";")
    with pytest.raises(UnreadableImage, match=r"a.gif: is an animation of 6000x6000 pixels, more than the limit"):
        list(animation.read_animation(tmp_path / "a.gif", 3))


def test_the_number_of_pages_is_limited(tmp_path, monkeypatch):
    cv2.imwritemulti(str(tmp_path / "a.tif"), [np.zeros((8, 9, 3), np.uint8)] * 3)
    monkeypatch.setattr(animation, "MAX_PAGES", 2)
    with pytest.raises(UnreadableImage, match="has 3 pages, more than the limit of 2"):
        list(open_source(tmp_path / "a.tif"))
