import json
import struct

import cv2
import numpy as np
import pytest
import torch
from graftdet.data.dataset_config import load_data_config, open_split
from graftdet.data.dataset import DetectionDataset, Key
from graftdet.data.exif import (
    SCALED,
    SIZE,
    UNTURNED,
    Frame,
    fit_frame,
    loaded_frame,
    same_aspect,
    turn_boxes,
    upright,
)
from graftdet.data.formats.sample import Sample
from graftdet.data.loader import val_loader
from graftdet.utils.evaluation.evaluator import evaluate
from graftdet.utils.images.header import ImageHeader
from graftdet.utils.images.io import apply_orientation

BACK = {1: 1, 2: 2, 3: 3, 4: 4, 5: 5, 6: 8, 7: 7, 8: 6}  # the turn that undoes a turn


@pytest.mark.parametrize(
    "declared, orientation, expected",
    [
        ((640, 480), 1, Frame(640, 480)),
        ((0, 0), 6, Frame(480, 640)),
        ((480, 640), 6, Frame(480, 640)),
        ((640, 480), 6, Frame(640, 480, False, UNTURNED)),
        ((640, 480), 3, Frame(640, 480)),  # half a turn cannot be told by the size
        ((320, 240), 1, Frame(320, 240, True, SCALED)),
        ((321, 240), 1, Frame(321, 240, True, SCALED)),
        ((240, 320), 6, Frame(240, 320, True, SCALED)),
        ((320, 240), 6, Frame(320, 240, False, UNTURNED)),
        ((480, 640), 1, Frame(640, 480, True, SIZE)),
        ((300, 300), 6, Frame(480, 640, True, SIZE)),
    ],
)
def test_fit_frame(declared, orientation, expected):
    assert fit_frame(declared, ImageHeader(640, 480, orientation)) == expected


def test_same_aspect_and_the_frame_after_loading():
    assert same_aspect((4000, 3001), (500, 375)) and not same_aspect((4000, 3020), (500, 375))
    assert loaded_frame((240.0, 320.0), (480, 640)) == (240, 320)
    assert loaded_frame((240.0, 240.0), (480, 640)) == (480, 640) == loaded_frame((0.0, 0.0), (480, 640))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_boxes_turn_as_pictures_do(orientation):
    stored = np.zeros((20, 50, 3), np.uint8)
    box = [[7, 2, 18, 9]]
    stored[2:9, 7:18] = 255
    rows, columns = np.nonzero(apply_orientation(stored, orientation)[..., 0])
    seen = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    assert turn_boxes(np.array(box, float), 50, 20, orientation).tolist() == [seen]


def test_upright_sample():
    source = np.array([[7.0, 2, 11, 7]])
    boxes = np.array([[7, 2, 18, 9]], np.float32)
    sample = Sample(None, boxes, np.zeros(1, int), np.zeros(1, bool), np.ones(1), np.ones(1), 1, 50, 20, False, source)
    turned = upright(sample, ImageHeader(50, 20, 6))
    assert (turned.width, turned.height, turned.apply_exif) == (20, 50, True)
    assert turned.boxes.tolist() == [[11, 7, 18, 18]] and turned.source_boxes.tolist() == [[11, 7, 7, 11]]
    assert upright(turned, ImageHeader(50, 20, 6)) is turned


def write_jpeg(path, image, orientation):
    """A JPEG with an EXIF block that holds nothing but the orientation."""
    data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 100])[1].tobytes()
    exif = b"Exif\0\0MM\0*" + struct.pack(">IHHHIHHI", 8, 1, 274, 3, 1, orientation, 0, 0)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + data[2:])


def make(root):
    """A picture a case, each with one white rectangle at `box` of the turned picture (60 wide, 120 high)."""
    box = (10, 20, 40, 80)  # x1, y1, x2, y2
    cases = [  # name, orientation, declared size, factor of the boxes, frame: turned or stored
        ("plain", 1, (60, 120), 1, "turned"),
        ("turned", 6, (60, 120), 1, "turned"),
        ("silent", 8, None, 1, "turned"),
        ("stored", 6, (120, 60), 1, "stored"),
        ("stored8", 8, (120, 60), 1, "stored"),
        ("double", 1, (120, 240), 2, "turned"),
        ("double-stored", 6, (240, 120), 2, "stored"),
        ("wrong", 1, (100, 130), 1, "turned"),
    ]
    images, annotations, frames = [], [], {}
    for number, (name, orientation, declared, factor, frame) in enumerate(cases, 1):
        picture = np.full((120, 60, 3), 40, np.uint8)
        picture[box[1] : box[3], box[0] : box[2]] = 255
        write_jpeg(root / "images" / f"{name}.jpg", apply_orientation(picture, BACK[orientation]), orientation)
        x1, y1, x2, y2 = box
        if frame == "stored":
            x1, y1, x2, y2 = turn_boxes(np.array([box], float), 60, 120, BACK[orientation])[0].tolist()
        image = {"id": number * 10, "file_name": f"{name}.jpg"}
        images.append(image | ({"width": declared[0], "height": declared[1]} if declared else {}))
        bbox = [value * factor for value in (x1, y1, x2 - x1, y2 - y1)]
        annotations.append({"id": number, "image_id": number * 10, "category_id": 5, "bbox": bbox})
        frames[number * 10] = bbox
    document = {"images": images, "annotations": annotations, "categories": [{"id": 5, "name": "box"}]}
    (root / "val.json").write_text(json.dumps(document), encoding="utf-8")
    (root / "d.yaml").write_text("train: {images: images, annotations: val.json}\n", encoding="utf-8")
    return open_split(load_data_config(root / "d.yaml"), "train"), frames


class FindsWhite(torch.nn.Module):
    """A detector whose one box is around what is white."""

    def forward(self, images):
        boxes = []
        for image in images:
            rows, columns = torch.nonzero(image.min(0).values > 0.72, as_tuple=True)
            boxes.append([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
        return torch.tensor(boxes, dtype=torch.float32)[:, None], torch.ones(len(boxes), 1, 1)


@pytest.mark.parametrize("rect", [False, True])
@pytest.mark.parametrize("cache", ["none", "ram", "disk"])
def test_predictions_land_in_the_frame_of_the_ground_truth(tmp_path, monkeypatch, rect, cache):
    monkeypatch.setenv("GRAFTDET_CACHE", str(tmp_path / "cache"))
    split, frames = make(tmp_path / "data")
    dataset = DetectionDataset(split, 96, rect=rect, cache=cache)
    truth = split.ground_truth()
    result = evaluate(FindsWhite(), val_loader(dataset, 4), ground_truth=truth, category_ids=[5], progress=False)
    assert len(result.predictions) == len(frames) == 8
    for prediction in result.predictions:
        assert np.allclose(prediction["bbox"], frames[prediction["image_id"]], atol=3), prediction
    assert result.metrics["AP50-95"] > 0.85


@pytest.mark.parametrize("augment", [False, True])
def test_targets_lie_on_what_they_name(tmp_path, augment):
    from dataclasses import replace

    from graftdet.utils.hyperparameters import Hyperparameters

    recipe = replace(Hyperparameters(), hsv_h=0, hsv_s=0, hsv_v=0, fliplr=0, scale=0, translate=0, mosaic=0)
    split, _ = make(tmp_path / "data")
    dataset = DetectionDataset(split, 96, recipe, augment=augment)
    for index in range(len(dataset)):
        item = dataset[Key(0, index, 96)]
        seen = FindsWhite()(torch.from_numpy(item.image[None]).float() / 255)[0][0, 0]
        _, x, y, width, height = item.targets[0] * 96
        assert np.allclose([x - width / 2, y - height / 2, x + width / 2, y + height / 2], seen, atol=1.5), item.path
