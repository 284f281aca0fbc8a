"""What detect.py writes of videos, animations and streams, and how boxes are drawn."""

import json
import time

import cv2
import numpy as np
import pytest

from graftdet import detect
from graftdet.utils.images.io import read_image, write_image
from graftdet.utils.images.video import VideoWriter, open_capture, read_frames
from graftdet.utils.sources import live
from graftdet.utils.sources import source as source_module


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def run(weights, source, tmp_path, *more):
    argv = ["--weights", weights, "--source", source, "--project", tmp_path / "runs", "--device", "cpu", "--conf", 0.3]
    detect.main([str(argument) for argument in [*argv, "--iou", 0.3, "--backend", "torch", *more]])
    return sorted((tmp_path / "runs").iterdir(), key=lambda p: p.stat().st_mtime_ns)[-1]


def test_each_stream_has_its_own_video(tiny_weights, tmp_path, monkeypatch):
    """Frames of two streams alternate; each stream becomes one complete video of its own size."""

    class Stream:
        def __init__(self, target):
            self.left, self.size = 8, (48, 64) if target.endswith("a") else (32, 96)

        def isOpened(self):
            return True

        def read(self):
            time.sleep(0.05)
            self.left -= 1
            return (True, noise(*self.size)) if self.left >= 0 else (False, None)

        def get(self, _):
            return 0.0

        def release(self):
            pass

    class Group(live.LiveGroup):
        def __init__(self, targets, captures, stride):
            super().__init__(targets, captures, stride, pause=0.001, opener=lambda _: EndedStream())

    class EndedStream(Stream):
        def __init__(self):
            super().__init__("a")
            self.left = 0

    monkeypatch.setattr(source_module, "open_live", Stream)
    monkeypatch.setattr(source_module, "LiveGroup", Group)
    folder = run(tiny_weights, "rtsp://x/a", tmp_path, "--source", "rtsp://x/a", "rtsp://x/b", "--save-json")
    videos = {path.stem: path for path in folder.iterdir() if path.suffix in (".mp4", ".avi")}
    assert set(videos) == {"x_a", "x_b"}
    records = json.loads((folder / "detections.json").read_text())
    for name, size in (("a", (64, 48)), ("b", (96, 32))):
        capture = open_capture(str(videos[f"x_{name}"]))
        assert (capture.get(cv2.CAP_PROP_FRAME_WIDTH), capture.get(cv2.CAP_PROP_FRAME_HEIGHT)) == size
        written = sum(1 for _ in read_frames(capture))
        assert written == sum(record["source"].endswith(name) for record in records) >= 2


def test_vid_stride_and_animations(tiny_weights, tmp_path):
    with VideoWriter(tmp_path / "clip", 20) as writer:
        for index in range(7):
            writer.write(noise(48, 64, index))
    folder = run(tiny_weights, writer.path, tmp_path, "--vid-stride", "3", "--save-json")
    assert [record["frame"] for record in json.loads((folder / "detections.json").read_text())] == [0, 1, 2]
    capture = open_capture(str(next(folder.glob("clip.*"))))
    assert capture.get(cv2.CAP_PROP_FPS) == pytest.approx(20 / 3, rel=0.01)
    if not hasattr(cv2, "imencodeanimation"):
        return
    animated = cv2.Animation()
    animated.frames = [np.dstack((noise(48, 64, seed), np.full((48, 64), 255, np.uint8))) for seed in range(3)]
    animated.durations = np.array([100, 300, 200], np.int32)
    (tmp_path / "moving.gif").write_bytes(cv2.imencodeanimation(".gif", animated)[1].tobytes())
    folder = run(tiny_weights, tmp_path / "moving.gif", tmp_path, "--save-json")
    assert len(json.loads((folder / "detections.json").read_text())) == 3
    assert sum(1 for _ in read_frames(open_capture(str(next(folder.glob("moving.*")))))) == 6  # as long as the original


def test_drawing_flags(tiny_weights, tmp_path):
    write_image(tmp_path / "a b.png", noise(64, 96))

    def drawn(*more):
        return (read_image(run(tiny_weights, tmp_path / "a b.png", tmp_path, *more) / "a b.png")).astype(int)

    plain, thick, bare, nameless = (
        drawn(),
        drawn("--line-thickness", "5", "--hide-labels"),
        drawn("--hide-labels"),
        drawn("--hide-conf"),
    )
    original = read_image(tmp_path / "a b.png").astype(int)
    changed = [int((one != original).any(axis=2).sum()) for one in (bare, nameless, plain, thick)]
    assert 0 < changed[0] < changed[1] < changed[2] and changed[3] > changed[0]
