"""Unknown modules: what follows from the guess of their output is not reported, what is certain is; in bounded time."""

import time

import pytest

from graftdet.models.lint import row_cache
from graftdet.models.lint.check import check_model
from graftdet.utils.config import CONFIGS

YOLO = (CONFIGS / "models" / "yolov5n.yaml").read_text(encoding="utf-8")


@pytest.fixture
def found_in(tmp_path):
    def check(text):
        path = tmp_path / "x.yaml"
        path.write_text(text, encoding="utf-8")
        return [(problem.rule, problem.row) for problem in check_model(path)]

    return check


def yolo_with(**modules):
    text = YOLO
    for old, new in modules.items():
        text = text.replace(f" {old},", f" {new},")
    return text


def test_nothing_follows_from_unknown_modules(found_in):
    """A backbone of unknown modules of which some change the size in a way that nobody can know."""
    rows = """nc: 2
anchors: 3
backbone:
  - [-1, 1, Mystery, [64]]  # 0: 1/4
  - [-1, 1, MysteryStage, [64, 3]]  # 1: 1/12
  - [-1, 1, Conv, [96, 3, 1, None, 3]]  # 2: groups that may divide the width
  - [-1, 1, MysteryStage, [128, 2]]  # 3
head:
  - [[-1, 2], 1, Concat, [1]]  # 4
  - [[-1, 1], 1, ADD, []]  # 5
  - [[-1], 1, Detect, [nc, anchors]]  # 6
"""
    assert found_in(rows) == [("unknown-module", 0), ("unknown-module", 1), ("unknown-module", 3)]


def test_what_is_certain_is_reported_beside_unknown_modules(found_in):
    text = yolo_with(SPPF="Mystery").replace("[-1, 1, Conv, [512, 1, 1]]  # 10", "[-1, 1, Conv, [512, 1, 0]]  # 10")
    assert found_in(text) == [("unknown-module", 9), ("invalid-arguments", 10)]
    text = yolo_with(SPPF="Mystery").replace("[-1, 9, C3, [512]]", "[-1, 9, C3, {c2: 512, shortcutt: True}]")
    assert found_in(text) == [("invalid-arguments", 6), ("unknown-module", 9)]


def test_all_modules_unknown(found_in):
    text = yolo_with(C3="Mystery", SPPF="MysteryPool", Conv="MysteryConv")
    rows = [row for row in range(24) if row not in (11, 12, 15, 16, 19, 22)]
    assert found_in(text) == [("unknown-module", row) for row in rows]


def test_the_search_for_causes_ends_in_time(found_in, monkeypatch):
    """Without time for it the problems of the first pass are reported."""
    wrong = YOLO.replace("[-1, 1, Conv, [256, 3, 2]]  # 18", "[-1, 1, Conv, [256, 3]]  # 18")
    wrong = wrong.replace("[-1, 1, Conv, [256, 3, 2]]  # 3", "[-1, 1, nn.MaxPool2d, [3, 2]]  # 3")
    assert found_in(wrong) == [("row-misfit", 3), ("row-misfit", 18)]
    monkeypatch.setattr(row_cache.RowCache.__init__, "__defaults__", (0.0,))
    start = time.thread_time()
    found = found_in(wrong)
    assert found and {rule for rule, _ in found} <= {"size-mismatch", "cannot-run"} and time.thread_time() - start < 5


def test_the_time_starts_with_the_search(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(row_cache.time, "thread_time", lambda: now[0])
    monkeypatch.setattr(row_cache, "INTERVAL", 0)
    cache = row_cache.RowCache(2.0)
    now[0] = 100.0
    assert not cache.is_expired
    cache.start_search()
    now[0] = 101.9
    cache.start_search()
    assert not cache.is_expired
    now[0] = 102.1
    assert cache.is_expired
