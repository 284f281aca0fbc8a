"""Test-time augmentation: all views find the same object, in pixels of the given image."""

import numpy as np
import pytest
import torch

from graftdet.models.inference.tta import PADDING, AugmentedModel


class Finder:
    """A model that finds the one bright rectangle of each image: its bounding box, score 0.5."""

    names = ["rectangle"]

    def __init__(self, stride=32, as_array=False):
        self.stride, self.as_array, self.seen = stride, as_array, []

    def __call__(self, images):
        self.seen.append(images)
        boxes = torch.zeros(len(images), 1, 4)
        for row, image in enumerate(images):
            ys, xs = (image[0] > 0.75).nonzero(as_tuple=True)
            boxes[row, 0] = torch.stack((xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)).float()
        scores = torch.full((len(images), 1, 1), 0.5)
        return (boxes.numpy(), scores.numpy()) if self.as_array else (boxes, scores)


def make_images(height=96, width=160):
    images = torch.zeros(2, 3, height, width)
    images[0, :, 20:60, 30:100] = 1
    images[1, :, 50:90, 100:150] = 1
    return images


@pytest.mark.parametrize("as_array", [False, True])
def test_all_views_find_the_same_box(as_array):
    model = AugmentedModel(Finder(as_array=as_array))
    boxes, scores = model(make_images())
    assert boxes.shape == (2, 3, 4) and scores.shape == (2, 3, 1)
    assert boxes[:, 0].tolist() == [[30, 20, 100, 60], [100, 50, 150, 90]]
    for view in (1, 2):
        assert np.allclose(boxes[:, view], boxes[:, 0], atol=1.5)


def test_views_have_the_expected_sizes_and_padding():
    finder = Finder(stride=32)
    AugmentedModel(finder)(make_images(96, 160))
    assert [tuple(view.shape[2:]) for view in finder.seen] == [(96, 160), (96, 160), (64, 128)]
    assert finder.seen[1][0, 0, 95, 0].item() == pytest.approx(PADDING)  # 0.83 of 96 is 80
    assert finder.seen[2][0, 0, 0, 127].item() == pytest.approx(PADDING)  # 0.67 of 160 is 107
    assert AugmentedModel(finder).names == ["rectangle"]
