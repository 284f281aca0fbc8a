import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from graftdet.models.losses.iou import iou as iou_of_pairs
from graftdet.utils.errors import UserError
from graftdet.utils.nms import suppression as nms
from graftdet.utils.nms.candidates import best_first
from graftdet.utils.nms.suppression import METHODS, select_detections

ROOT = Path(__file__).resolve().parents[3]


def box_iou(boxes, others):
    """IoU (n, m) of all pairs of boxes (n, 4) and (m, 4) xyxy."""
    return iou_of_pairs(torch.as_tensor(boxes)[:, None], torch.as_tensor(others)[None]).numpy()


def reference(boxes, scores, conf, iou, max_det, multi_label, agnostic, classes):
    """Slow and simple: candidates, best first, each compared with all selected ones."""
    candidates = []
    for i in range(len(boxes)):
        labels = range(scores.shape[1]) if multi_label else [int(np.argmax(scores[i]))]
        candidates += [
            (-scores[i, k], i, k) for k in labels if scores[i, k] > conf and (classes is None or k in classes)
        ]
    selected = []
    for score, i, k in sorted(candidates):
        others = [j for _, j, c in selected if agnostic or k == c]
        if all(box_iou(boxes[i : i + 1], boxes[j : j + 1])[0, 0] <= iou for j in others):
            selected.append((score, i, k))
    return np.array([[*boxes[i], -score, k] for score, i, k in selected[:max_det]], np.float32).reshape(-1, 6)


def crowd(n, nc, seed=0, objects=6, size=100):
    rng = np.random.default_rng(seed)
    which = rng.integers(0, objects, n)
    center = rng.uniform(20, size - 20, (objects, 2))[which] + rng.normal(0, 3, (n, 2))
    half = rng.uniform(5, 20, (objects, 2))[which] * rng.uniform(0.8, 1.2, (n, 2))
    boxes = np.concatenate((center - half, center + half), 1).round(1).astype(np.float32)
    return boxes, rng.uniform(0, 1, (n, nc)).round(2).astype(np.float32)  # rounded: many equal scores


@pytest.mark.parametrize("kind", [np.asarray, torch.as_tensor])
@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("agnostic", [False, True])
@pytest.mark.parametrize(
    ("n", "nc", "conf", "iou", "max_det", "classes"),
    [
        (0, 3, 0.1, 0.5, 300, None),
        (1, 1, 0.0, 0.5, 300, None),
        (120, 3, 0.25, 0.45, 300, None),
        (120, 3, 0.001, 0.6, 7, None),
        (400, 1, 0.1, 0.6, 300, None),
        (100, 20, 0.3, 0.2, 300, [0, 5, 19]),
        (100, 4, 0.3, 0.0, 300, []),
    ],
)
def test_equals_the_slow_reference(kind, multi_label, agnostic, n, nc, conf, iou, max_det, classes):
    boxes, scores = crowd(n, nc, seed=n + nc)
    expected = reference(boxes, scores, conf, iou, max_det, multi_label, agnostic, classes)
    detections = select_detections(kind(boxes), kind(scores), conf, iou, max_det, multi_label, agnostic, classes)
    assert isinstance(detections, np.ndarray) and detections.dtype == np.float32
    assert np.array_equal(detections, expected)


@pytest.mark.parametrize("block", [1, 3, 64, 10_000])
def test_block_size_does_not_matter(block, monkeypatch):
    boxes, scores = crowd(300, 3)
    expected = select_detections(boxes, scores, multi_label=True)
    monkeypatch.setattr(nms, "BLOCK", block)
    assert np.array_equal(select_detections(boxes, scores, multi_label=True), expected)


@pytest.mark.parametrize("kind", [np.asarray, torch.as_tensor])
def test_the_number_of_candidates_is_limited(kind, monkeypatch):
    boxes, scores = crowd(200, 3)
    monkeypatch.setattr(nms, "MAX_CANDIDATES", 50)
    detections = select_detections(kind(boxes), kind(scores), 0.0, 1.0, 300, multi_label=True)
    assert len(detections) == 50
    every = [(-scores[i, k], i, k) for i in range(200) for k in range(3)]
    assert [tuple(row[4:]) for row in detections] == [(-score, k) for score, _, k in sorted(every)[:50]]


def greedy(rows, groups, iou, max_det):
    """Simple: each row against all selected before it, by the ratio of areas."""
    overlaps = (box_iou(rows[:, :4], rows[:, :4]) > iou) & (groups[:, None] == groups[None])
    selected = []
    for i in range(len(rows)):
        if not overlaps[selected, i].any():
            selected.append(i)
    return rows[selected[:max_det]]


@pytest.mark.parametrize("iou", [0.0, 0.05, 0.3, 0.5, 0.6, 0.9, 1.0])
@pytest.mark.parametrize("nc", [1, 7, 300])
@pytest.mark.parametrize("kind", ["spread", "crowd", "wild"])
def test_many_boxes_equal_the_greedy_reference(kind, nc, iou, monkeypatch):
    """Sizes from a pixel to the image; wild: inverted and empty boxes, and some far away from all others."""
    monkeypatch.setattr(nms, "BLOCK", 16)  # many blocks
    monkeypatch.setattr(nms, "MAX_BLOCK", 64)
    rng = np.random.default_rng(nc)
    n = 900
    centers = rng.uniform(0, 640, (n, 2)) if kind != "crowd" else rng.uniform(0, 640, (20, 2))[rng.integers(0, 20, n)]
    sides = np.exp(rng.uniform(0, 6.4, (n, 2))) if kind != "crowd" else 60 * rng.uniform(0.7, 1.4, (n, 2))
    if kind == "wild":
        sides[::7] *= [-1, 1]
        sides[::11] *= [0, 1]
        centers[::50] *= 1e6
    rows = np.concatenate(
        (centers - sides / 2, centers + sides / 2, np.linspace(1, 0.1, n)[:, None], np.zeros((n, 1))), 1
    )
    rows = rows.round(1).astype(np.float32)
    groups = rng.integers(0, nc, n).astype(np.int32)
    for max_det in (5, 200, n):
        assert np.array_equal(METHODS["standard"](rows, groups, iou, max_det), greedy(rows, groups, iou, max_det))


def test_best_first_is_a_stable_sort():
    scores = np.random.default_rng(0).normal(size=5000).round(1).astype(np.float32)
    scores[::9] = -0.0
    assert np.array_equal(best_first(scores), np.argsort(-scores, kind="stable"))


@pytest.mark.parametrize("kind", [np.asarray, torch.as_tensor])
def test_boxes_outside_the_rectangle_are_skipped(kind):
    boxes = np.array([[0, 0, 9, 9], [0, 0, 11, 11], [60, 20, 70, 30], [59, 20, 70, 30], [20, 0, 30, 10]], np.float32)
    detections = select_detections(kind(boxes), kind(np.full((5, 1), 0.5, np.float32)), inside=(10, 10, 60, 50))
    assert detections[:, :4].tolist() == boxes[[1, 3]].tolist()


def test_known_case():
    boxes = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [50, 50, 60, 60], [0, 0, 10, 10]], np.float32)
    scores = np.array([[0.6, 0.1], [0.9, 0.1], [0.2, 0.3], [0.1, 0.7]], np.float32)
    detections = select_detections(boxes, scores, conf=0.25, iou=0.45)
    assert (
        detections.tolist()
        == np.array([[1, 0, 11, 10, 0.9, 0], [0, 0, 10, 10, 0.7, 1], [50, 50, 60, 60, 0.3, 1]], np.float32).tolist()
    )
    assert select_detections(boxes, scores, agnostic=True)[:, 5].tolist() == [0, 1]


def test_thresholds_are_exclusive():
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 5]], np.float32)  # IoU 0.5 exactly
    scores = np.array([[0.75], [0.5]], np.float32)
    assert len(select_detections(boxes, scores, conf=0.5, iou=0.9)) == 1
    assert len(select_detections(boxes, scores, conf=0.25, iou=0.5)) == 2
    assert len(select_detections(boxes, scores, conf=0.25, iou=0.49)) == 1


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_float_types_are_returned_as_float32(dtype):
    boxes = torch.tensor([[0, 0, 8, 8], [100, 100, 120, 132]]).to(dtype)
    scores = torch.tensor([[0.5], [0.25]]).to(dtype)
    detections = select_detections(boxes, scores, conf=0.1)
    assert detections.dtype == np.float32
    assert detections.tolist() == [[0, 0, 8, 8, 0.5, 0], [100, 100, 120, 132, 0.25, 0]]


@pytest.mark.parametrize("kind", [np.asarray, torch.as_tensor])
def test_boxes_and_scores_that_are_not_finite_are_skipped(kind):
    boxes = np.array([[0, 0, 8, 8], [np.nan, 0, 8, 8], [0, 0, np.inf, 8], [20, 20, 30, 30]], np.float32)
    scores = np.array([[0.5], [0.9], [0.9], [np.nan]], np.float32)
    assert select_detections(kind(boxes), kind(scores)).tolist() == [[0, 0, 8, 8, 0.5, 0]]


def test_tensors_may_require_gradients():
    boxes, scores = crowd(10, 2)
    assert len(select_detections(torch.tensor(boxes, requires_grad=True), torch.tensor(scores, requires_grad=True)))


def test_wrong_shapes_and_methods_are_refused():
    with pytest.raises(ValueError, match="scores"):
        select_detections(np.zeros((3, 4)), np.zeros((2, 1)))
    with pytest.raises(UserError, match="did you mean 'standard'"):
        select_detections(np.zeros((3, 4)), np.zeros((3, 1)), method="standart")


@pytest.mark.parametrize("method", list(METHODS))
def test_every_method_fulfills_its_contract(method):
    boxes, scores = crowd(200, 3)
    detections = select_detections(boxes, scores, max_det=9, multi_label=True, method=method)
    assert detections.shape == (9, 6) and detections.dtype == np.float32
    assert (np.diff(detections[:, 4]) <= 0).all()
    assert select_detections(boxes[:0], scores[:0], method=method).shape == (0, 6)
    assert select_detections(boxes, scores, conf=1, method=method).shape == (0, 6)


def test_runs_without_torch():
    code = """
import sys
sys.modules["torch"] = None  # importing it raises
import numpy as np
from graftdet.utils import boxes
from graftdet.utils.evaluation import metrics
from graftdet.utils.images import io, letterbox
from graftdet.utils.nms import suppression
from graftdet.utils.visualization import drawing, figures, plots
detections = suppression.select_detections(np.array([[0., 0, 8, 8]]), np.array([[0.5]]))
drawing.draw_boxes(np.zeros((50, 50, 3), np.uint8), detections[:, :4], detections[:, 5], detections[:, 4])
boxes.box_area(detections[:, :4])
print(len(detections))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "1"
