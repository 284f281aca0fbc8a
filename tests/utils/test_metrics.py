import numpy as np
import pytest

from utils.metrics import CONFIDENCES, ConfusionMatrix, match_detections, precision_recall_curves

A, B, FAR = [0, 0, 10, 10], [20, 0, 30, 10], [80, 80, 90, 90]


def arrays(boxes, labels):
    return np.array(boxes, float).reshape(-1, 4), np.array(labels, int)


@pytest.mark.parametrize("boxes, labels, true_boxes, true_labels, crowd, expected", [
    ([A], [0], [A], [0], [False], [1]),
    ([A], [1], [A], [0], [False], [0]),  # another class
    ([A, A], [0, 0], [A], [0], [False], [1, 0]),  # the second finds it taken
    ([A, B, FAR], [0, 0, 0], [B, A], [0, 0], [False, False], [1, 1, 0]),
    ([[0, 0, 10, 5]], [0], [A], [0], [False], [1]),  # IoU 0.5 is enough
    ([[0, 0, 10, 4.9]], [0], [A], [0], [False], [0]),
    ([[1, 0, 11, 10], A], [0, 0], [A, [2, 0, 12, 10]], [0, 0], [False, False], [1, 1]),  # takes a free one
    ([A, A, FAR], [0, 0, 0], [[0, 0, 50, 50]], [0], [True], [-1, -1, 0]),  # crowds take any number
    ([A], [1], [[0, 0, 50, 50]], [0], [True], [0]),  # of their class
    ([A, [1, 1, 9, 9]], [0, 0], [A, [0, 0, 50, 50]], [0, 0], [False, True], [1, -1]),  # a true box before a crowd
    ([], [], [A], [0], [False], []),
    ([A], [0], [], [], [], [0]),
])  # fmt: skip
def test_match_detections(boxes, labels, true_boxes, true_labels, crowd, expected):
    truth = arrays(true_boxes, true_labels)
    assert match_detections(*arrays(boxes, labels), *truth, np.array(crowd, bool)).tolist() == expected


def at(confidence):
    return int(np.abs(CONFIDENCES - confidence).argmin())


def test_curves_known_case():
    matches, scores, labels = [1, 0, 1, -1, 1], [0.9, 0.8, 0.6, 0.55, 0.3], [0, 0, 0, 0, 1]
    curves = precision_recall_curves(matches, scores, labels, [4, 1, 0])
    assert curves.precision[0, [at(0.95), at(0.9), at(0.7), at(0.6), at(0)]].tolist() == [1, 1, 0.5, 2 / 3, 2 / 3]
    assert curves.recall[0, [at(0.95), at(0.9), at(0.7), at(0.6), at(0)]].tolist() == [0, 0.25, 0.25, 0.5, 0.5]
    assert curves.f1[0, at(0.6)] == pytest.approx(2 * (2 / 3) * 0.5 / (2 / 3 + 0.5))
    assert curves.at_recall[0, [0, 25, 26, 50, 51, 100]].tolist() == pytest.approx([1, 1, 2 / 3, 2 / 3, 0, 0])
    assert (curves.precision[2] == 0).all()
    mean = curves.mean("f1")  # the class without true boxes has no part in it
    assert mean[at(0.2)] == pytest.approx((4 / 7 + 1) / 2)
    assert curves.best == mean.argmax() and curves.confidence[curves.best] <= 0.3


def test_curves_of_nothing():
    curves = precision_recall_curves([], [], [], [3, 0])
    assert curves.mean("precision").max() == curves.mean("f1").max() == 0
    assert precision_recall_curves([], [], [], [0, 0]).mean("recall").shape == CONFIDENCES.shape
    assert precision_recall_curves([0], [0.5], [0], [0]).mean("recall").max() == 0


def test_recall_falls_and_envelope_falls_with_random_data():
    rng = np.random.default_rng(0)
    matches, scores, labels = rng.integers(-1, 2, 500), rng.uniform(0, 1, 500), rng.integers(0, 4, 500)
    curves = precision_recall_curves(matches, scores, labels, [100, 80, 70, 90])
    assert (np.diff(curves.recall) <= 0).all()
    assert (np.diff(curves.at_recall) <= 0).all()
    for k in range(4):  # the plain definition at one confidence
        chosen = (labels == k) & (scores >= 0.4)
        hits, misses = (matches[chosen] == 1).sum(), (matches[chosen] == 0).sum()
        assert curves.precision[k, at(0.4)] == pytest.approx(hits / (hits + misses))
        assert curves.recall[k, at(0.4)] == pytest.approx(hits / curves.instances[k])


def test_confusion_matrix_known_case():
    confusion = ConfusionMatrix(2)
    detections = np.array([
        [*A, 0.9, 0],  # right
        [*B, 0.8, 0],  # takes class 1 for class 0
        [*FAR, 0.7, 1],  # nothing there
        [*A, 0.6, 1],  # the true box has the right class already
        [*B, 0.2, 1],  # below the confidence
    ])  # fmt: skip
    truth = arrays([A, B, [50, 50, 60, 60]], [0, 1, 1])
    confusion.update(detections, *truth, [False, False, False])
    assert confusion.matrix.tolist() == [[1, 1, 0], [0, 0, 2], [0, 1, 0]]


def test_confusion_matrix_most_overlap_first_and_crowds():
    confusion = ConfusionMatrix(1)
    detections = np.array([[2, 0, 12, 10, 0.9, 0], [*A, 0.5, 0], [60, 60, 70, 70, 0.9, 0]])
    confusion.update(detections, *arrays([A, [50, 50, 90, 90]], [0, 0]), [False, True])
    assert confusion.matrix.tolist() == [[1, 1], [0, 0]]
    confusion.update(np.zeros((0, 6)), *arrays([], []), [])
    confusion.update(np.zeros((0, 6)), *arrays([A], [0]), [False])
    confusion.update(detections[:1], *arrays([], []), [])
    assert confusion.matrix.tolist() == [[1, 2], [1, 0]]
