"""Cameras and other streams: opened again, given up, read no faster than wanted, ended."""

import functools
import threading
import time

import numpy as np
import pytest

from graftdet.data import sources
from graftdet.data.sources import open_source
from graftdet.utils.errors import UserError
from graftdet.utils.images.video import DEFAULT_FPS, LiveFrames, read_frames


class FakeCamera:
    """Gives `batches[k]` frames at the k-th opening, then fails; opening number beyond them fails."""

    def __init__(self, batches):
        self.batches, self.openings, self.released = list(batches), 0, 0

    def __call__(self, target):
        self.openings += 1
        count = self.batches.pop(0) if self.batches else None
        camera = self

        class Capture:
            left = count or 0

            def isOpened(self):
                return count is not None

            def read(self):
                time.sleep(0.002)
                if self.left == 0:
                    return False, None
                self.left -= 1
                return True, np.full((48, 64, 3), self.left % 256, np.uint8)

            def get(self, _):
                return 0.0

            def release(self):
                camera.released += 1

        return Capture()


def test_stream_is_reopened_a_limited_number_of_times():
    camera = FakeCamera([5, 5, 0, 5])
    live = LiveFrames("rtsp://x", attempts=3, pause=0.001, opener=camera)
    frames = list(live)
    assert 3 <= len(frames) <= 15
    assert camera.openings == 4 + 3 and live.fps == DEFAULT_FPS  # three more that fail
    assert frames[-1][0, 0, 0] == 0  # the very last frame is not lost


def test_slow_consumer_gets_the_latest_frame():
    live = LiveFrames(0, attempts=0, opener=FakeCamera([50]))
    numbers = []
    for image in live:
        numbers.append(int(image[0, 0, 0]))
        time.sleep(0.02)
    assert 2 <= len(numbers) < 40 and numbers == sorted(numbers, reverse=True) and numbers[-1] == 0


def test_closing_a_stream_ends_its_thread():
    camera = FakeCamera([100000])
    live = LiveFrames(0, opener=camera)
    next(iter(live))
    live.close()
    assert not live._thread.is_alive() and camera.released == 1
    assert len(list(live)) <= 1


def test_stream_as_source(monkeypatch):
    camera = FakeCamera([6])
    monkeypatch.setattr(sources, "open_capture", camera)
    monkeypatch.setattr(sources, "LiveFrames", functools.partial(LiveFrames, attempts=0, opener=camera))
    frames = list(open_source("rtsp://camera/1"))
    assert 1 <= len(frames) <= 6 and [frame.index for frame in frames] == list(range(len(frames)))
    assert frames[0].info.kind == "stream" and frames[0].info.is_video and frames[0].path == "rtsp://camera/1"
    assert camera.openings == 1  # many cameras serve one connection only


def test_stop_ends_a_stream_without_new_frames(monkeypatch):
    camera = FakeCamera([2])
    monkeypatch.setattr(sources, "open_capture", camera)
    monkeypatch.setattr(sources, "LiveFrames", functools.partial(LiveFrames, attempts=9, pause=60, opener=camera))
    source, frames = open_source("rtsp://camera/1"), []
    reading = threading.Thread(target=lambda: frames.extend(source), daemon=True)
    reading.start()
    while not source._streams:
        time.sleep(0.001)
    time.sleep(0.05)  # it waits for the next opening, a minute away
    source.stop()
    reading.join(timeout=10)
    assert not reading.is_alive() and not source._streams[0]._thread.is_alive() and 1 <= len(frames) <= 2


def test_missing_camera(capfd):
    with pytest.raises(UserError, match="camera 97: cannot be opened"):
        list(open_source("97"))


def test_reading_releases_the_video_when_the_reader_stops():
    camera = FakeCamera([5])
    frames = read_frames(camera(0))
    next(frames)
    frames.close()
    assert camera.released == 1
