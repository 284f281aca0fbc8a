"""The Detect head: decoding against a slow reference, anchors, initial biases."""

import math

import pytest
import torch

from graftdet.models import build_model
from graftdet.models.heads.anchor_based import Detect


def slow_decode(raw, anchors_pixels, strides):
    """Cell by cell: xy = (2 s - 0.5 + cell) stride, wh = (2 s)^2 anchor."""
    rows = []
    for level, y in enumerate(raw):
        b, a, h, w, _ = y.shape
        assert b == 1
        for k in range(a):
            for i in range(h):
                for j in range(w):
                    s = [1 / (1 + math.exp(-v)) for v in y[0, k, i, j].tolist()]
                    cx, cy = (2 * s[0] - 0.5 + j) * strides[level], (2 * s[1] - 0.5 + i) * strides[level]
                    bw, bh = (
                        (2 * s[2]) ** 2 * anchors_pixels[level][2 * k],
                        (2 * s[3]) ** 2 * anchors_pixels[level][2 * k + 1],
                    )
                    rows.append([cx, cy, bw, bh, *s[4:]])
    return torch.tensor(rows)


def test_decode_matches_the_slow_reference():
    torch.manual_seed(0)
    anchors = [[10, 13, 16, 30], [30, 61, 62, 45]]
    head = Detect(3, anchors, (4, 6))
    head.set_strides([8, 16])
    raw = [torch.randn(1, 2, 3, 5, 8), torch.randn(1, 2, 2, 3, 8)]
    expected = slow_decode(raw, anchors, [8, 16])
    assert torch.allclose(head.decode_rows(raw)[0], expected, atol=1e-4)
    boxes, scores = head.decode(raw)
    center, half = expected[:, :2], expected[:, 2:4] / 2
    assert torch.allclose(boxes[0], torch.cat((center - half, center + half), 1), atol=1e-4)
    assert torch.allclose(scores[0], expected[:, 4:5] * expected[:, 5:], atol=1e-5)


def test_raw_layout_is_anchor_row_column_values():
    head = Detect(1, [[1, 1, 2, 2]], (3,))
    x = torch.randn(2, 3, 4, 5)
    flat = torch.nn.functional.conv2d(x, head.m[0].weight, head.m[0].bias)
    raw = head([x])[0]
    assert raw.shape == (2, 2, 4, 5, 6)
    assert torch.equal(raw[1, 1, 2, 3], flat[1, 6:12, 2, 3])


def test_anchors_in_stride_units_and_flipped_when_written_from_large_to_small():
    head = Detect(1, [[160, 160], [16, 32]], (4, 4))
    head.set_strides([8, 16])
    assert head.anchors.tolist() == [[[2.0, 4.0]], [[10.0, 10.0]]]
    assert list(head.state_dict()) == ["anchors", "m.0.weight", "m.0.bias", "m.1.weight", "m.1.bias"]


def test_biases_are_initialized_to_the_published_priors():
    model = build_model("yolov5n.yaml")
    for conv, stride in zip(model.head.m, model.stride.tolist(), strict=True):
        bias = conv.bias.detach().view(3, 85)
        bound = 1 / math.sqrt(conv.in_channels)  # of the default initialization
        assert (bias[:, 4] - math.log(8 / (640 / stride) ** 2)).abs().max() <= bound
        assert (bias[:, 5:] - math.log(0.6 / (80 - 0.99999))).abs().max() <= bound


def test_placeholder_anchors_can_be_replaced():
    head = Detect(2, 3, (4, 8))
    assert head.placeholder_anchors and head.anchors.shape == (2, 3, 2)
    head.set_strides([8, 16])
    head.set_anchors([[[8, 16]] * 3, [[32, 64]] * 3])
    assert not head.placeholder_anchors and head.anchors[1, 0].tolist() == [2.0, 4.0]
    with pytest.raises(ValueError, match="shape"):
        head.set_anchors([[[1, 2]]])
