"""Tracking: one id per object, in everything that detect.py writes."""

import csv
import json
import sys

import cv2
import numpy as np
import pytest

from graftdet import detect
from graftdet.models.inference.detections import Detections
from graftdet.models.inference.output_files import mot_lines
from graftdet.models.inference.predictor import Predictor
from graftdet.models.inference.tracking import SequenceTracker
from graftdet.utils.errors import UserError
from graftdet.utils.images.io import write_image
from graftdet.utils.images.video import VideoWriter
from graftdet.utils.sources.frame import Frame, SourceInfo

IMAGE = np.zeros((240, 320, 3), np.uint8)
VIDEO = SourceInfo("video", 30.0, 20)


def make_detections(boxes, scores=None):
    boxes = np.asarray(boxes, np.float32).reshape(-1, 4)
    scores = np.full(len(boxes), 0.9, np.float32) if scores is None else np.asarray(scores, np.float32)
    return Detections(boxes, scores, np.zeros(len(boxes), np.int64), ["mark"], IMAGE)


def frame_of(path, index, info=VIDEO):
    return Frame(IMAGE, path, index, info)


def square(x, y, side=30):
    return [x, y, x + side, y + side]


def moving(t):
    """Two objects that pass each other at different heights."""
    return square(20 + 8 * t, 40), square(260 - 8 * t, 120)


@pytest.fixture
def package():
    pytest.importorskip("trackers")


@pytest.mark.usefixtures("package")
def test_ids_stay_with_their_objects_whatever_the_order():
    tracker, seen = SequenceTracker("bytetrack"), {0: set(), 1: set()}
    for t in range(20):
        objects = moving(t)
        order = (1, 0) if t % 2 else (0, 1)
        tracked = tracker.update(frame_of("a.mp4", t), make_detections([objects[k] for k in order]))
        assert tracked.boxes.tolist() == [list(map(float, objects[k])) for k in order]  # the order stays
        for k, track in zip(order, tracked.track_ids.tolist()):
            if track > 0:
                seen[k].add(track)
    assert {len(ids) for ids in seen.values()} == {1} and seen[0] | seen[1] == {1, 2}


@pytest.mark.usefixtures("package")
def test_low_scores_continue_tracks_but_start_none():
    tracker, last = SequenceTracker("bytetrack"), None
    for t in range(12):
        boxes, scores = moving(t), [0.9 if t < 6 else 0.3, 0.3]
        last = tracker.update(frame_of("a.mp4", t), make_detections(boxes, scores))
    assert last.track_ids.tolist() == [1, -1]
    assert [one["track"] for one in last.to_dicts()] == [1, None]


@pytest.mark.usefixtures("package")
def test_sequences_have_their_own_tracks():
    """Two videos read in turns, and two folders of images."""
    for first, second, info in (("a.mp4", "b.mp4", VIDEO), ("x/1.jpg", "y/1.jpg", SourceInfo("image"))):
        tracker = SequenceTracker("bytetrack")
        for t in range(5):
            one = tracker.update(frame_of(first, t, info), make_detections([square(20 + 5 * t, 40)]))
            other = tracker.update(frame_of(second, t, info), make_detections([square(250 - 5 * t, 150)]))
            empty = tracker.update(frame_of("c.mp4", t), make_detections([]))
        assert one.track_ids.tolist() == other.track_ids.tolist() == [1] and empty.track_ids.tolist() == []


def test_the_message_about_the_missing_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "trackers", None)
    with pytest.raises(UserError, match=r"--track: tracking needs trackers; .*pip install 'graftdet\[track\]'"):
        SequenceTracker("bytetrack")
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(UserError, match="to_supervision: needs supervision; install it with 'pip install supervision'"):
        make_detections([]).to_supervision()


def test_detections_as_those_of_supervision():
    pytest.importorskip("supervision")
    converted = make_detections([square(3, 4), square(50, 60)], [0.9, 0.5]).to_supervision()
    assert converted.xyxy.tolist() == [[3, 4, 33, 34], [50, 60, 80, 90]]
    assert converted.confidence.tolist() == pytest.approx([0.9, 0.5])
    assert converted.class_id.tolist() == [0, 0] and converted["class_name"].tolist() == ["mark", "mark"]
    assert len(make_detections([]).to_supervision()) == 0


def test_lines_of_a_mot_file():
    boxes = np.array([[10, 20, 40, 60.5], [1, 2, 3, 4]])
    assert mot_lines(7, boxes, np.array([0.75, 0.5]), np.array([3, -1])) == [
        "7,3,10.00,20.00,30.00,40.50,0.7500,-1,-1,-1\n"
    ]


class FindsRed(Predictor):
    """Reports each red rectangle."""

    def __init__(self):
        self.names, self.stride, self.train_size = ["mark"], 32, 320

    def forward(self, images):
        boxes, scores = np.zeros((len(images), 2, 4), np.float32), np.zeros((len(images), 2, 1), np.float32)
        for index, (red, green, _blue) in enumerate(np.asarray(images, np.float32)):
            mask = ((red > 150) & (green < 100)).astype(np.uint8)
            found = [row for row in cv2.connectedComponentsWithStats(mask)[2][1:] if row[4] > 100][:2]
            for row, (x, y, width, height, _area) in enumerate(found):
                boxes[index, row], scores[index, row] = (x, y, x + width, y + height), 0.9
        return boxes, scores


@pytest.mark.usefixtures("package")
def test_what_detect_writes(monkeypatch, tmp_path):
    """A video of two moving squares."""
    writer = VideoWriter(tmp_path / "squares.mp4", 10)
    for t in range(12):
        image = np.full((240, 320, 3), 90, np.uint8)
        for x1, y1, x2, y2 in moving(t):
            image[y1:y2, x1:x2] = (0, 0, 255)
        writer.write(image)
    writer.close()
    monkeypatch.setattr(detect, "load_models", lambda *args: FindsRed())
    flags = ["--weights", "none.pt", "--source", tmp_path / "squares.mp4", "--project", tmp_path / "runs"]
    detect.main([str(flag) for flag in [*flags, "--track", "bytetrack", "--save-json", "--save-csv"]])
    folder = tmp_path / "runs" / "exp"

    rows = [line.split(",") for line in (folder / "tracks" / "squares.txt").read_text().splitlines()]
    assert {row[1] for row in rows} == {"1", "2"} and all(row[7:] == ["-1", "-1", "-1"] for row in rows)
    assert {int(row[0]) for row in rows} == set(range(2, 13))  # an object has its id in its second frame
    upper = [row for row in rows if float(row[3]) < 80]
    assert len({row[1] for row in upper}) == 1
    assert [float(row[2]) for row in upper] == pytest.approx([20 + 8 * t for t in range(1, 12)], abs=3)

    records = json.loads((folder / "detections.json").read_text())
    assert [one["track"] for one in records[0]["detections"]] == [None, None]
    assert all(sorted(one["track"] for one in record["detections"]) == [1, 2] for record in records[1:])
    with open(folder / "detections.csv", newline="") as file:
        table = list(csv.DictReader(file))
    assert {row["track"] for row in table} == {"", "1", "2"}
    assert (folder / "squares.mp4").is_file()


def test_ids_are_drawn():
    plain = make_detections([square(100, 100)])
    tracked = make_detections([square(100, 100)])
    tracked.track_ids = np.array([7])
    untracked = make_detections([square(100, 100)])
    untracked.track_ids = np.array([-1])
    assert (plain.draw() != tracked.draw()).any() and (plain.draw() == untracked.draw()).all()


def test_without_tracking_nothing_is_imported(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "trackers", None)
    monkeypatch.setattr(detect, "load_models", lambda *args: FindsRed())
    write_image(tmp_path / "a.png", IMAGE)
    flags = ["--weights", "none.pt", "--source", tmp_path / "a.png", "--project", tmp_path / "runs", "--save-json"]
    detect.main([str(flag) for flag in flags])
    assert not (tmp_path / "runs" / "exp" / "tracks").exists()
