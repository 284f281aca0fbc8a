"""Sliced inference: windows cover the image, boxes come back in its pixels, and windows find what they cut once."""

from itertools import pairwise

import numpy as np
import pytest

from graftdet.models.inference.ensemble import Ensemble
from graftdet.models.inference.predict_settings import PredictSettings
from graftdet.models.inference.predictor import Predictor
from graftdet.models.inference.slicing import Window, cut_by, window_rectangles
from graftdet.utils.errors import UserError


class FindsMarks(Predictor):
    """Reports each pure red rectangle as class 1 and each pure blue one as class 0, unless it is smaller than 6 pixels."""

    needs_nms = False

    def __init__(self, fixed_size=None, size=128):
        self.names, self.stride, self.fixed_size, self.train_size = ["blue", "red"], 32, fixed_size, size
        self.batches = []

    def forward(self, images):
        import cv2

        self.batches.append(images.shape)
        batch = np.asarray(images, np.float32)
        batch = batch / 255 if batch.max() > 1 else batch
        boxes, scores = np.zeros((len(batch), 16, 4), np.float32), np.zeros((len(batch), 16, 2), np.float32)
        for index, (red, green, blue) in enumerate(batch):
            row = 0
            for label, (high, low) in enumerate(((blue, red), (red, blue))):
                mask = ((high > 0.7) & (low < 0.3) & (green < 0.3)).astype(np.uint8)
                for x, y, width, height, area in cv2.connectedComponentsWithStats(mask)[2][1:]:
                    if min(width, height) >= 6:
                        boxes[index, row] = x, y, x + width, y + height
                        scores[index, row, label] = 0.8 - 0.1 * label
                        row += 1
        return boxes, scores


def make_image(height, width, red=(), blue=()):
    image = np.full((height, width, 3), 90, np.uint8)
    for boxes, color in ((red, (0, 0, 255)), (blue, (255, 0, 0))):
        for x1, y1, x2, y2 in boxes:
            image[y1:y2, x1:x2] = color
    return image


@pytest.mark.parametrize("shape", [(480, 640), (100, 1000), (333, 777), (128, 129), (1, 500)])
@pytest.mark.parametrize("overlap", [0.0, 0.2, 0.5])
def test_windows_cover_the_image_and_end_at_its_border(shape, overlap):
    first, *windows = window_rectangles(shape, (128, 128), overlap)
    assert first == (0, 0, shape[1], shape[0])
    covered = np.zeros(shape, int)
    for left, top, right, bottom in windows:
        assert 0 <= left < right <= shape[1] and 0 <= top < bottom <= shape[0]
        assert right - left == min(128, shape[1]) and bottom - top == min(128, shape[0])
        covered[top:bottom, left:right] += 1
    assert covered.min() == 1
    lefts = sorted({window[0] for window in windows})
    assert all(after - before <= round(128 * (1 - overlap)) for before, after in pairwise(lefts))
    assert lefts[-1] == shape[1] - min(128, shape[1])


def test_images_that_fit_into_one_window_run_once():
    assert window_rectangles((100, 128), (128, 128), 0.2) == [(0, 0, 128, 100)]
    model = FindsMarks()
    model.predict(make_image(100, 128), slice=128)
    assert [shape[0] for shape in model.batches] == [1]


def test_boxes_that_an_edge_inside_the_image_cuts():
    window = Window(0, 100, 0, 200, 100)
    rows = np.array([[100.5, 20, 150, 60], [110, 0, 150, 60], [150, 40, 199.5, 60], [110, 20, 190, 100]])
    assert cut_by(rows, window, (100, 500)).tolist() == [True, False, True, False]
    assert cut_by(rows, window, (300, 500)).tolist() == [True, False, True, True]  # the window ends inside the image


SMALL = [(3, 2, 13, 12), (250, 180, 262, 190), (500, 380, 511, 395), (627, 467, 640, 480), (110, 110, 125, 125)]


@pytest.mark.parametrize("augment", [False, True])
@pytest.mark.parametrize("fixed", [None, (128, 128)])
def test_small_objects_are_found_where_they_are(fixed, augment):
    """At 128 pixels the image is shrunk to a fifth, and the objects to two pixels; windows of 128 are not."""
    image = make_image(480, 640, red=SMALL)
    assert len(FindsMarks(fixed).predict(image)[0]) == 0
    (detections,) = FindsMarks(fixed).predict(image, slice=128, augment=augment)
    assert detections.class_names == ["red"] * 5 and np.shares_memory(detections.image, image)
    order = np.lexsort(detections.boxes.T)
    expected = np.array(SMALL, float)
    np.testing.assert_allclose(detections.boxes[order], expected[np.lexsort(expected.T)], atol=3 if augment else 0.01)


def test_large_objects_are_found_in_the_whole_image_and_once():
    """Windows cut the large one: their boxes of its parts are dropped; the small one lies in two windows."""
    image = make_image(480, 640, blue=[(100, 80, 500, 400)], red=[(105, 10, 125, 30)])
    (detections,) = FindsMarks().predict(image, slice=128)
    assert detections.class_names == ["blue", "red"]
    np.testing.assert_allclose(detections.boxes, [[100, 80, 500, 400], [105, 10, 125, 30]], atol=5)


def test_windows_of_several_images_share_batches_and_settings_apply():
    model = FindsMarks()
    images = [
        make_image(128, 256, red=[(10 + 20 * i, 20, 30 + 20 * i, 40)], blue=[(200, 60, 230, 90)]) for i in range(3)
    ]
    found = model.predict(images, slice=128, slice_overlap=0, batch_size=4)
    assert [shape[0] for shape in model.batches] == [3, 4, 2]  # the whole images, then 3 x 2 windows
    assert [one.class_names for one in found] == [["blue", "red"]] * 3
    assert [round(float(one.boxes[1, 0])) for one in found] == [10, 30, 50]
    assert [one.class_names for one in model.predict(images, slice=128, classes="red")] == [["red"]] * 3
    assert [len(one) for one in model.predict(images, slice=128, max_det=1)] == [1] * 3
    assert [len(one) for one in model.predict(images, slice=128, conf=0.75)] == [1] * 3


def test_an_ensemble_takes_slices():
    (detections,) = Ensemble([FindsMarks(), FindsMarks()]).predict(make_image(480, 640, red=SMALL), slice=128)
    assert len(detections) == len(SMALL)


def test_several_classes_of_one_box_for_validation():
    model = FindsMarks()
    model.forward = lambda images: (
        np.tile(np.float32([[10, 10, 40, 40]]), (len(images), 1, 1)),
        np.full((len(images), 1, 2), 0.5, np.float32),
    )
    settings = PredictSettings(slice=128, multi_label=True)
    (detections,) = model.steps(settings).run([make_image(100, 100)], 1)
    assert sorted(detections.class_names) == ["blue", "red"]


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"slice": 0}, "slice 0: expected one or two whole numbers"),
        ({"slice": 64.5}, "slice 64.5: expected"),
        ({"slice": 64, "slice_overlap": 0.95}, "slice_overlap: expected a number from 0 to 0.9, got 0.95"),
        ({"slice": 64, "slice_overlap": -1}, "slice_overlap: expected a number"),
    ],
)
def test_wrong_settings(setting, message):
    with pytest.raises(UserError, match=message):
        FindsMarks().predict(make_image(64, 64), **setting)


def test_validation_gets_boxes_in_pixels_of_the_annotated_size():
    steps = FindsMarks().steps(PredictSettings(slice=128))
    images = [make_image(480, 640, red=SMALL[:1]), make_image(480, 640)]
    first, second = steps.detect_batch({"images": images, "shapes": [(960, 1280), (480, 640)]})
    np.testing.assert_allclose(first, [[6, 4, 26, 24, 0.7, 1]], atol=0.01)
    assert second.shape == (0, 6)
