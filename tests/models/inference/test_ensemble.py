"""Ensembles: boxes of several models in one suppression."""

import numpy as np
import pytest
import torch

from graftdet.models.inference.ensemble import Ensemble
from graftdet.models.inference.predictor import Predictor
from graftdet.utils.errors import UserError

IMAGE = np.zeros((64, 64, 3), np.uint8)


class OneBox(Predictor):
    """Reports one box of class 0 with a given score, as arrays or as tensors."""

    def __init__(self, score=0.5, names=("a", "b"), stride=32, fixed_size=None, dtype=None):
        self.names, self.stride, self.fixed_size, self.train_size = list(names), stride, fixed_size, 64
        self.score, self.dtype = score, dtype

    def forward(self, images):
        boxes = np.tile(np.float32([8, 8, 40, 40]), (len(images), 1, 1))
        scores = np.tile(np.float32([self.score, 0]), (len(images), 1, 1))
        return (
            (boxes, scores)
            if self.dtype is None
            else (
                torch.from_numpy(boxes).to(self.dtype),
                torch.from_numpy(scores).to(self.dtype),
            )
        )


def test_boxes_of_all_models_are_suppressed_together():
    (detections,) = Ensemble([OneBox(0.5), OneBox(0.75)]).predict(IMAGE)
    assert len(detections) == 1 and detections.scores[0] == pytest.approx(0.75)


def test_arrays_are_returned_as_arrays_unless_a_model_returns_tensors():
    batch = np.zeros((2, 3, 64, 64), np.uint8)
    boxes, scores = Ensemble([OneBox(), OneBox()])(batch)
    assert isinstance(boxes, np.ndarray) and boxes.shape == (2, 2, 4) and scores.shape == (2, 2, 2)
    boxes, scores = Ensemble([OneBox(), OneBox(dtype=torch.float16)])(batch)
    assert torch.is_tensor(scores) and scores.shape == (2, 2, 2) and scores.dtype == torch.float32


def test_attributes_of_an_ensemble():
    on_gpu = OneBox(stride=64)
    on_gpu.device, on_gpu.square_letterbox = "cuda:0", True
    assert Ensemble([OneBox(), on_gpu]).stride == 64
    assert Ensemble([OneBox(), on_gpu]).device == "cpu" and Ensemble([on_gpu, OneBox()]).device == "cuda:0"
    assert Ensemble([OneBox(), on_gpu]).square_letterbox and not Ensemble([OneBox(), OneBox()]).square_letterbox
    assert Ensemble([OneBox(), OneBox(fixed_size=(64, 64))]).fixed_size == (64, 64)


def test_models_that_do_not_fit_are_refused():
    with pytest.raises(UserError, match=r"model 2 has other classes than the first: 2 \(b, a\) vs. 2 \(a, b\)"):
        Ensemble([OneBox(), OneBox(names=("b", "a"))])
    with pytest.raises(UserError, match="different sizes"):
        Ensemble([OneBox(fixed_size=(64, 64)), OneBox(fixed_size=(96, 96))])
    with pytest.raises(ValueError, match="at least one"):
        Ensemble([])
