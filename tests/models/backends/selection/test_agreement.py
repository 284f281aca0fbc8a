"""Whether detections agree: equal ones do, moved, missing, renamed ones do not."""

import numpy as np
import pytest

from graftdet.models.backends.selection.agreement import compare_detections
from graftdet.models.inference.detections import Detections


def detections(boxes, scores, labels):
    return Detections(
        np.float32(boxes), np.float32(scores), np.int64(labels), ["a", "b"], np.zeros((9, 9, 3), np.uint8)
    )


@pytest.fixture
def found():
    random = np.random.default_rng(0)
    corners = random.uniform(0, 400, (30, 2))
    boxes = np.hstack((corners, corners + random.uniform(80, 90, (30, 2))))
    return boxes, np.linspace(0.9, 0.3, 30), random.integers(0, 2, 30)


def test_equal_detections_agree(found):
    result = compare_detections([detections(*found)], [detections(*found)])
    assert result.holds and result.iou == pytest.approx(1) and result.score_difference == 0 and result.boxes == 60


@pytest.mark.parametrize("change", ["moved", "missing", "label", "score"])
def test_other_detections_do_not(change, found):
    boxes, scores, labels = (part.copy() for part in found)
    if change == "moved":
        boxes += 1.5
    elif change == "missing":
        boxes, scores, labels = boxes[2:], scores[2:], labels[2:]
    elif change == "label":
        labels[:3] = 1 - labels[:3]
    else:
        scores -= 0.03
    for pair in ((found, (boxes, scores, labels)), ((boxes, scores, labels), found)):
        result = compare_detections([detections(*pair[0])], [detections(*pair[1])])
        assert not result.holds and result.iou > 0.5, result


def test_a_box_just_below_the_threshold_is_not_missing(found):
    boxes, scores, labels = found
    other = scores - 0.01
    scores[-1], other[-1] = 0.251, 0.249
    assert compare_detections([detections(boxes, scores, labels)], [detections(boxes, other, labels)]).holds


def test_without_boxes_nothing_is_known():
    none = detections(np.zeros((0, 4)), [], [])
    result = compare_detections([none], [none])
    assert not result.holds and str(result) == "no boxes to compare"


def test_the_best_boxes_count_where_scores_are_low(found):
    boxes, scores, labels = found
    low = detections(boxes, scores / 10, labels)
    assert compare_detections([low], [low]).boxes == 20
