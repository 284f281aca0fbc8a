import numpy as np
import pytest
import torch

from graftdet.models.losses.iou import iou as iou_of_pairs
from graftdet.utils.evaluation.metrics import CONFIDENCES, ConfusionMatrix, one_to_one, precision_recall_curves

A, B, FAR = [0, 0, 10, 10], [20, 0, 30, 10], [80, 80, 90, 90]


def arrays(boxes, labels):
    return np.array(boxes, float).reshape(-1, 4), np.array(labels, int)


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
    mean = curves.mean("f1")  # the class without ground-truth boxes has no part in it
    assert mean[at(0.2)] == pytest.approx((4 / 7 + 1) / 2)
    assert curves.best == mean.argmax() and curves.confidence[curves.best] <= 0.3


def test_a_class_without_detections_at_the_best_confidence_has_precision_0():
    curves = precision_recall_curves([1, 1, 0, 0], [0.9, 0.8, 0.3, 0.2], [0, 0, 0, 1], [2, 3, 0])
    assert 0.3 < curves.confidence[curves.best] <= 0.8 and curves.precision[1, curves.best] == 1
    assert curves.at_best("precision").tolist() == [1, 0, 0] and curves.at_best("recall").tolist() == [1, 0, 0]


def test_curves_without_detections():
    curves = precision_recall_curves([], [], [], [3, 0])
    assert curves.mean("precision").max() == curves.mean("f1").max() == 0
    assert precision_recall_curves([], [], [], [0, 0]).mean("recall").shape == CONFIDENCES.shape
    assert precision_recall_curves([0], [0.5], [0], [0]).mean("recall").max() == 0


def test_recall_decreases_with_confidence_and_precision_with_recall():
    rng = np.random.default_rng(0)
    matches, scores, labels = rng.integers(-1, 2, 500), rng.uniform(0, 1, 500), rng.integers(0, 4, 500)
    curves = precision_recall_curves(matches, scores, labels, [100, 80, 70, 90])
    assert (np.diff(curves.recall) <= 0).all()
    assert (np.diff(curves.at_recall) <= 0).all()
    for k in range(4):  # the plain definition at one confidence
        selected = (labels == k) & (scores >= 0.4)
        hits, misses = (matches[selected] == 1).sum(), (matches[selected] == 0).sum()
        assert curves.precision[k, at(0.4)] == pytest.approx(hits / (hits + misses))
        assert curves.recall[k, at(0.4)] == pytest.approx(hits / curves.instances[k])


def test_confusion_matrix_known_case():
    confusion = ConfusionMatrix(2)
    detections = np.array(
        [
            [*A, 0.9, 0],  # right
            [*B, 0.8, 0],  # takes class 1 for class 0
            [*FAR, 0.7, 1],  # nothing there
            [*A, 0.6, 1],  # the ground-truth box has the right class already
            [*B, 0.2, 1],  # below the confidence
        ]
    )
    truth = arrays([A, B, [50, 50, 60, 60]], [0, 1, 1])
    confusion.update(detections, *truth, [False, False, False])
    assert confusion.matrix.tolist() == [[1, 1, 0], [0, 0, 2], [0, 1, 0]]


def test_confusion_matrix_matches_largest_overlap_first_and_ignores_crowds():
    confusion = ConfusionMatrix(1)
    detections = np.array([[2, 0, 12, 10, 0.9, 0], [*A, 0.5, 0], [60, 60, 70, 70, 0.9, 0]])
    confusion.update(detections, *arrays([A, [50, 50, 90, 90]], [0, 0]), [False, True])
    assert confusion.matrix.tolist() == [[1, 1], [0, 0]]
    confusion.update(np.zeros((0, 6)), *arrays([], []), [])
    confusion.update(np.zeros((0, 6)), *arrays([A], [0]), [False])
    confusion.update(detections[:1], *arrays([], []), [])
    assert confusion.matrix.tolist() == [[1, 2], [1, 0]]


def one_after_the_other(pairs):
    """The plain rule: indices of pairs that are taken, best first."""
    first, second, taken = set(), set(), []
    for index, (a, b) in enumerate(pairs):
        if a not in first and b not in second:
            first.add(a), second.add(b), taken.append(index)
    return taken


@pytest.mark.parametrize(("seed", "numbers"), [(0, 5), (1, 30), (2, 300)])
def test_vectorized_one_to_one_matching_equals_a_loop(seed, numbers):
    rng = np.random.default_rng(seed)
    pairs = rng.integers(0, numbers, (400, 2))
    assert sorted(one_to_one(*pairs.T)) == one_after_the_other(pairs.tolist())
    chain = np.stack((np.arange(400) // 2, (np.arange(400) + 1) // 2), 1)[::-1]  # each pair waits for the one before it
    assert sorted(one_to_one(*chain.T)) == one_after_the_other(chain.tolist())
    assert len(one_to_one(*np.zeros((2, 0), int))) == 0


def box_iou(boxes, others):
    """IoU (n, m) of all pairs of boxes (n, 4) and (m, 4) xyxy."""
    return iou_of_pairs(torch.as_tensor(boxes)[:, None], torch.as_tensor(others)[None]).numpy()


def slow_confusion(nc, detections, truth_boxes, truth_labels, crowd, conf=0.25, iou=0.45):
    """One image, pair by pair."""
    matrix = np.zeros((nc + 1, nc + 1), int)
    detections = detections[detections[:, 4] > conf]
    labels = detections[:, 5].astype(int)
    overlap = box_iou(detections[:, :4], truth_boxes)
    near = [(-overlap[i, j], labels[i] != truth_labels[j], i, j) for i, j in np.argwhere(overlap > iou) if not crowd[j]]
    near = sorted(near)
    taken = [near[k] for k in one_after_the_other([pair[2:] for pair in near])]
    for _, _, i, j in taken:
        matrix[labels[i], truth_labels[j]] += 1
    for i in {*range(len(labels))} - {pair[2] for pair in taken}:
        x1, y1, x2, y2 = detections[i, :4]
        inside = [
            crowd[j]
            and truth_labels[j] == labels[i]
            and max(min(x2, t[2]) - max(x1, t[0]), 0) * max(min(y2, t[3]) - max(y1, t[1]), 0)
            >= iou * (x2 - x1) * (y2 - y1)
            for j, t in enumerate(truth_boxes)
        ]
        matrix[labels[i], nc] += not any(inside)
    for j in {*range(len(truth_labels))} - {pair[3] for pair in taken}:
        matrix[nc, truth_labels[j]] += not crowd[j]
    return matrix


def test_confusion_matrix_of_many_images_equals_a_loop_over_images():
    rng = np.random.default_rng(3)
    n, m, nc = 900, 400, 4

    def boxes(count):
        corner = rng.integers(0, 30, (count, 2))  # whole numbers: many equal overlaps
        return np.concatenate((corner, corner + rng.integers(5, 20, (count, 2))), 1).astype(float)

    detections = np.column_stack((boxes(n), rng.uniform(0, 1, n), rng.integers(0, nc, n)))
    truth, labels, crowd = boxes(m), rng.integers(0, nc, m), rng.uniform(size=m) < 0.1
    of, truth_of = rng.integers(0, 40, n), rng.integers(0, 40, m)
    together, expected = ConfusionMatrix(nc), np.zeros((nc + 1, nc + 1), int)
    together.update(detections, truth, labels, crowd, of, truth_of)
    for image in range(40):
        in_image = truth_of == image
        expected += slow_confusion(nc, detections[of == image], truth[in_image], labels[in_image], crowd[in_image])
    assert together.matrix.tolist() == expected.tolist()
