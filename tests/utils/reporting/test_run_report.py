"""report.html of a run: its sections, hostile names, what it may cost, and that it never ends a training."""

import base64
import logging
import re
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from graftdet.utils.errors import UserError
from graftdet.utils.evaluation.coco_results import CocoResults
from graftdet.utils.evaluation.evaluator import score
from graftdet.utils.images.io import write_image
from graftdet.utils.reporting import run_report, sections
from graftdet.utils.reporting.page import Section
from graftdet.utils.reporting.run_report import RunReport

HOSTILE = "<script>alert('1')</script>"
NAMES = ["cell", HOSTILE, "细胞 $x$"]
INFO = {
    "names": NAMES,
    "options": {"cfg": "tiny.yaml", "data": HOSTILE, "img": 64, "seed": 7},
    "hyperparameters": {"lr0": 0.01},
    "versions": {"torch": "2.13"},
    "train_images": 12,
}


@pytest.fixture
def evaluation():
    """Image 1 is perfect, image 2 has a wrong class and a missed object, image 3 is empty."""
    objects = [(1, 0, [10, 10, 30, 30]), (2, 1, [5, 5, 20, 20]), (2, 2, [40, 30, 20, 20])]
    found = [(1, 0, [10, 10, 30, 30], 0.9), (2, 0, [5, 5, 20, 20], 0.8)]
    truth = {
        "images": [{"id": number} for number in (1, 2, 3)],
        "categories": [{"id": k, "name": name} for k, name in enumerate(NAMES)],
        "annotations": [{"image_id": i, "category_id": k, "bbox": box} for i, k, box in objects],
    }
    results = CocoResults([0, 1, 2])
    for number in (1, 2, 3):
        rows = [(x, y, x + w, y + h, s, k) for i, k, (x, y, w, h), s in found if i == number]
        results.add(number, np.array(rows, np.float32).reshape(-1, 6))
    return score(truth, results, {})


@pytest.fixture
def folder(tmp_path):
    table = (
        "epoch,time,lr,train/box,val/AP50-95,val/AP50,val/precision,val/recall,val/box\n1,2,0.1,3,0.2,0.3,0.4,0.5,4\n"
    )
    (tmp_path / "results.csv").write_text(table)
    for number in (1, 2):
        write_image(tmp_path / f"{HOSTILE.replace('/', '_')}{number}.png", np.full((60, 90, 3), 40 * number, np.uint8))
    return tmp_path


def titles(content):
    return re.findall("<h2>(.*?)</h2>", content)


@pytest.mark.parametrize(("gain", "right"), [(0.0016, 0.01), (0.2, 0.23)])
def test_the_axis_of_small_errors_has_short_numbers(gain, right):
    figure = sections._error_bars([SimpleNamespace(name="missed", ap_gain=gain)])
    assert figure.axes[0].get_xlim() == pytest.approx((0, right))


def test_a_finished_run_has_all_sections(folder, evaluation):
    paths = {n: (str(folder / f"{HOSTILE.replace('/', '_')}{n}.png"), (60, 90)) for n in (1, 2)}
    paths[3] = (str(folder / "missing.png"), (60, 90))

    def missing():
        raise UserError("the dataset has moved")

    report = RunReport(folder, INFO, [lambda: Section("Model", "<p>graph</p>"), missing])
    report.finish(evaluation, paths, {"time": "1:02"})
    content = (folder / "report.html").read_text(encoding="utf-8")
    expected = (
        "Curves, Classes, Precision and recall, Confusion matrix, Size of boxes, Errors, Images, Calibration of scores"
    )
    assert titles(content) == [*expected.split(", "), "Model", "Not available", "Settings"]
    assert "<script" not in content and "&lt;script&gt;" in content and "the dataset has moved" in content
    assert "loss: box" in content and "1:02" in content and "lr0" in content and 'http-equiv="refresh"' not in content
    images = re.findall(r"data:image/jpeg;base64,([^\"]+)", content)
    assert len(images) == 3  # two as the worst, one of them as the best; the third cannot be read
    drawn = cv2.imdecode(np.frombuffer(base64.b64decode(images[0]), np.uint8), cv2.IMREAD_COLOR)
    assert drawn.shape == (213, 646, 3)
    captions = re.findall("<figcaption>(.*?)</figcaption>", content)
    assert [re.sub(".*png: ", "", one) for one in captions] == [
        "0 correct, 0 wrong, 2 missed, F1 0.00",
        *["1 correct, 0 wrong, 0 missed, F1 1.00"] * 2,
    ]


def test_images_that_are_rotated_by_the_reader_are_not_drawn(folder, evaluation):
    path = str(folder / f"{HOSTILE.replace('/', '_')}1.png")
    RunReport(folder, INFO).finish(evaluation, {1: (path, (90, 60))}, {})
    assert "data:image/jpeg" not in (folder / "report.html").read_text(encoding="utf-8")


def test_a_running_training_is_reported_for_a_small_fraction_of_its_time(folder, evaluation, monkeypatch):
    now = [0.0]
    report = RunReport(folder, INFO, clock=lambda: now[0])

    def write(*_):
        now[0] += 1.0

    monkeypatch.setattr(report, "_write_progress", write)
    written = []
    for epoch in range(1, 101):
        now[0] += 2.0
        written.append(report.refresh(epoch, 100, evaluation, now[0]))
    assert written[0] and 3 <= sum(written) <= 1 + 0.02 * now[0]
    monkeypatch.undo()
    report = RunReport(folder, INFO)
    assert report.refresh(1, 9, evaluation, 61.0)
    content = (folder / "report.html").read_text(encoding="utf-8")
    assert titles(content) == ["Curves", "Classes", "Settings"] and "1 of 9" in content and "1:01" in content
    assert 'http-equiv="refresh"' in content
    assert RunReport(folder, INFO).refresh(1, 9, None, 1.0)  # without a validation


def test_an_error_in_a_report_is_a_warning(folder, evaluation, monkeypatch, caplog):
    monkeypatch.setattr(run_report.sections, "errors_section", lambda *_: 1 / 0)
    with caplog.at_level(logging.WARNING):
        RunReport(folder, INFO).finish(evaluation, {}, {})
    assert "report.html: not written (ZeroDivisionError" in caplog.text
