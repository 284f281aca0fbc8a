"""BlazeBlock single and double, the layers of BlazeFace, and blending instead of suppression."""

import numpy as np
import pytest
import torch
from torch import nn

from graftdet.models import BLOCKS
from graftdet.models.losses.iou import iou as iou_of_pairs
from graftdet.utils.nms.suppression import select_detections


def make(*args, **kwargs):
    torch.manual_seed(0)
    return BLOCKS["BlazeBlock"](*args, **kwargs).eval()


def convolutions(module):
    return [
        (m.kernel_size[0], m.in_channels, m.out_channels, m.groups > 1, m.stride[0])
        for m in module
        if isinstance(m, nn.Conv2d)
    ]


def test_convolutions_of_single_and_double_blocks():
    assert convolutions(make(24, 48, s=2).conv) == [(5, 24, 24, True, 2), (1, 24, 48, False, 1)]
    assert convolutions(make(48, 24, 96, 2).conv) == [
        (5, 48, 48, True, 2),
        (1, 48, 24, False, 1),
        (5, 24, 24, True, 1),
        (1, 24, 96, False, 1),
    ]
    assert [i for i, m in enumerate(make(48, 24, 96).conv) if isinstance(m, nn.ReLU)] == [4]  # between the pairs


@torch.no_grad()
@pytest.mark.parametrize("size", [(8, 8), (7, 9)])
def test_shortcut_is_pooled_and_padded_with_zero_channels(size):
    block, x = make(4, 6, s=2), torch.randn(1, 4, *size)
    pooled = nn.functional.max_pool2d(x, 2, 2, ceil_mode=True)
    filled = torch.cat((pooled, torch.zeros(1, 2, *pooled.shape[2:])), 1)
    assert torch.allclose(block(x), (block.conv(x) + filled).relu())
    same, y = make(4, 2, 4), torch.randn(1, 4, *size)
    assert torch.allclose(same(y), (same.conv(y) + y).relu())


@torch.no_grad()
def test_projected_shortcut_has_pooling_and_a_convolution():
    block, x = make(8, 4, 6, 2, project=True), torch.randn(1, 8, 6, 6)
    pool, conv, bn, relu = block.shortcut
    assert torch.allclose(block(x), (block.conv(x) + relu(bn(conv(pool(x))))).relu())
    assert isinstance(block.conv[-1], nn.ReLU)


def test_blazeface_has_the_published_layers():
    """Table 4: 128x128 becomes 96 channels of 8x8; its kernels have 56,208 weights."""
    net = BLOCKS["BlazeFace"](3, out=[8, 16]).eval()
    with torch.no_grad():
        maps = net(torch.zeros(1, 3, 128, 128))
    assert [tuple(m.shape[1:]) for m in maps] == [(96, 16, 16), (96, 8, 8)]
    table = [(5, 3, 24)] + [(5, 1, 24), (1, 24, 24)] * 2 + [(5, 1, 24), (1, 24, 48)] + [(5, 1, 48), (1, 48, 48)] * 2
    table += [(5, 1, 48), (1, 48, 24), (5, 1, 24), (1, 24, 96)]
    table += [(5, 1, 96), (1, 96, 24), (5, 1, 24), (1, 24, 96)] * 5
    assert [
        (m.kernel_size[0], m.weight.shape[1], m.out_channels) for m in net.modules() if isinstance(m, nn.Conv2d)
    ] == table
    assert sum(k * k * a * b for k, a, b in table) == 56_208


def box_iou(boxes, others):
    """IoU (n, m) of all pairs of boxes (n, 4) and (m, 4) xyxy."""
    return iou_of_pairs(torch.as_tensor(boxes)[:, None], torch.as_tensor(others)[None]).numpy()


def crowd(n=120, nc=3, seed=0):
    rng = np.random.default_rng(seed)
    which = rng.integers(0, 6, n)
    center = rng.uniform(20, 80, (6, 2))[which] + rng.normal(0, 3, (n, 2))
    half = rng.uniform(5, 20, (6, 2))[which] * rng.uniform(0.8, 1.2, (n, 2))
    return np.concatenate((center - half, center + half), 1).astype(np.float32), rng.uniform(0, 1, (n, nc)).astype(
        np.float32
    )


def blended(boxes, scores, conf, iou, agnostic):
    """Slow and plain: take the best, average all that overlap it, take the next best of the rest."""
    label = scores.argmax(1)
    left = [i for i in np.argsort(-scores.max(1), kind="stable") if scores[i].max() > conf]
    result = []
    while left:
        best = left[0]
        near = [
            i
            for i in left
            if (agnostic or label[i] == label[best]) and box_iou(boxes[best : best + 1], boxes[i : i + 1])[0, 0] > iou
        ]
        weight = np.array([scores[i].max() for i in near])[:, None]
        result.append([*(boxes[near] * weight).sum(0) / weight.sum(), scores[best].max(), label[best]])
        left = [i for i in left if i not in near]
    return np.array(result, np.float32).reshape(-1, 6)


@pytest.mark.parametrize("agnostic", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_blending_equals_a_slow_reference(seed, agnostic):
    boxes, scores = crowd(seed=seed)
    got = select_detections(boxes, scores, 0.3, 0.4, agnostic=agnostic, method="blend")
    np.testing.assert_allclose(got, blended(boxes, scores, 0.3, 0.4, agnostic), rtol=1e-5, atol=1e-4)
    passed = select_detections(boxes, scores, 0.3, 0.4, agnostic=agnostic)
    np.testing.assert_array_equal(got[:, 4:], passed[:, 4:])  # the same detections, other boxes
    assert not np.allclose(got[:, :4], passed[:, :4])


def test_blending_averages_boxes_by_score():
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 14], [50, 50, 60, 60]], np.float32)
    scores = np.array([[0.6], [0.3], [0.5]], np.float32)
    got = select_detections(boxes, scores, 0.1, 0.5, method="blend")
    np.testing.assert_allclose(
        got, [[0, 0, 10, (10 * 0.6 + 14 * 0.3) / 0.9, 0.6, 0], [50, 50, 60, 60, 0.5, 0]], rtol=1e-6
    )


def test_blending_edge_cases():
    empty = np.zeros((0, 4), np.float32)
    assert select_detections(empty, np.zeros((0, 2), np.float32), method="blend").shape == (0, 6)
    flat = np.array([[5, 5, 5, 5], [5, 5, 5, 5]], np.float32)  # no area: overlaps nothing
    assert len(select_detections(flat, np.array([[0.9], [0.8]], np.float32), method="blend")) == 2
    boxes, scores = crowd()
    assert len(select_detections(boxes, scores, 0.1, 0.4, max_det=2, method="blend")) == 2
    zero = np.array([[0, 0, 4, 4], [0, 0, 4, 5]], np.float32)
    got = select_detections(zero, np.zeros((2, 1), np.float32), conf=-1, method="blend")
    assert np.isfinite(got).all()
