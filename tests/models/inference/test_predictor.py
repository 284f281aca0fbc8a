"""Images in, boxes in pixels of the image out; checked with models that find painted rectangles."""

import numpy as np
import pytest

from graftdet.models.inference.predict_settings import class_indices
from graftdet.models.inference.predictor import Predictor
from graftdet.utils.errors import UserError
from graftdet.utils.images.io import UnreadableImage, write_image


def test_a_predictor_defines_forward():
    with pytest.raises(TypeError, match="abstract"):
        type("Incomplete", (Predictor,), {})()


class FindsRed(Predictor):
    """Reports the bounding box of pure red pixels as class 1, of pure blue ones as class 0; remembers its batches."""

    def __init__(self, fixed_size=None, names=("blue", "red"), shift=0.0):
        self.names, self.stride, self.fixed_size, self.train_size = list(names), 32, fixed_size, 128
        self.shift, self.batches = shift, []

    def forward(self, images):
        self.batches.append(images.shape)
        batch = np.asarray(images, np.float32)
        batch = batch / 255 if batch.max() > 1 else batch
        boxes, scores = np.zeros((len(batch), 2, 4), np.float32), np.zeros((len(batch), 2, 2), np.float32)
        for index, (red, green, blue) in enumerate(batch):
            for label, (high, low) in enumerate(((blue, red), (red, blue))):
                ys, xs = np.nonzero((high > 0.7) & (low < 0.3) & (green < 0.3))
                if len(xs):
                    boxes[index, label] = xs.min(), ys.min(), xs.max() + 1, ys.max() + 1
                    scores[index, label, label] = 0.9 - 0.1 * label + self.shift
        return boxes, scores


def make_image(height, width, red=None, blue=None):
    image = np.full((height, width, 3), 90, np.uint8)
    for box, color in ((red, (0, 0, 255)), (blue, (255, 0, 0))):
        if box:
            x1, y1, x2, y2 = box
            image[y1:y2, x1:x2] = color
    return image


@pytest.mark.parametrize(("fixed", "augment"), [(None, False), (None, True), ((128, 128), False), ((96, 160), False)])
@pytest.mark.parametrize("shape", [(128, 128), (300, 200), (60, 240), (64, 32)])
def test_boxes_are_returned_in_pixels_of_the_original_image(shape, fixed, augment):
    height, width = shape
    red = (width // 8, height // 4, width // 2, height // 2)
    (detections,) = FindsRed(fixed).predict(make_image(height, width, red), augment=augment)
    assert detections.class_names[:1] == ["red"] and detections.path is None
    tolerance = 2.5 * max(height / 96, width / 96, 1)
    np.testing.assert_allclose(detections.boxes[0], red, atol=tolerance)
    assert detections.scores[0] == pytest.approx(0.8) and len(detections) == 1


def test_order_batches_and_kinds_of_input(tmp_path):
    model = FindsRed()
    boxes = [(10 + 5 * i, 20, 60, 70) for i in range(5)]
    images = [make_image(128 if i % 2 else 64, 128, None, None) for i in range(5)]
    images = [make_image(*image.shape[:2], (box[0], 20, 60, 60)) for image, box in zip(images, boxes)]
    path = tmp_path / "bïld 1.png"
    write_image(path, images[0])
    detections = model.predict([path, str(path), *images[1:]], batch_size=2)
    assert [one.path for one in detections] == [path, path, None, None, None, None]
    assert [round(float(one.boxes[0, 0])) for one in detections] == [10, 10, 15, 20, 25, 30]
    assert max(shape[0] for shape in model.batches) == 2
    assert {shape[2:] for shape in model.batches} == {(64, 128), (128, 128)}


def test_options_are_passed_to_the_selection_of_detections():
    model, image = FindsRed(), make_image(128, 128, (10, 10, 60, 60), (70, 70, 120, 120))
    assert model.predict(image)[0].class_names == ["blue", "red"]
    assert model.predict(image, classes=["red"])[0].class_names == ["red"]
    assert model.predict(image, classes="0")[0].class_names == ["blue"]
    assert model.predict(image, conf=0.85)[0].class_names == ["blue"]
    assert model.predict(image, max_det=1)[0].class_names == ["blue"]
    assert len(model.predict(make_image(64, 64))[0]) == 0
    assert model.predict([]) == []


def test_detections_draw_and_export():
    image = make_image(128, 128, (10, 10, 60, 60))
    (detections,) = FindsRed().predict(image)
    drawn = detections.draw()
    assert drawn.shape == image.shape and (drawn != image).any() and detections.image is not drawn
    assert detections.to_dicts() == [
        {"name": "red", "label": 1, "score": pytest.approx(0.8), "box": [10.0, 10.0, 60.0, 60.0]}
    ]


@pytest.mark.parametrize(
    "given", [np.zeros((8, 8, 3), np.float32), np.zeros((8, 8, 5), np.uint8), np.zeros((0, 8, 3), np.uint8), 3.5, None]
)
def test_invalid_images_are_refused(given):
    with pytest.raises(UserError, match="expected"):
        FindsRed().predict([given])


def test_gray_and_alpha_arrays_are_images():
    for image in (np.zeros((40, 40), np.uint8), np.zeros((40, 40, 1), np.uint8), np.zeros((40, 40, 4), np.uint8)):
        assert FindsRed().predict(image)[0].image.shape == (40, 40, 3)


def test_unreadable_files_and_sizes(tmp_path):
    (tmp_path / "text.jpg").write_text("hello")
    with pytest.raises(UnreadableImage, match=r"text\.jpg"):
        FindsRed().predict(tmp_path / "text.jpg")
    with pytest.raises(UserError, match=r"missing\.jpg: no such file"):
        FindsRed().predict([make_image(64, 64), tmp_path / "missing.jpg"])
    with pytest.raises(UserError, match="exported for 128x128 only"):
        FindsRed((128, 128)).predict(make_image(64, 64), imgsz=160)
    assert FindsRed((128, 128)).input_size(100) == (128, 128)
    assert FindsRed().input_size((100, 33)) == (128, 64)
    assert FindsRed().input_size(np.int64(100)) == (128, 128)


@pytest.mark.parametrize(
    ("classes", "expected"),
    [
        (None, None),
        ([1], [1]),
        (["red", "0"], [1, 0]),
        ("red", [1]),
        ([], []),
        (["rad"], "did you mean 'red'"),
        ([7], "0 to 1"),
    ],
)
def test_class_indices(classes, expected):
    if isinstance(expected, str):
        with pytest.raises(UserError, match=expected):
            class_indices(classes, ["blue", "red"])
    else:
        assert class_indices(classes, ["blue", "red"]) == expected
