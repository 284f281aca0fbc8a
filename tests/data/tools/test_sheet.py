"""Sheets of images with their boxes."""

import numpy as np
import pytest

from graftdet.data.__main__ import main
from graftdet.data.dataset_config import load_data_config
from graftdet.data.tools.sheet import CELL, draw_sheet
from graftdet.utils.errors import UserError
from graftdet.utils.images.io import read_image, write_image

GAP = 4


@pytest.fixture
def contours(tmp_path):
    path = tmp_path / "contours.yaml"
    path.write_text("format: contours\nnc: 4\nimage_size: 64\nepoch_length: 6\nval_images: 2\n")
    return load_data_config(path)


def test_sheet_of_drawn_images(contours, tmp_path):
    sheet = read_image(draw_sheet(contours, tmp_path / "a.png", count=5))
    assert sheet.shape == (2 * (CELL + GAP) + GAP, 3 * (CELL + GAP) + GAP, 3)
    assert np.array_equal(sheet, read_image(draw_sheet(contours, tmp_path / "b.png", count=5)))
    assert not np.array_equal(sheet, read_image(draw_sheet(contours, tmp_path / "c.png", count=5, seed=1)))
    val = read_image(draw_sheet(contours, tmp_path / "d.png", split="val", count=100))
    assert val.shape == (CELL + 2 * GAP, 2 * (CELL + GAP) + GAP, 3)


def test_boxes_are_scaled_with_images_of_any_size(tmp_path):
    for name, side in (("small", 40), ("large", 1000)):
        write_image(tmp_path / "images" / f"{name}.png", np.zeros((side, side // 2, 3), np.uint8))
        (tmp_path / "labels").mkdir(exist_ok=True)
        (tmp_path / "labels" / f"{name}.txt").write_text("0 0.5 0.5 0.5 0.25\n")
    (tmp_path / "set.yaml").write_text("train: images\nnames: [cat]\n")
    sheet = read_image(draw_sheet(load_data_config(tmp_path / "set.yaml"), tmp_path / "sheet.png"))
    assert sheet.shape == (CELL + 2 * GAP, 2 * (CELL // 2 + GAP) + GAP, 3)
    for left in (GAP, 2 * GAP + CELL // 2):
        drawn = sheet[GAP : GAP + CELL, left : left + CELL // 2].any(2)
        rows, columns = np.nonzero(drawn)
        assert abs(columns.min() - 60) <= 2 and abs(columns.max() - 180) <= 2 and abs(rows.max() - 300) <= 2


def test_unreadable_image_is_gray(tmp_path):
    for name in "ab":
        write_image(tmp_path / "images" / f"{name}.png", np.zeros((8, 8, 3), np.uint8))
    (tmp_path / "set.yaml").write_text(
        "format: yolo\ntrain: images\nnames: [cat]\nval: images\n"
    )  # no labels: valid for val
    content = (tmp_path / "images" / "b.png").read_bytes()
    (tmp_path / "images" / "b.png").write_bytes(content[:-20])  # its header can be read
    sheet = read_image(draw_sheet(load_data_config(tmp_path / "set.yaml"), tmp_path / "sheet.png", split="val"))
    assert sorted({int(sheet[100, 100, 0]), int(sheet[100, 700, 0])}) == [0, 128]


def test_command(tmp_path, contours, capsys):
    main(["draw", str(contours.path), "--output", str(tmp_path / "sheet.jpg"), "--count", "2", "--split", "val"])
    assert capsys.readouterr().out == f"{tmp_path / 'sheet.jpg'}\n" and (tmp_path / "sheet.jpg").is_file()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"count": 0}, "--count: expected at least 1"),
        ({"seed": -1}, "--seed: expected a number of at least 0"),
        ({"split": "test"}, "no split 'test'"),
        ({"output": "sheet.txt"}, "cannot write an image"),
    ],
)
def test_invalid_arguments(contours, tmp_path, options, message):
    options = {"output": "sheet.png", "count": 1, **options}
    options["output"] = tmp_path / options["output"]
    with pytest.raises(UserError, match=message):
        draw_sheet(contours, **options)
