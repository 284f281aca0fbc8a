"""What detect.py writes of videos, animations and streams, how boxes are drawn, and how files are named."""

import csv
import json
import logging
import threading
import time

import cv2
import numpy as np
import pytest

from graftdet.models.inference.detection_writer import DetectionWriter, OutputSettings
from graftdet.models.inference.detections import Detections
from graftdet.models.inference.output_files import CSV_COLUMNS, DetectionsCsv
from graftdet.utils.images.io import read_image, write_image
from graftdet.utils.images.video import VideoWriter, open_capture, read_frames
from graftdet.utils.sources import live
from graftdet.utils.sources import source as source_module
from graftdet.utils.sources.source import open_source


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def test_each_stream_has_its_own_video(run_detect, tiny_weights, monkeypatch, tmp_path):
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
    with pytest.raises(SystemExit, match="1"):  # streams do not end by themselves: both were lost
        run_detect(tiny_weights, "rtsp://x/a", "--source", "rtsp://x/a", "rtsp://x/b", "--save-json")
    (folder,) = (tmp_path / "runs").iterdir()
    videos = {path.stem: path for path in folder.iterdir() if path.suffix in (".mp4", ".avi")}
    assert set(videos) == {"x_a", "x_b"}
    records = json.loads((folder / "detections.json").read_text())
    for name, size in (("a", (64, 48)), ("b", (96, 32))):
        capture = open_capture(str(videos[f"x_{name}"]))
        assert (capture.get(cv2.CAP_PROP_FRAME_WIDTH), capture.get(cv2.CAP_PROP_FRAME_HEIGHT)) == size
        written = sum(1 for _ in read_frames(capture))
        assert written == sum(record["source"].endswith(name) for record in records) >= 2


def test_vid_stride_and_animations(run_detect, tiny_weights, tmp_path):
    with VideoWriter(tmp_path / "clip", 20) as writer:
        for index in range(7):
            writer.write(noise(48, 64, index))
    folder = run_detect(tiny_weights, writer.path, "--vid-stride", "3", "--save-json")
    assert [record["frame"] for record in json.loads((folder / "detections.json").read_text())] == [0, 1, 2]
    capture = open_capture(str(next(folder.glob("clip.*"))))
    assert capture.get(cv2.CAP_PROP_FPS) == pytest.approx(20 / 3, rel=0.01)
    if not hasattr(cv2, "imencodeanimation"):
        return
    animated = cv2.Animation()
    animated.frames = [np.dstack((noise(48, 64, seed), np.full((48, 64), 255, np.uint8))) for seed in range(3)]
    animated.durations = np.array([100, 300, 200], np.int32)
    (tmp_path / "moving.gif").write_bytes(cv2.imencodeanimation(".gif", animated)[1].tobytes())
    folder = run_detect(tiny_weights, tmp_path / "moving.gif", "--save-json")
    assert len(json.loads((folder / "detections.json").read_text())) == 3
    assert sum(1 for _ in read_frames(open_capture(str(next(folder.glob("moving.*")))))) == 6  # as long as the original


@pytest.mark.parametrize(("fps", "size", "frames"), [(25, (64, 48), 7), (12.5, (65, 47), 5)])
def test_a_video_has_the_frames_rate_and_size_of_its_source(run_detect, tiny_weights, tmp_path, fps, size, frames):
    with VideoWriter(tmp_path / "clip", fps) as writer:
        for index in range(frames):
            writer.write(noise(size[1], size[0], index))
    source = writer.path
    folder = run_detect(tiny_weights, source, "--save-txt", "--save-csv", "--batch-size", "3")
    (written,) = [path for path in folder.iterdir() if path.suffix in (".mp4", ".avi")]
    capture = open_capture(str(written))
    assert capture.get(cv2.CAP_PROP_FPS) == pytest.approx(fps, rel=0.01)
    assert (capture.get(cv2.CAP_PROP_FRAME_WIDTH), capture.get(cv2.CAP_PROP_FRAME_HEIGHT)) == size
    count = 0
    while capture.read()[0]:
        count += 1
    assert count == frames
    assert {path.name for path in (folder / "labels").iterdir()} <= {f"clip_{i + 1}.txt" for i in range(frames)}
    rows = list(csv.DictReader(open(folder / "detections.csv", newline="")))
    assert {row["frame"] for row in rows} <= {str(i) for i in range(frames)}


def test_outdated_frames_of_a_stream_are_skipped(run_detect, tiny_weights, monkeypatch, window):
    """Frames that arrive faster than the model runs are skipped, not queued; q ends the run and the stream."""
    came, shown = [], []

    class Camera:
        def isOpened(self):
            return True

        def read(self):
            time.sleep(0.002)
            came.append(len(came))
            return True, noise(48, 64)

        def get(self, _):
            return 0.0

        def release(self):
            pass

    def show(title, image):
        shown.append(image.shape)
        time.sleep(0.03)

    monkeypatch.setattr(source_module, "open_live", lambda target: Camera())
    monkeypatch.setattr(cv2, "imshow", show)
    window.press = lambda milliseconds: ord("q") if len(shown) == 5 or len(came) > 200 else -1
    run_detect(tiny_weights, "0", "--view", "--no-save", "--save-json")
    assert len(shown) < len(came)
    assert {thread.name for thread in threading.enumerate()}.isdisjoint({"read", "step 0", "step 1", "step 2"})


@pytest.mark.parametrize("video_first", [True, False])
def test_a_frame_and_an_image_of_its_name_get_different_files(run_detect, video_first, tiny_weights, tmp_path):
    with VideoWriter(tmp_path / "a", 10) as writer:
        writer.write(noise(48, 64))
    write_image(tmp_path / "a_1.png", noise(48, 64, 1))
    sources = [writer.path.name, "a_1.png"]
    (tmp_path / "list.txt").write_text("\n".join(sources if video_first else sources[::-1]))
    folder = run_detect(tiny_weights, tmp_path / "list.txt", "--save-txt", "--save-crop", "--save-json")
    records = json.loads((folder / "detections.json").read_text())
    detections = [len(record["detections"]) for record in records]
    lines = [len(path.read_text().splitlines()) for path in (folder / "labels").iterdir()]
    assert min(detections) > 0 and sorted(lines) == sorted(detections)
    assert len(list((folder / "crops").rglob("*.jpg"))) == sum(detections)
    (image,) = folder.glob("*.png")
    assert (folder / "labels" / f"{image.stem}.txt").read_text().count("\n") == detections[video_first]


def test_counts_of_an_image_are_in_the_order_of_the_classes(tmp_path, caplog):
    settings = OutputSettings(project=tmp_path, name="exp", save_images=False)
    (frame,) = open_source(write_gray(tmp_path / "a.png"))
    boxes, names = np.zeros((4, 4)), ["cat", "dog", "cow"]
    for labels in ([2, 0, 0, 2], [0, 2, 2, 0]):
        caplog.clear()
        with caplog.at_level(logging.INFO):
            detections = Detections(boxes, np.full(4, 0.5), np.array(labels), names, frame.image)
            DetectionWriter(settings).add(frame, detections, None)
        assert caplog.messages[0].endswith("a.png: 2 cat, 2 cow")


def write_gray(path):
    write_image(path, np.full((8, 8, 3), 99, np.uint8))
    return path


def test_drawing_flags(run_detect, tiny_weights, tmp_path):
    write_image(tmp_path / "a b.png", noise(64, 96))

    def drawn(*more):
        return (read_image(run_detect(tiny_weights, tmp_path / "a b.png", *more) / "a b.png")).astype(int)

    plain, thick, bare, nameless = (
        drawn(),
        drawn("--line-thickness", "5", "--hide-labels"),
        drawn("--hide-labels"),
        drawn("--hide-conf"),
    )
    original = read_image(tmp_path / "a b.png").astype(int)
    changed = [int((one != original).any(axis=2).sum()) for one in (bare, nameless, plain, thick)]
    assert 0 < changed[0] < changed[1] < changed[2] and changed[3] > changed[0]


def test_lines_of_a_frame_are_in_the_csv_file_at_once(tmp_path):
    path = tmp_path / "detections.csv"
    table = DetectionsCsv(path, tracked=True)
    assert path.read_text().strip() == ",".join((*CSV_COLUMNS, "track"))
    detection = {"name": "cat", "label": 3, "score": 0.5, "box": [1, 2.5, 3, 4]}
    table.add(
        {"source": "rtsp://a", "frame": 7, "detections": [{**detection, "track": 9}, {**detection, "track": None}]}
    )
    lines = path.read_text().splitlines()[1:]
    assert lines == ["rtsp://a,7,cat,3,0.5000,1.00,2.50,3.00,4.00,9", "rtsp://a,7,cat,3,0.5000,1.00,2.50,3.00,4.00,"]
    table.add({"source": "a.png", "frame": None, "detections": []})
    table.close()
    assert len(path.read_text().splitlines()) == 3
