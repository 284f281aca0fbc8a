"""Everything that `predict` takes: the same boxes for the same image in every form."""

import itertools
import logging

import cv2
import numpy as np
import pytest
import torch

from graftdet.models.inference.image_input import is_batch, load_image
from graftdet.models.inference.predictor import Predictor
from graftdet.utils.errors import UserError
from graftdet.utils.images.io import write_image
from graftdet.utils.images.video import VideoWriter


class FindsBright(Predictor):
    """Reports the box of pixels that are red, and remembers how often it ran."""

    def __init__(self):
        self.names, self.stride, self.train_size, self.runs = ["red"], 32, 128, 0

    def forward(self, images):
        self.runs += 1
        boxes, scores = np.zeros((len(images), 1, 4), np.float32), np.zeros((len(images), 1, 1), np.float32)
        for index, (red, green, blue) in enumerate(np.asarray(images, np.float32)):
            ys, xs = np.nonzero((red > 150) & (green < 100) & (blue < 100))
            if len(xs):
                boxes[index, 0], scores[index, 0, 0] = (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1), 0.9
        return boxes, scores


BOX = [20, 40, 80, 100]


@pytest.fixture
def image():
    """(128, 128, 3) BGR, with a red rectangle at `BOX`."""
    image = np.full((128, 128, 3), 60, np.uint8)
    image[BOX[1] : BOX[3], BOX[0] : BOX[2]] = (0, 0, 255)
    return image


def boxes_of(detections):
    return [one.boxes.round().astype(int).tolist() for one in detections]


def test_arrays_and_tensors(image):
    rgb = torch.from_numpy(image[..., ::-1].copy()).permute(2, 0, 1)  # (3, H, W)
    for given in (image, [image], (image,), rgb, rgb.float() / 255, [rgb], (rgb / 255).half()):
        detections = FindsBright().predict(given)
        assert boxes_of(detections) == [[BOX]] and np.abs(detections[0].image.astype(int) - image).max() <= 1
    for given in (np.stack([image, image]), torch.stack([rgb, rgb]), torch.stack([rgb, rgb]).float() / 255):
        assert boxes_of(FindsBright().predict(given)) == [[BOX], [BOX]]
    gray = FindsBright().predict(torch.zeros(1, 40, 50))[0]
    assert gray.image.shape == (40, 50, 3)


def test_a_model_is_called_with_images(image):
    model = FindsBright()
    assert boxes_of(model(image)) == [[BOX]] and boxes_of(model([image, image], conf=0.5)) == [[BOX], [BOX]]
    boxes, scores = model(np.ascontiguousarray(image[..., ::-1].transpose(2, 0, 1)[None]))  # a batch: raw output
    assert boxes.tolist() == [[BOX]] and scores.shape == (1, 1, 1)
    assert is_batch(torch.zeros(1, 3, 8, 8)) and is_batch(np.zeros((2, 1, 8, 8)))
    assert not is_batch(np.zeros((2, 8, 8, 3))) and not is_batch(np.zeros((8, 8, 3))) and not is_batch("a.jpg")


def test_pil_images(image, tmp_path):
    pil = pytest.importorskip("PIL.Image")
    upright = pil.fromarray(image[..., ::-1])
    for given in (upright, upright.convert("RGBA"), [upright, upright]):
        assert boxes_of(FindsBright().predict(given))[0] == [BOX]
    turned = upright.transpose(pil.Transpose.ROTATE_90)
    exif = pil.Exif()
    exif[274] = 6  # shown after a rotation by 90 degrees clockwise
    turned.save(tmp_path / "turned.png", exif=exif)
    opened = pil.open(tmp_path / "turned.png")
    detections = FindsBright().predict(opened)
    assert boxes_of(detections) == [[BOX]] and detections[0].path == tmp_path / "turned.png"
    assert load_image(pil.fromarray(np.full((4, 4), 40000, np.uint16))).image[0, 0, 0] == 40000 >> 8


def test_paths_folders_and_lists(image, tmp_path, caplog):
    folder = tmp_path / "images"
    for name in ("b.png", "a.png"):
        write_image(folder / name, image)
    (folder / "broken.jpg").write_text("no image")
    for given in (folder, str(folder), f"{folder}/*.png", [folder]):
        detections = FindsBright().predict(given)
        assert isinstance(detections, list) and [one.path.name for one in detections] == ["a.png", "b.png"]
        assert boxes_of(detections) == [[BOX], [BOX]]
    assert "broken.jpg" in caplog.text
    mixed = FindsBright().predict([folder / "a.png", image, str(folder / "b.png"), np.stack([image, image])])
    assert [one.path and one.path.name for one in mixed] == ["a.png", None, "b.png", None, None]


def test_videos_are_read_while_the_result_is_used(image, tmp_path):
    with VideoWriter(tmp_path / "clip", 10) as writer:
        for _ in range(40):
            writer.write(image)
    model = FindsBright()
    detections = model.predict(writer.path, batch_size=4)
    assert not isinstance(detections, list) and model.runs == 0
    first = next(detections)
    assert first.frame == 0 and first.path == writer.path and model.runs == 1
    assert np.abs(first.boxes - BOX).max() < 4
    assert [one.frame for one in detections] == list(range(1, 40)) and model.runs == 10
    assert [one.frame for one in FindsBright().predict(str(writer.path), vid_stride=15)] == [0, 1, 2]
    endless = FindsBright().predict((image for _ in itertools.count()), batch_size=2)
    assert boxes_of(itertools.islice(endless, 5)) == [[BOX]] * 5


def test_a_camera_number_is_a_source_also_in_a_list():
    """Opened while the result is used, as a stream: no camera has this number."""
    for given in (97, [97]):
        detections = FindsBright().predict(given)
        with pytest.raises(UserError, match="camera 97: cannot be opened"):
            next(detections)


def test_aliases_are_accepted_with_a_warning(image, caplog):
    with caplog.at_level(logging.WARNING):
        detections = FindsBright().predict(image, img=64, conf_thres=0.95)
    assert len(detections[0]) == 0
    assert "'img' is called 'imgsz' here" in caplog.text and "'conf_thres' is called 'conf' here" in caplog.text
    assert boxes_of(FindsBright().predict(images=image)) == [[BOX]]
    with pytest.raises(UserError, match=r"predict: unknown argument 'agnostics'; did you mean 'agnostic'\?"):
        FindsBright().predict(image, agnostics=True)


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ({"conf": 0.1, "conf_thres": 0.2}, "'conf' and 'conf_thres'"),
        ({"img": 64, "size": 128}, "'img' and 'size'"),
        ({"images": "other.jpg"}, "'source' and 'images'"),
        ({"agnostic": True, "agnostic_nms": False}, "'agnostic' and 'agnostic_nms'"),
    ],
)
def test_an_argument_under_two_names_is_refused(image, arguments, names):
    with pytest.raises(UserError, match=f"predict: {names} are the same argument; give one of them"):
        FindsBright().predict(image, **arguments)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (np.zeros((3, 40, 50), np.uint8), r"channels come last: image.transpose\(1, 2, 0\)"),
        (np.zeros((40, 50, 3), np.float32), r"astype\('uint8'\)"),
        (torch.zeros(40, 50, 3), r"expected a tensor \(3, H, W\)"),
        (torch.full((3, 8, 8), 100.0), "divide by 255"),
        (torch.zeros(3, 8, 8, dtype=torch.int64), "uint8"),
        (3.5, "expected a path"),
        (None, "expected a path"),
        ([None], "expected a path"),
        ("missing/folder", "no such file or folder"),
    ],
)
def test_what_is_no_image_is_refused(given, message):
    with pytest.raises(UserError, match=message):
        FindsBright().predict(given)


def test_frames_of_opencv_are_images_as_they_are(image):
    """What cv2.VideoCapture.read() returns; the given array is not changed."""
    before = image.copy()
    detections = FindsBright().predict(cv2.flip(cv2.flip(image, 1), 1))
    detections[0].draw()
    assert boxes_of(detections) == [[BOX]] and np.array_equal(image, before)


def test_sixteen_bit_images_are_scaled_by_their_depth(image, tmp_path, caplog):
    bits = image.astype(np.uint16) << 4  # values of a 12-bit sensor
    path, gray_path = tmp_path / "sensor.png", tmp_path / "gray.png"
    cv2.imwrite(str(path), bits)
    assert boxes_of(FindsBright().predict(path)) == [[]]
    assert "depth=12 scales by it" in caplog.text
    for given in (path, [path], iter([path]), bits, [bits, path]):
        for detections in FindsBright().predict(given, depth=12):
            assert boxes_of([detections]) == [[BOX]] and (detections.image == image).all()
    cv2.imwrite(str(gray_path), bits[..., 2])
    pillow = pytest.importorskip("PIL.Image")
    for mode in ("I;16", "I"):
        opened = pillow.open(gray_path).convert(mode)
        assert (load_image(opened, 12).image == image[..., 2:]).all(), mode
        assert (load_image(opened).image == image[..., 2:] >> 4).all(), mode


@pytest.mark.parametrize("depth", [7, 17, 12.0, True, "12", None])
def test_depths_that_images_cannot_have_are_refused(image, depth):
    with pytest.raises(UserError, match="depth: expected a whole number from 8 to 16"):
        FindsBright().predict(image, depth=depth)


def test_arrays_of_sixteen_bits_need_a_depth(image):
    with pytest.raises(UserError, match="depth=12"):
        FindsBright().predict(image.astype(np.uint16) << 4)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (b"\xff\xd8", "got bytes; an encoded image is decoded by cv2.imdecode"),
        ({"image": np.zeros((8, 8, 3), np.uint8)}, "got dict; give its values"),
        ([[60, 60, 60], [70, 70, 70]], "got a list of lists of numbers; convert it to an array"),
        (torch.zeros(3, 8, 8, device="meta"), "got a sparse, quantized or meta tensor"),
        (torch.zeros(3, 8, 8).to_sparse(), "got a sparse, quantized or meta tensor"),
    ],
    ids=["bytes", "dict", "rows of numbers", "meta", "sparse"],
)
def test_values_that_are_no_images(given, message):
    with pytest.raises(UserError, match=message):
        FindsBright().predict(given)


def test_iterators_may_yield_one_buffer_again(image):
    def frames():
        buffer = np.empty_like(image)
        for source in (image * 0, image, image * 0):
            buffer[:] = source
            yield buffer

    assert boxes_of(FindsBright().predict(frames())) == [[], [BOX], []]


def test_loaders_of_torch(image):
    tensor = torch.from_numpy(image[..., ::-1].copy()).permute(2, 0, 1)
    loader = torch.utils.data.DataLoader(torch.stack([tensor, tensor * 0, tensor]), batch_size=2)
    assert boxes_of(FindsBright().predict(loader)) == [[BOX], [], [BOX]]


@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")
def test_matrices_are_gray_images():
    assert FindsBright().predict(np.matrix(np.zeros((20, 30), np.uint8)))[0].image.shape == (20, 30, 3)
