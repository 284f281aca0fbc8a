"""Cameras and other streams: opened again, given up, read no faster than wanted, ended."""

import functools
import sys
import threading
import time
import types

import numpy as np
import pytest

from graftdet.utils.errors import UserError
from graftdet.utils.images.video import DEFAULT_FPS, read_frames
from graftdet.utils.sources import source
from graftdet.utils.sources.live import LiveFrames, LiveGroup
from graftdet.utils.sources.source import open_source


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
    monkeypatch.setattr(source, "open_live", camera)
    monkeypatch.setattr(source, "LiveFrames", functools.partial(LiveFrames, attempts=0, opener=camera))
    frames = list(open_source("rtsp://camera/1"))
    assert 1 <= len(frames) <= 6 and [frame.index for frame in frames] == list(range(len(frames)))
    assert frames[0].info.kind == "stream" and frames[0].info.is_video and frames[0].path == "rtsp://camera/1"
    assert camera.openings == 1  # many cameras serve one connection only


def test_stop_ends_a_stream_without_new_frames(monkeypatch):
    camera = FakeCamera([2])
    monkeypatch.setattr(source, "open_live", camera)
    monkeypatch.setattr(source, "LiveFrames", functools.partial(LiveFrames, attempts=9, pause=60, opener=camera))
    camera_source, frames = open_source("rtsp://camera/1"), []
    reading = threading.Thread(target=lambda: frames.extend(camera_source), daemon=True)
    reading.start()
    while not camera_source._streams:
        time.sleep(0.001)
    time.sleep(0.05)  # it waits for the next opening, a minute away
    camera_source.stop()
    reading.join(timeout=10)
    assert not reading.is_alive() and not camera_source._streams[0]._thread.is_alive() and 1 <= len(frames) <= 2


def test_missing_camera(capfd):
    with pytest.raises(UserError, match="camera 97: cannot be opened"):
        list(open_source("97"))


def test_reading_releases_the_video_when_the_reader_stops():
    camera = FakeCamera([5])
    frames = read_frames(camera(0))
    next(frames)
    frames.close()
    assert camera.released == 1


class FakeStreams:
    """Streams by address: `plan[address]` is a list of frame counts, one per opening; -1 for one that does not open."""

    def __init__(self, **plan):
        self.plan, self.openings = plan, dict.fromkeys(plan, 0)

    def __call__(self, target):
        name = target.split("/")[-1]
        self.openings[name] += 1
        counts = self.plan[name]
        count = counts.pop(0) if counts else -1
        value = sorted(self.plan).index(name)

        class Capture:
            left = max(count, 0)

            def isOpened(self):
                return count >= 0

            def read(self):
                time.sleep(0.003)
                self.left -= 1
                return (True, np.full((8, 8, 3), value, np.uint8)) if self.left >= 0 else (False, None)

            grab = isOpened

            def get(self, _):
                return 0.0

            def release(self):
                pass

        return Capture()


@pytest.fixture
def streams(monkeypatch):
    """`streams(a=[...], b=[...])` replaces what opens the addresses rtsp://x/a, rtsp://x/b."""

    def replace(**plan):
        fake = FakeStreams(**plan)
        monkeypatch.setattr(source, "open_live", fake)
        monkeypatch.setattr(source, "LiveGroup", functools.partial(LiveGroup, opener=fake, pause=0.002))
        return fake

    return replace


def test_streams_are_read_side_by_side_in_turns(streams, tmp_path):
    streams(a=[20], b=[20], c=[20])
    (tmp_path / "list.streams").write_text("rtsp://x/a\nrtsp://x/b\n# comment\nrtsp://x/c\n")
    frames = []
    for frame in open_source(tmp_path / "list.streams"):
        frames.append(frame)
        time.sleep(0.01)  # slower than the streams
    names = [frame.path[-1] for frame in frames]
    assert set(names[:4]) == set("abc")
    for name in "abc":
        own = [frame for frame in frames if frame.path[-1] == name]
        assert [frame.index for frame in own] == list(range(len(own))) and 2 <= len(own) <= 20
        assert all(frame.image[0, 0, 0] == "abc".index(name) for frame in own)


def test_a_dead_stream_is_opened_again_while_the_others_continue(streams, caplog):
    fake = streams(a=[200], b=[3, -1, -1, 50], c=[-1, -1, 40])
    with caplog.at_level("INFO"):
        frames = list(open_source("rtsp://x/a", "rtsp://x/b", "rtsp://x/c"))
    counts = {name: sum(frame.path[-1] == name for frame in frames) for name in "abc"}
    assert counts["a"] > 50 and counts["b"] > 10 and counts["c"] > 10
    assert fake.openings["b"] >= 4 and fake.openings["c"] >= 3
    assert "rtsp://x/b: gives no frames" in caplog.text and "rtsp://x/c: connected again" in caplog.text
    first_b = next(i for i, frame in enumerate(frames) if frame.path[-1] == "b")
    assert first_b < 10  # nothing waits for the dead one


def test_all_streams_dead_is_an_error(streams):
    streams(a=[-1], b=[-1])
    with pytest.raises(UserError, match=r"none of its images and videos \(2\)"):
        list(open_source("rtsp://x/a", "rtsp://x/b"))


def test_an_error_of_one_stream_is_reported_and_the_others_continue(streams, caplog):
    """Such as a screen that cannot be read."""
    fake = streams(a=[60], b=[60])

    def failing(target):
        capture = fake(target)
        if target.endswith("b"):
            capture.read = lambda: (_ for _ in ()).throw(UserError("b: the screen cannot be read"))
        return capture

    group = LiveGroup(["rtsp://x/a", "rtsp://x/b"], [failing("a"), failing("b")], opener=fake, pause=0.002)
    assert {stream.name for stream, _ in group} == {"rtsp://x/a"}
    group.close()
    assert caplog.text.count("b: the screen cannot be read; skipped") == 1


def test_stop_ends_streams_that_are_read_side_by_side(streams):
    streams(a=[100000], b=[100000])
    everything, frames = open_source("rtsp://x/a", "rtsp://x/b"), []
    for frame in everything:
        frames.append(frame)
        if len(frames) == 10:
            everything.stop()
    assert 10 <= len(frames) <= 12
    assert not any(stream._thread.is_alive() for stream in everything._streams)


def test_stride_skips_frames_of_a_stream():
    camera = FakeCamera([100])

    class Counting:
        def __init__(self, capture):
            self.capture, self.grabbed = capture, 0

        def grab(self):
            self.grabbed += 1
            return self.capture.read()[0]

        def __getattr__(self, name):
            return getattr(self.capture, name)

    capture = Counting(camera(0))
    live = LiveFrames(0, attempts=0, capture=capture, stride=10)
    frames = list(live)
    assert 1 <= len(frames) <= 10 and capture.grabbed == 91  # the last one fails


class FakeScreen(types.ModuleType):
    """The package mss with two monitors, the second 20 pixels to the right."""

    def mss(self):
        return self

    monitors = (
        {"left": 0, "top": 0, "width": 40, "height": 10},
        {"left": 0, "top": 0, "width": 20, "height": 10},
        {"left": 20, "top": 0, "width": 20, "height": 10},
    )

    def grab(self, area):
        self.areas.append(area)
        return np.full((area["height"], area["width"], 4), 7, np.uint8)

    def close(self):
        pass


@pytest.mark.parametrize(
    ("values", "area"),
    [
        (["screen"], (0, 0, 20, 10)),
        (["screen", "2"], (20, 0, 20, 10)),
        (["screen 2 1 2 5 6"], (21, 2, 5, 6)),
        (["screen", "1", "2", "3", "4"], (1, 2, 3, 4)),
    ],
)
def test_the_screen_is_a_stream(values, area, monkeypatch):
    fake = FakeScreen("mss")
    fake.areas = []
    monkeypatch.setitem(sys.modules, "mss", fake)
    screen = open_source(*values)
    for frame in screen:
        assert frame.image.shape == (area[3], area[2], 3) and frame.info.kind == "stream"
        screen.stop()
    assert fake.areas[0] == dict(zip(("left", "top", "width", "height"), area, strict=True))


def test_the_screen_needs_a_package_and_valid_numbers(monkeypatch):
    monkeypatch.setitem(sys.modules, "mss", None)
    with pytest.raises(UserError, match=r"graftdet\[screen\]"):
        list(open_source("screen"))
    with pytest.raises(UserError, match="expected 'screen"):
        list(open_source("screen 1 2 3"))
    fake = FakeScreen("mss")
    fake.areas = []
    monkeypatch.setitem(sys.modules, "mss", fake)
    with pytest.raises(UserError, match="screen 7: the screen cannot be read"):
        list(open_source("screen 7"))
