import json
import struct

import cv2
import numpy as np
import pytest
import torch

from graftdet.data.dataset import DetectionDataset, ItemKey
from graftdet.data.dataset_config import load_data_config, open_split
from graftdet.data.exif import (
    NOT_ROTATED,
    OTHER_RESOLUTION,
    OTHER_SIZE,
    AnnotatedSize,
    loaded_size,
    resolve_annotated_size,
    rotate_boxes,
    same_aspect,
)
from graftdet.data.formats.sample import Sample
from graftdet.data.loader import val_loader
from graftdet.data.tools.convert import to_upright
from graftdet.utils.evaluation.evaluator import evaluate
from graftdet.utils.images.header import ImageHeader
from graftdet.utils.images.io import apply_orientation

BACK = {1: 1, 2: 2, 3: 3, 4: 4, 5: 5, 6: 8, 7: 7, 8: 6}  # orientation that undoes an orientation


@pytest.mark.parametrize(
    ("declared", "orientation", "expected"),
    [
        ((640, 480), 1, AnnotatedSize(640, 480)),
        ((0, 0), 6, AnnotatedSize(480, 640)),
        ((480, 640), 6, AnnotatedSize(480, 640)),
        ((640, 480), 6, AnnotatedSize(640, 480, False, NOT_ROTATED)),
        ((640, 480), 3, AnnotatedSize(640, 480)),  # a rotation by 180 degrees does not change the size
        ((320, 240), 1, AnnotatedSize(320, 240, True, OTHER_RESOLUTION)),
        ((321, 240), 1, AnnotatedSize(321, 240, True, OTHER_RESOLUTION)),
        ((240, 320), 6, AnnotatedSize(240, 320, True, OTHER_RESOLUTION)),
        ((320, 240), 6, AnnotatedSize(320, 240, False, NOT_ROTATED)),
        ((480, 640), 1, AnnotatedSize(640, 480, True, OTHER_SIZE)),
        ((300, 300), 6, AnnotatedSize(480, 640, True, OTHER_SIZE)),
    ],
)
def test_resolve_size(declared, orientation, expected):
    assert resolve_annotated_size(declared, ImageHeader(640, 480, orientation)) == expected


def test_same_aspect_and_loaded_size():
    assert same_aspect((4000, 3001), (500, 375)) and not same_aspect((4000, 3020), (500, 375))
    assert loaded_size((240.0, 320.0), (480, 640)) == (240, 320)
    assert loaded_size((240.0, 240.0), (480, 640)) == (480, 640) == loaded_size((0.0, 0.0), (480, 640))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_boxes_rotate_like_images(orientation):
    stored = np.zeros((20, 50, 3), np.uint8)
    box = [[7, 2, 18, 9]]
    stored[2:9, 7:18] = 255
    rows, columns = np.nonzero(apply_orientation(stored, orientation)[..., 0])
    seen = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    assert rotate_boxes(np.array(box, float), 50, 20, orientation).tolist() == [seen]


def test_upright_sample():
    source = np.array([[7.0, 2, 11, 7]])
    boxes = np.array([[7, 2, 18, 9]], np.float32)
    sample = Sample(None, boxes, np.zeros(1, int), np.zeros(1, bool), np.ones(1), np.ones(1), 1, 50, 20, False, source)
    rotated = to_upright(sample, ImageHeader(50, 20, 6))
    assert (rotated.width, rotated.height, rotated.apply_exif) == (20, 50, True)
    assert rotated.boxes.tolist() == [[11, 7, 18, 18]] and rotated.source_boxes.tolist() == [[11, 7, 7, 11]]
    assert to_upright(rotated, ImageHeader(50, 20, 6)) is rotated


def write_jpeg(path, image, orientation):
    """Write a JPEG whose EXIF block contains only the orientation."""
    data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 100])[1].tobytes()
    exif = b"Exif\0\0MM\0*" + struct.pack(">IHHHIHHI", 8, 1, 274, 3, 1, orientation, 0, 0)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + data[2:])


def make(root):
    """One image per case with a white rectangle at `box` of the rotated image (60 wide, 120 high)."""
    box = (10, 20, 40, 80)  # x1, y1, x2, y2
    cases = [  # name, orientation, declared size, scale of the boxes, image that the boxes refer to
        ("plain", 1, (60, 120), 1, "rotated"),
        ("rotated", 6, (60, 120), 1, "rotated"),
        ("undeclared", 8, None, 1, "rotated"),
        ("stored", 6, (120, 60), 1, "stored"),
        ("stored8", 8, (120, 60), 1, "stored"),
        ("double", 1, (120, 240), 2, "rotated"),
        ("double-stored", 6, (240, 120), 2, "stored"),
        ("wrong", 1, (100, 130), 1, "rotated"),
    ]
    images, annotations, expected = [], [], {}
    for number, (name, orientation, declared, scale, boxes_on) in enumerate(cases, 1):
        pixels_bgr = np.full((120, 60, 3), 40, np.uint8)
        pixels_bgr[box[1] : box[3], box[0] : box[2]] = 255
        write_jpeg(root / "images" / f"{name}.jpg", apply_orientation(pixels_bgr, BACK[orientation]), orientation)
        x1, y1, x2, y2 = box
        if boxes_on == "stored":
            x1, y1, x2, y2 = rotate_boxes(np.array([box], float), 60, 120, BACK[orientation])[0].tolist()
        image = {"id": number * 10, "file_name": f"{name}.jpg"}
        images.append(image | ({"width": declared[0], "height": declared[1]} if declared else {}))
        bbox = [value * scale for value in (x1, y1, x2 - x1, y2 - y1)]
        annotations.append({"id": number, "image_id": number * 10, "category_id": 5, "bbox": bbox})
        expected[number * 10] = bbox
    document = {"images": images, "annotations": annotations, "categories": [{"id": 5, "name": "box"}]}
    (root / "val.json").write_text(json.dumps(document), encoding="utf-8")
    (root / "d.yaml").write_text("train: {images: images, annotations: val.json}\n", encoding="utf-8")
    return open_split(load_data_config(root / "d.yaml"), "train"), expected


class FindsWhite(torch.nn.Module):
    """A detector that predicts one box around the white pixels."""

    def forward(self, images):
        boxes = []
        for image in images:
            rows, columns = torch.nonzero(image.min(0).values > 0.72, as_tuple=True)
            boxes.append([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
        return torch.tensor(boxes, dtype=torch.float32)[:, None], torch.ones(len(boxes), 1, 1)


@pytest.mark.parametrize("rect", [False, True])
@pytest.mark.parametrize("cache", ["none", "ram", "disk"])
def test_predictions_are_mapped_to_the_size_of_the_ground_truth(tmp_path, monkeypatch, rect, cache):
    monkeypatch.setenv("GRAFTDET_CACHE", str(tmp_path / "cache"))
    split, expected = make(tmp_path / "data")
    dataset = DetectionDataset(split, 96, rect=rect, cache=cache)
    truth = split.ground_truth()
    result = evaluate(FindsWhite(), val_loader(dataset, 4), ground_truth=truth, category_ids=[5], progress=False)
    assert len(result.predictions) == len(expected) == 8
    for prediction in result.predictions:
        assert np.allclose(prediction["bbox"], expected[prediction["image_id"]], atol=3), prediction
    assert result.metrics["AP50-95"] > 0.85


@pytest.mark.parametrize("augment", [False, True])
def test_targets_surround_their_objects(tmp_path, augment):
    from dataclasses import replace

    from graftdet.utils.hyperparameters import Hyperparameters

    recipe = replace(Hyperparameters(), hsv_h=0, hsv_s=0, hsv_v=0, fliplr=0, scale=0, translate=0, mosaic=0)
    split, _ = make(tmp_path / "data")
    dataset = DetectionDataset(split, 96, recipe, augment=augment)
    for index in range(len(dataset)):
        item = dataset[ItemKey(0, index, 96)]
        seen = FindsWhite()(torch.from_numpy(item.image[None]).float() / 255)[0][0, 0]
        _, x, y, width, height = item.targets[0] * 96
        assert np.allclose([x - width / 2, y - height / 2, x + width / 2, y + height / 2], seen, atol=1.5), item.path
