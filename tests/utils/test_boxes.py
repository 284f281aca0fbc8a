import numpy as np
import pytest
import torch

from graftdet.utils.boxes import (
    MEDIUM_AREA,
    SMALL_AREA,
    box_area,
    cxcywh_to_xyxy,
    xywh_to_xyxy,
    xyxy_to_cxcywh,
    xyxy_to_xywh,
)

KINDS = [np.asarray, torch.as_tensor]


def random_boxes(n, seed=0):
    low = np.random.default_rng(seed).uniform(0, 50, (n, 2))
    size = np.random.default_rng(seed + 1).uniform(1, 40, (n, 2))
    return np.concatenate((low, low + size), axis=1)


@pytest.mark.parametrize("kind", KINDS)
def test_conversion_known_value_and_round_trip(kind):
    assert xyxy_to_cxcywh(kind([[10, 20, 30, 60]])).tolist() == [[20, 40, 20, 40]]
    assert cxcywh_to_xyxy(kind([[20, 40, 20, 40]])).tolist() == [[10, 20, 30, 60]]
    assert cxcywh_to_xyxy(kind([[5, 5, 3, 3]])).tolist() == [[3.5, 3.5, 6.5, 6.5]]  # integers do not lose halves
    assert xyxy_to_xywh(kind([[10, 20, 30, 60]])).tolist() == [[10, 20, 20, 40]]
    assert xywh_to_xyxy(kind([[10, 20, 20, 40]])).tolist() == [[10, 20, 30, 60]]
    boxes = kind(random_boxes(50))
    assert np.allclose(cxcywh_to_xyxy(xyxy_to_cxcywh(boxes)), boxes)
    assert tuple(xyxy_to_cxcywh(boxes[:0]).shape) == (0, 4)
    assert type(xyxy_to_cxcywh(boxes)) is type(cxcywh_to_xyxy(boxes)) is type(boxes)


def test_inverted_box_has_no_area():
    assert box_area(np.array([[5.0, 5, 1, 9], [0, 0, 2, 3]])).tolist() == [0, 6]


@pytest.mark.parametrize("kind", [np.array, torch.tensor])
@pytest.mark.parametrize(("given", "expected"), [("int32", "float32"), ("float64", "float64"), ("float32", "float32")])
def test_integers_become_float32_and_other_types_stay(kind, given, expected):
    boxes = kind([[[1, 2, 4, 7]]], dtype=getattr(np if kind is np.array else torch, given))
    for convert in (xyxy_to_cxcywh, cxcywh_to_xyxy):
        assert str(convert(boxes).dtype).removeprefix("torch.") == expected
        assert tuple(convert(boxes).shape) == (1, 1, 4)  # joined along the last axis
    assert xyxy_to_xywh(boxes).tolist() == [[[1, 2, 3, 5]]] and xywh_to_xyxy(boxes).tolist() == [[[1, 2, 5, 9]]]


def test_limits_of_small_and_medium_objects():
    assert (SMALL_AREA, MEDIUM_AREA) == (1024, 9216)
