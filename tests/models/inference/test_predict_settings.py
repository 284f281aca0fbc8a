"""Wrong values of the arguments of `predict` are reported before an image is read."""

import numpy as np
import pytest
import torch

from graftdet.models.inference.predict_settings import PredictSettings, check_size, class_indices
from graftdet.utils.errors import UserError


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"conf": 25}, "conf: expected a number from 0 to 1, got 25"),
        ({"conf": "0.5"}, "conf: expected a number from 0 to 1, got '0.5'"),
        ({"conf": None}, "conf: expected a number"),
        ({"iou": -0.1}, "iou: expected a number from 0 to 1"),
        ({"iou": True}, "iou: expected a number from 0 to 1, got True"),
        ({"max_det": 0}, "max_det: expected a whole number of at least 1, got 0"),
        ({"batch_size": 2.0}, "batch_size: expected a whole number of at least 1, got 2.0"),
        ({"batch_size": -1}, "batch_size: expected a whole number of at least 1, got -1"),
        ({"augment": "no"}, "augment: expected True or False, got 'no'"),
    ],
)
def test_wrong_values(setting, message):
    with pytest.raises(UserError, match=message):
        PredictSettings(**setting)


def test_numbers_of_numpy():
    PredictSettings(conf=np.float32(0.5), max_det=np.int64(3), agnostic=np.bool_(True))
    assert check_size(np.int64(64)) == (64, 64) and check_size([64, 96]) == (64, 96)
    for classes in (np.array([1, 0]), torch.tensor([1, 0]), ["dog", "cat"], (np.int64(1), 0)):
        assert class_indices(classes, ["cat", "dog"]) == [1, 0]
    assert class_indices(np.int64(1), ["cat", "dog"]) == [1]
    with pytest.raises(UserError, match="classes: expected numbers or names of classes, got 1.0"):
        class_indices(1.0, ["cat", "dog"])


@pytest.mark.parametrize("size", ["640", 0, True, 640.0, (64,), (1, 2, 3), (64, None), 10**9])
def test_wrong_sizes(size):
    with pytest.raises(UserError, match="expected one or two whole numbers of at least 1 and at most 16384"):
        check_size(size)
