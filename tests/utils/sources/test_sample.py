"""The expected number of frames of a source, and its first images, read before the source itself."""

import numpy as np
import pytest

from graftdet.utils.images.io import write_image
from graftdet.utils.images.video import VideoWriter
from graftdet.utils.sources.sample import expected_frames, sample_images
from graftdet.utils.sources.source import open_source


@pytest.fixture
def folder(tmp_path):
    """Five gray images of different brightness, one of them truncated, and a video of 30 frames."""
    for number in range(5):
        write_image(tmp_path / f"{number}.png", np.full((8, 8, 3), 40 * number, np.uint8))
    (tmp_path / "1.png").write_bytes((tmp_path / "1.png").read_bytes()[:40])
    with VideoWriter(tmp_path / "v.mp4", 25) as video:
        for number in range(30):
            video.write(np.full((32, 32, 3), 8 * number, np.uint8))
    return tmp_path


def test_number_of_frames(folder):
    assert expected_frames(open_source(folder)) == 35
    assert expected_frames(open_source(folder, stride=3)) == 15
    assert expected_frames(open_source(folder, "rtsp://127.0.0.1:1/live")) is None
    (folder / "v.mp4").write_bytes(b"no video")
    assert expected_frames(open_source(folder / "v.mp4")) == 0


def test_images_from_all_files(folder, capsys):
    images = sample_images(open_source(folder), 6)
    assert [round(image.mean(), -1) for image in images] == [0, 80, 120, 160, 0, 80]  # frames 0 and 10 of the video
    assert [round(image.mean(), -1) for image in sample_images(open_source(folder), 2)] == [0, 120]
    assert capsys.readouterr().err == ""  # what cannot be read is reported when the source is read


def test_live_targets_are_not_opened():
    assert sample_images(open_source("rtsp://127.0.0.1:1/live"), 4) == []
