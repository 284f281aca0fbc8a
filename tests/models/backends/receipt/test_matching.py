"""Detections matched one to one."""

import numpy as np

from graftdet.models.backends.receipt.matching import match_detections
from graftdet.models.inference.detections import Detections


def detections(*rows):
    """Of rows x1, y1, x2, y2, score, class."""
    rows = np.asarray(rows, np.float32).reshape(-1, 6)
    return Detections(rows[:, :4], rows[:, 4], rows[:, 5].astype(int), ["a", "b"], np.zeros((8, 8, 3), np.uint8))


BOX = (0, 0, 100, 100, 0.9, 0)


def test_equal_detections_match():
    found = match_detections(
        [detections(BOX, (5, 5, 9, 9, 0.3, 1)), detections()], [detections((5, 5, 9, 9, 0.3, 1), BOX), detections()]
    )
    assert (found.boxes, found.matched, found.fraction) == (2, 2, 1.0)
    assert match_detections([detections()], [detections()]).fraction == 1.0


def test_class_position_and_score_must_agree():
    for other in [(0, 0, 100, 100, 0.9, 1), (0, 0, 100, 90, 0.9, 0), (0, 0, 100, 100, 0.88, 0)]:
        assert match_detections([detections(BOX)], [detections(other)]).matched == 0, other
    near = match_detections([detections(BOX)], [detections((0, 0, 100, 98, 0.895, 0))])
    assert near.matched == 1 and near.box_difference == 2 and abs(near.score_difference - 0.005) < 1e-6


def test_each_detection_matches_once_and_the_larger_side_counts():
    twice = match_detections([detections(BOX, BOX)], [detections(BOX)])
    assert (twice.boxes, twice.matched, twice.fraction) == (2, 1, 0.5)
    more = match_detections([detections(BOX)], [detections(BOX, (5, 5, 9, 9, 0.3, 1))])
    assert (more.boxes, more.matched) == (2, 1)
