"""Anchors: recall against a loop, clusters that are known, order by stride."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from graftdet.utils.training.autoanchor import (
    best_possible_recall,
    best_ratios,
    compute_anchors,
    fit_anchors,
    fit_head_anchors,
    kmeans,
    order_by_stride,
    sizes_at,
)

COCO = np.array([[10, 13, 16, 30, 33, 23], [30, 61, 62, 45, 59, 119], [116, 90, 156, 198, 373, 326]], float).reshape(
    3, 3, 2
)
STRIDES = np.array([8.0, 16, 32])


def test_recall_known_value():
    anchors = np.array([[[10.0, 10.0]]])
    sizes = np.array([[10, 10], [39, 10], [41, 10], [10, 2.6], [10, 2.4], [2.6, 39.0]])
    assert best_possible_recall(sizes, anchors, 4.0) == pytest.approx(4 / 6)
    assert best_possible_recall(sizes[:0], anchors) == 1


def test_recall_equals_a_loop():
    sizes = np.random.default_rng(0).uniform(3, 600, (200, 2))
    hits = 0
    for w, h in sizes:
        hits += any(max(w / a, a / w) < 3 and max(h / b, b / h) < 3 for a, b in COCO.reshape(-1, 2))
    assert best_possible_recall(sizes, COCO, 3.0) == pytest.approx(hits / 200)


@pytest.mark.parametrize("count", [0, 1, 5000])
def test_best_ratios_are_the_best_of_all_ratios(count):
    sizes = np.random.default_rng(1).uniform(0.1, 600, (count, 2)).astype(np.float32)
    anchors = COCO.reshape(-1, 2)
    ratios = sizes[:, None].astype(float) / anchors  # (n, k, 2)
    expected = np.minimum(ratios, 1 / ratios).min(2).max(1)
    assert np.allclose(best_ratios(sizes.astype(float), anchors), expected, rtol=1e-12, atol=0)
    assert np.allclose(best_ratios(sizes, anchors), expected, rtol=1e-5, atol=0)
    assert best_ratios(np.array([[0.0, 5.0]]), anchors).tolist() == [0]
    assert best_ratios(np.array([[20, 26]]), anchors[:1])[0] == pytest.approx(0.5)  # whole numbers


def test_kmeans_finds_clusters():
    rng = np.random.default_rng(1)
    centers = np.array([[10, 40], [60, 20], [150, 200.0]])
    sizes = np.concatenate([center + rng.normal(size=(50, 2)) for center in centers])
    anchors_found = kmeans(sizes, 3, np.random.default_rng(0))
    assert np.abs(anchors_found[np.argsort(anchors_found[:, 0])] - centers).max() < 1


def test_new_anchors_fit_small_boxes_and_are_reproducible():
    sizes = np.random.default_rng(2).uniform(2, 9, (300, 2))
    check = fit_anchors(sizes, COCO, STRIDES, 4.0)
    assert check.changed and check.recall_before < 0.9 and check.recall > 0.99
    assert check.anchors.shape == (3, 3, 2)
    areas = check.anchors.prod(2).ravel()
    assert (np.diff(areas) >= 0).all()
    assert np.array_equal(check.anchors, fit_anchors(sizes, COCO, STRIDES, 4.0).anchors)


def test_anchors_that_fit_are_not_changed():
    sizes = np.random.default_rng(3).uniform(20, 300, (300, 2))
    check = fit_anchors(sizes, COCO, STRIDES, 4.0)
    assert not check.changed and np.array_equal(check.anchors, COCO) and check.recall >= 0.98
    assert fit_anchors(sizes, COCO, STRIDES, 4.0, placeholders=True).changed


def test_without_boxes_nothing_changes():
    assert not fit_anchors(np.zeros((0, 2)), COCO, STRIDES, placeholders=True).changed


def test_placeholders_and_boxes_below_two_pixels():
    numbers = np.arange(6.0).reshape(1, 3, 2).repeat(3, 0)  # a zero among them
    with np.errstate(all="raise"):
        check = fit_anchors(np.full((5, 2), 0.5), numbers, STRIDES, placeholders=True)
    assert check.changed and (check.anchors >= 2).all() and check.recall_before == 0


@pytest.mark.parametrize("count", [1, 2, 8, 30])
def test_few_or_equal_boxes(count):
    anchors = compute_anchors(np.full((count, 2), 32.0), 3, 3, generations=20)
    assert np.isfinite(anchors).all() and (anchors >= 2).all()
    assert best_possible_recall(np.full((count, 2), 32.0), anchors) == 1


def test_order_follows_the_strides():
    assert np.array_equal(order_by_stride(COCO[::-1], STRIDES), COCO)
    assert np.array_equal(order_by_stride(COCO, STRIDES[::-1]), COCO[::-1])
    assert np.array_equal(order_by_stride(COCO, STRIDES), COCO)


def test_sizes_at_training_size():
    boxes, frames = np.array([[100, 50], [30, 60.0]]), np.array([[480, 640], [600, 300.0]])
    assert np.allclose(sizes_at(boxes, frames, 320), [[50, 25], [16, 32]])


def test_anchors_of_the_head_are_replaced():
    given = {}
    head = SimpleNamespace(
        anchors=torch.tensor(COCO / STRIDES[:, None, None]),
        strides=list(STRIDES),
        placeholder_anchors=False,
        set_anchors=lambda pixels: given.update(pixels=pixels),
    )
    boxes = [np.array([[0, 0, 2, 3], [10, 10, 14, 11]], np.float32), np.zeros((0, 4), np.float32)]
    check = fit_head_anchors(head, boxes, np.array([[100, 100], [50, 80]], np.float32), 100, 4.0)
    assert check.changed and given["pixels"].shape == (3, 3, 2) and "->" in str(check)
    assert fit_head_anchors(SimpleNamespace(anchors=None), boxes, None, 100, 4.0) is None
