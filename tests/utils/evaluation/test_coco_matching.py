"""Matching all images at once: known cases, one detection after the other as the reference, any number of pairs at once."""

import numpy as np
import pytest

from graftdet.utils.evaluation import coco_matching as matching
from graftdet.utils.evaluation.coco_matching import (
    AREA_RANGES,
    FALSE_POSITIVE,
    IGNORED,
    IOU_THRESHOLDS,
    TRUE_POSITIVE,
    Boxes,
    iterate_pairs,
    match,
)

A, B, FAR = [0, 0, 10, 10], [20, 0, 10, 10], [80, 80, 10, 10]  # xywh


def boxes(xywh, labels, images=None, **more):
    xywh, labels = np.array(xywh, float).reshape(-1, 4), np.array(labels, int)
    images = np.zeros(len(labels), int) if images is None else images
    return Boxes(images, labels, xywh, xywh[:, 2] * xywh[:, 3], **{key: np.array(value) for key, value in more.items()})


def at_half(detections, labels, true, true_labels, crowd):
    scores = np.linspace(1, 0.1, len(labels))
    truth = boxes(true, true_labels, crowd=np.array(crowd, bool))
    return match(truth, boxes(detections, labels, score=scores), 2).at_iou_50().tolist()


@pytest.mark.parametrize(
    ("detections", "labels", "true", "true_labels", "crowd", "expected"),
    [
        ([A], [0], [A], [0], [False], [1]),
        ([A], [1], [A], [0], [False], [0]),  # another class
        ([A, A], [0, 0], [A], [0], [False], [1, 0]),  # the second finds it taken
        ([A, B, FAR], [0, 0, 0], [B, A], [0, 0], [False, False], [1, 1, 0]),
        ([[0, 0, 10, 5]], [0], [A], [0], [False], [1]),  # IoU 0.5 is enough
        ([[0, 0, 10, 4.9]], [0], [A], [0], [False], [0]),
        ([[1, 0, 10, 10], A], [0, 0], [A, [2, 0, 10, 10]], [0, 0], [False, False], [1, 1]),  # takes a free one
        ([A, A, FAR], [0, 0, 0], [[0, 0, 50, 50]], [0], [True], [-1, -1, 0]),  # crowds take any number
        ([A], [1], [[0, 0, 50, 50]], [0], [True], [0]),  # of their class
        (
            [A, [1, 1, 8, 8]],
            [0, 0],
            [A, [0, 0, 50, 50]],
            [0, 0],
            [False, True],
            [1, -1],
        ),  # a ground-truth box before a crowd
        ([], [], [A], [0], [False], []),
        ([A], [0], [], [], [], [0]),
    ],
)
def test_known_cases(detections, labels, true, true_labels, crowd, expected):
    assert at_half(detections, labels, true, true_labels, crowd) == expected


def random_results(seed, images=15, classes=3):
    """Boxes of whole numbers, some of equal overlap, and detections with scores of one digit."""
    rng = np.random.default_rng(seed)

    def some(count):
        xywh = np.concatenate((rng.integers(0, 60, (count, 2)), rng.integers(10, 120, (count, 2))), 1)
        return xywh, rng.integers(0, classes, count), rng.integers(0, images, count)

    truth = boxes(*some(200), crowd=rng.uniform(size=200) < 0.1)
    return truth, boxes(*some(900), score=rng.uniform(size=900).round(1))


def match_in_loops(truth, detections, threshold, area):
    """The rule of COCO's evaluator, a detection at a time."""
    result = np.full(len(detections), FALSE_POSITIVE)
    ignored = truth.crowd | (truth.area < area[0]) | (truth.area > area[1])
    taken = np.zeros(len(truth), bool)
    for i in np.argsort(-detections.score, kind="stable"):
        best, overlap_of_best = None, threshold
        candidates = np.flatnonzero((truth.image == detections.image[i]) & (truth.category == detections.category[i]))
        for j in candidates[np.argsort(ignored[candidates], kind="stable")]:
            if best is not None and not ignored[best] and ignored[j]:
                break
            low = np.maximum(detections.xywh[i, :2], truth.xywh[j, :2])
            high = np.minimum(detections.xywh[i, :2] + detections.xywh[i, 2:], truth.xywh[j, :2] + truth.xywh[j, 2:])
            shared = (high - low).clip(0).prod()
            overlap = shared / (detections.area[i] if truth.crowd[j] else detections.area[i] + truth.area[j] - shared)
            if overlap >= overlap_of_best and (truth.crowd[j] or not taken[j]):
                best, overlap_of_best = j, overlap
        if best is not None:
            taken[best], result[i] = True, IGNORED if ignored[best] else TRUE_POSITIVE
    return result


@pytest.mark.parametrize("seed", range(3))
def test_vectorized_matching_equals_a_loop(seed):
    truth, detections = random_results(seed)
    matches = match(truth, detections, 3)
    table = np.zeros((len(detections), len(IOU_THRESHOLDS), len(AREA_RANGES)), int)
    table[matches.order[matches.rows]] = matches.table
    for t in (0, 3, 8):
        for a, area in enumerate(AREA_RANGES):
            assert (table[:, t, a] == match_in_loops(truth, detections, IOU_THRESHOLDS[t], area)).all(), (t, a)
    assert (matches.at_iou_50() == table[:, 0, 0]).all() and {-1, 0, 1} == {*matches.at_iou_50()}


def test_processing_pairs_in_chunks_does_not_change_the_result(monkeypatch):
    starts, ends = np.array([3, 0, 5, 5, 2]), np.array([4, 6, 5, 6, 9])
    expected = [(i, j) for i in range(5) for j in range(starts[i], ends[i])]
    truth, detections = random_results(7)
    all_at_once = match(truth, detections, 3)
    for at_once in (1, 3, 1000):
        monkeypatch.setattr(matching, "PAIRS_PER_CHUNK", at_once)
        parts = [np.stack(part, 1) for part in iterate_pairs(starts, ends)]
        assert np.concatenate(parts).tolist() == [list(pair) for pair in expected]
        assert max(map(len, parts)) <= max(at_once, 7)
        again = match(truth, detections, 3)
        assert (again.rows == all_at_once.rows).all() and (again.table == all_at_once.table).all()
    assert list(iterate_pairs(starts[:0], ends[:0])) == []
