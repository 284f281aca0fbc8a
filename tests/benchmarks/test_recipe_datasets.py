"""The datasets that recipes are compared on."""

import json

import cv2
import numpy as np
import pytest

from benchmarks.recipe import datasets
from benchmarks.recipe.cutouts import paste_cutouts
from graftdet.data.dataset_config import load_data_config, open_split
from graftdet.utils.errors import UserError
from graftdet.utils.images.io import read_image, write_image


def test_drawn_images_differ_and_contain_their_boxes():
    drawn = []
    for seed in range(40):
        image, labels, boxes = datasets.draw_image(np.random.default_rng(seed))
        assert image.shape == (datasets.SIDE, datasets.SIDE, 3)
        assert len(labels) == len(boxes) > 0
        assert all(x >= 0 and y >= 0 and x + w <= datasets.SIDE and y + h <= datasets.SIDE for x, y, w, h in boxes)
        drawn += [(*labels, *sum(boxes, []))]
    assert len({*drawn}) == len(drawn)


@pytest.mark.parametrize("label", range(len(datasets.GLYPHS)))
def test_glyph_lies_inside_the_image_and_has_the_requested_height(label):
    for seed in range(8):
        rows, columns = np.nonzero(datasets._glyph(label, np.random.default_rng([label, seed])))
        assert 10 <= np.ptp(rows) + 1 <= 90
        assert np.ptp(columns) + 1 <= 110


def test_drawn_glyphs_open_as_a_dataset_and_depend_on_the_seed(tmp_path):
    datasets.draw_glyphs(tmp_path / "a", 24, seed=1)
    datasets.draw_glyphs(tmp_path / "b", 24, seed=1)
    datasets.draw_glyphs(tmp_path / "c", 24, seed=2)
    split = open_split(load_data_config(tmp_path / "a" / "data.yaml"), "train")
    assert split.names == list(datasets.GLYPHS)
    assert not split.problems.lines()
    first, again, other = ((tmp_path / name / "train.json").read_text() for name in "abc")
    assert first == again != other
    assert len(json.loads(first)["images"]) == 24
    assert len(json.loads((tmp_path / "a" / "val.json").read_text())["images"]) == 2


@pytest.fixture
def document():
    images = [{"id": number, "file_name": f"{number}.jpg", "width": 100, "height": 100} for number in (1, 2, 3)]
    boxes = [(1, 1, 20, 40, 0), (1, 2, 50, 50, 1), (2, 2, 10, 10, 0), (3, 1, 30, 30, 0)]
    annotations = [
        {
            "id": number,
            "image_id": image,
            "category_id": category,
            "bbox": [0, 0, w, h],
            "area": w * h,
            "iscrowd": crowd,
        }
        for number, (image, category, w, h, crowd) in enumerate(boxes)
    ]
    return {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}],
    }


def test_one_class_of_the_first_images(document):
    result = datasets.one_class(document, "a", 2)
    assert [image["id"] for image in result["images"]] == [1, 2]
    assert [box["id"] for box in result["annotations"]] == [0]
    assert result["categories"] == [{"id": 1, "name": "a"}]
    assert [box["id"] for box in datasets.one_class(document, "a", None)["annotations"]] == [0, 3]


def test_small_objects_and_crowds_become_crowds(document):
    result = datasets.large_objects(document)
    assert [box["iscrowd"] for box in result["annotations"]] == [0, 1, 1, 0]
    assert {box["category_id"] for box in result["annotations"]} == {1}
    assert document["annotations"][1]["category_id"] == 2


def test_cutouts_lie_on_images_without_the_class_and_their_boxes_are_tight(tmp_path):
    folder = tmp_path / "photographs"
    with_square = np.full((100, 100, 3), 30, np.uint8)
    with_square[20:80, 20:80] = (0, 0, 250)
    write_image(folder / "square.png", with_square)
    write_image(folder / "empty.png", np.full((100, 120, 3), (200, 90, 0), np.uint8))
    box = {"bbox": [20, 20, 60, 60], "area": 3600, "iscrowd": 0, "segmentation": [[20, 20, 79, 20, 79, 79, 20, 79]]}
    images = [{"id": 1, "file_name": "square.png"}, {"id": 2, "file_name": "empty.png"}]
    document = {
        "images": images,
        "annotations": [{**box, "id": 1, "image_id": 1, "category_id": 5}],
        "categories": [{"id": 5, "name": "square"}, {"id": 6, "name": "circle"}],
    }
    new = paste_cutouts(document, folder, tmp_path / "new", name="square", count=12, seed=0)
    assert new == paste_cutouts(document, folder, tmp_path / "again", name="square", count=12, seed=0)
    assert len(new["images"]) == 12
    for image in new["images"]:
        pixels = read_image(tmp_path / "new" / image["file_name"]).astype(int)
        red = pixels[..., 2] - pixels[..., 0] > 60
        drawn = np.zeros_like(red)
        boxes = [entry["bbox"] for entry in new["annotations"] if entry["image_id"] == image["id"]]
        assert 1 <= len(boxes) <= 4
        for x, y, width, height in boxes:
            drawn[y : y + height, x : x + width] = True
            assert red[y : y + height, x : x + width].mean() > 0.5
        # JPEG blurs the color at the borders, so two pixels around each box may look like the object
        outside = cv2.dilate(drawn.astype(np.uint8), np.ones((5, 5), np.uint8)) == 0
        assert not (red & outside).any()
    with pytest.raises(UserError, match="circle"):
        paste_cutouts(document, folder, tmp_path / "none", name="circle", count=1, seed=0)
