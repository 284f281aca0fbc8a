"""The data sets that recipes are compared on, and the table of their runs."""

import json

import numpy as np
import pytest

from benchmarks.recipe import sets
from benchmarks.recipe.runs import COLUMNS, row
from data.config import load_data_config, open_split


def test_every_picture_differs_and_its_boxes_lie_in_it():
    drawn = []
    for seed in range(40):
        image, labels, boxes = sets.draw_picture(np.random.default_rng(seed))
        assert image.shape == (sets.SIDE, sets.SIDE, 3) and len(labels) == len(boxes) > 0
        assert all(x >= 0 and y >= 0 and x + w <= sets.SIDE and y + h <= sets.SIDE for x, y, w, h in boxes)
        drawn += [(*labels, *sum(boxes, []))]
    assert len({*drawn}) == len(drawn)


@pytest.mark.parametrize("label", range(len(sets.GLYPHS)))
def test_a_glyph_lies_wholly_in_the_picture_and_is_as_high_as_asked(label):
    for seed in range(8):
        rows, columns = np.nonzero(sets._glyph(label, np.random.default_rng([label, seed])))
        assert 10 <= np.ptp(rows) + 1 <= 90 and np.ptp(columns) + 1 <= 110


def test_drawn_glyphs_open_as_a_data_set_and_depend_on_the_seed(tmp_path):
    sets.draw_glyphs(tmp_path / "a", 24, seed=1)
    sets.draw_glyphs(tmp_path / "b", 24, seed=1)
    sets.draw_glyphs(tmp_path / "c", 24, seed=2)
    split = open_split(load_data_config(tmp_path / "a" / "data.yaml"), "train")
    assert split.names == list(sets.GLYPHS) and not split.problems.lines()
    first, again, other = ((tmp_path / name / "train.json").read_text() for name in "abc")
    assert first == again != other
    assert len(json.loads(first)["images"]) == 24 and len(json.loads((tmp_path / "a" / "val.json").read_text())["images"]) == 2


@pytest.fixture
def document():
    images = [{"id": number, "file_name": f"{number}.jpg", "width": 100, "height": 100} for number in (1, 2, 3)]
    boxes = [(1, 1, 20, 40, 0), (1, 2, 50, 50, 1), (2, 2, 10, 10, 0), (3, 1, 30, 30, 0)]
    annotations = [
        {"id": number, "image_id": image, "category_id": category, "bbox": [0, 0, w, h], "area": w * h, "iscrowd": crowd}
        for number, (image, category, w, h, crowd) in enumerate(boxes)
    ]
    return {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}]}


def test_one_class_of_the_first_pictures(document):
    kept = sets.one_class(document, "a", 2)
    assert [image["id"] for image in kept["images"]] == [1, 2] and [box["id"] for box in kept["annotations"]] == [0]
    assert kept["categories"] == [{"id": 1, "name": "a"}]
    assert [box["id"] for box in sets.one_class(document, "a", None)["annotations"]] == [0, 3]


def test_small_objects_and_crowds_become_crowds_of_the_one_class(document):
    kept = sets.large_objects(document)
    assert [box["iscrowd"] for box in kept["annotations"]] == [0, 1, 1, 0]
    assert {box["category_id"] for box in kept["annotations"]} == {1} and document["annotations"][1]["category_id"] == 2


def test_a_row_has_mean_and_deviation():
    results = [dict(zip(COLUMNS[2:], (0.6, 30, 0.5, score, 0.9, 10), strict=True)) for score in (0.50, 0.52, 0.54)]
    assert row("x", results) == "| x | 3 | 0.600 ± 0.000 | 30 | 0.500 ± 0.000 | 0.520 ± 0.020 | 0.900 ± 0.000 | 10 |"
    assert row("x", results[:1]) == "| x | 1 | 0.600 | 30 | 0.500 | 0.500 | 0.900 | 10 |"
