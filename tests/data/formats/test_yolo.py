import os

import numpy as np
import pytest

from graftdet.data.dataset_config import load_data_config, open_split
from graftdet.data.formats import yolo
from graftdet.data.formats.files.image_lists import LISTED_TWICE
from graftdet.data.formats.files.yolo_paths import label_path
from graftdet.data.formats.validation import CLIPPED, DEGENERATE, MISSING, NOT_FINITE, OUTSIDE, UNREADABLE
from graftdet.data.formats.yolo import BAD_CLASS, BAD_LABEL_FILE, BAD_ROW, CORNERS, NO_IMAGE_FILE
from graftdet.utils.errors import UserError
from graftdet.utils.images.io import write_image


def write_blank(path, width=40, height=20):
    write_image(path, np.full((height, width, 3), 90, np.uint8))
    return path


def make(root, rows: dict, split="train", yaml=None):
    """Write 40x20 images with their labels (None: no file) and a YAML; return its path."""
    for name, text in rows.items():
        write_blank(root / "images" / split / name)
        if text is not None:
            path = (root / "labels" / split / name).with_suffix(".txt")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    path = root / "data.yaml"
    path.write_text(yaml or "train: images/train\nnames: [cat, dog]\n", encoding="utf-8")
    return path


def open_train(path, **more):
    return open_split(load_data_config(path), "train", **more)


def test_rows_become_pixels_and_ids(tmp_path):
    split = open_train(
        make(tmp_path, {"7.png": "1 0.5 0.5 0.25 0.5\n0 0.1 0.2 0.2 0.4\n", "b.png": None, "c.png": "\n"})
    )
    assert [sample.image_id for sample in split.samples] == ["7", "b", "c"]
    first = split.samples[0]
    assert first.boxes.tolist() == [[15, 5, 25, 15], pytest.approx([0, 0, 8, 8])] and first.boxes.dtype == np.float32
    assert first.labels.tolist() == [1, 0] and (first.width, first.height) == (40, 20)
    assert first.areas.tolist() == pytest.approx([100, 64])
    assert [len(sample.boxes) for sample in split.samples] == [2, 0, 0]
    assert split.names == ["cat", "dog"] and split.category_ids == [0, 1]
    assert not split.problems
    assert split.ground_truth()["annotations"][0]["bbox"] == [15, 5, 10, 10]


def test_polygons_become_bounding_boxes(tmp_path):
    text = "0 0.25 0.5 0.5 0.25 0.75 0.5 0.5 1.0\n1 0.1 0.1 0.2 0.1 0.15 0.3\n"
    boxes = open_train(make(tmp_path, {"a.png": text})).samples[0].boxes
    assert np.allclose(boxes, [[10, 5, 30, 20], [4, 2, 8, 6]])


def test_every_defect_drops_its_row_and_is_counted(tmp_path):
    rows = [
        "0 0.5 0.5 0.2 0.2",  # good
        "2 0.5 0.5 0.2 0.2",
        "-1 0.5 0.5 0.2 0.2",  # no such class
        "0 0.5 0.5 0.2",
        "0 0.5 0.5 0.2 0.2 1.9",
        "cat 0.5 0.5 0.2 0.2",
        "0.5 0.5 0.5 0.2 0.2",
        "0 0.1 0.1 0.2 0.2 0.3 0.3 0.4",
        "0 0.1 0.1 0.2",  # wrong number of values
        "0 nan 0.5 0.2 0.2",
        "0 0.5 0.5 0 0.2",
        "0 0.5 0.5 0.2 -0.1",
        "0 2.5 0.5 0.2 0.2",
        "1 0.95 0.5 0.2 0.2",
    ]
    path = make(tmp_path, {"a.png": "\n".join(rows), "b.png": None})
    (tmp_path / "labels/train/b.txt").write_bytes(b"\xff\xfe\x00binary")
    split = open_train(path)
    expected = {BAD_CLASS: 2, BAD_ROW: 6, NOT_FINITE: 1, DEGENERATE: 2, OUTSIDE: 1, CLIPPED: 1, BAD_LABEL_FILE: 1}
    assert dict(split.problems) == expected
    assert "row 2: class 2" in split.problems.examples[BAD_CLASS][0]
    assert np.allclose(split.samples[0].boxes, [[16, 8, 24, 12], [34, 8, 40, 12]]) and len(split.samples) == 1


def test_rows_in_pixels_are_reported_as_such(tmp_path):
    split = open_train(make(tmp_path, {"a.png": "0 0.5 0.5 0.2 0.2\n1 20 10 8 4\n"}))
    assert dict(split.problems) == {yolo.IN_PIXELS: 1} and split.samples[0].labels.tolist() == [0]
    assert split.problems.examples[yolo.IN_PIXELS][0].endswith("a.txt, row 2")


def test_lists_and_folders(tmp_path):
    yaml = "path: .\ntrain: [train.txt, images/more]\nnames: {0: cat, 1: dog}\n"
    path = make(tmp_path, {"a.png": "0 .5 .5 .1 .1", "b.png": "1 .5 .5 .1 .1"}, yaml=yaml)
    make(tmp_path, {"deep/c.png": "1 .5 .5 .1 .1"}, "more", yaml)
    (tmp_path / "train.txt").write_text("./images/train/b.png\n\nimages\\train\\a.png\n./images/train/gone.png\n")
    split = open_train(path)
    assert [sample.image_id for sample in split.samples] == ["b", "a", "c"]
    assert [sample.labels.tolist() for sample in split.samples] == [[1], [0], [1]]
    assert dict(split.problems) == {MISSING: 1}


def test_lists_below_the_root_and_of_absolute_paths(tmp_path):
    path = make(tmp_path, {"a.png": "0 .5 .5 .1 .1", "b.png": None}, yaml="train: lists/t.txt\nnames: [cat]\n")
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists/t.txt").write_text("images/train/a.png\n")
    assert len(open_train(path).samples[0].boxes) == 1
    (tmp_path / "lists/t.txt").write_text(f"{tmp_path / 'images/train/a.png'}\n")
    assert len(open_train(path).samples[0].boxes) == 1


@pytest.mark.parametrize(
    ("image", "label"),
    [
        ("d/images/train/a.b.jpg", "d/labels/train/a.b.txt"),
        ("images/x/images/a.jpg", "images/x/labels/a.txt"),
        ("d/photos/a.jpg", "d/photos/a.txt"),
        ("d/images.jpg", "d/images.txt"),
    ],
)
def test_label_path(image, label):
    from pathlib import Path

    assert label_path(Path(image)) == Path(label)


def test_labels_beside_images(tmp_path):
    write_blank(tmp_path / "images/train/a.png")
    (tmp_path / "images/train/a.txt").write_text("0 .5 .5 .1 .1")
    (tmp_path / "d.yaml").write_text("format: yolo\ntrain: images/train\nnames: [cat]\n")
    assert len(open_train(tmp_path / "d.yaml").samples[0].boxes) == 1


def test_ids_are_of_one_type_and_unique(tmp_path):
    row = "0 .5 .5 .1 .1"
    yaml = "train: [images/one, images/two]\nnames: [cat]\n"
    make(tmp_path, {"000139.png": row, "5.png": None}, "one", yaml)
    path = make(tmp_path, {"6.png": None}, "two", yaml)
    assert [sample.image_id for sample in open_train(path).samples] == [139, 5, 6]
    write_blank(tmp_path / "images/two/b.png")
    assert [sample.image_id for sample in open_train(path).samples] == ["000139", "5", "6", "b"]
    write_blank(tmp_path / "images/two/5.png")
    ids = [f"images/{name}.png" for name in ("one/000139", "one/5", "two/5", "two/6", "two/b")]
    assert [sample.image_id for sample in open_train(path).samples] == ids


def test_label_files_without_image_and_images_listed_twice(tmp_path):
    yaml = "train: [images/train, images/train/a.png]\nnames: [cat]\n"
    path = make(tmp_path, {"a.png": "0 .5 .5 .1 .1", "b.png": ""}, yaml=yaml)
    (tmp_path / "labels/train/alone.txt").write_text("0 .5 .5 .1 .1")
    (tmp_path / "labels/train/classes.txt").write_text("cat")
    split = open_train(path)
    assert len(split.samples) == 2 and dict(split.problems) == {NO_IMAGE_FILE: 1, LISTED_TWICE: 1}
    assert split.problems.examples[NO_IMAGE_FILE][0].endswith("alone.txt")


def test_names(tmp_path):
    rows = {"a.png": "0 .5 .5 .1 .1\n3 .5 .5 .2 .2\n4 .5 .5 .2 .2\n5 .5 .5 .2 .2"}
    subset = make(tmp_path, rows, yaml="train: images/train\nnames: {0: cat, 4: dog}\n")
    split = open_train(subset)
    assert split.samples[0].labels.tolist() == [0, 1] and split.category_ids == [0, 4]
    assert dict(split.problems) == {BAD_CLASS: 2}  # 5 is beyond the last one, 3 in a gap
    assert split.problems.examples[BAD_CLASS][0].endswith("row 2: class 3, expected one of 0, 4")
    assert open_train(subset, names=["dog"]).samples[0].labels.tolist() == [0]
    with pytest.raises(UserError, match="unknown class 'dgo'; did you mean 'dog'"):
        open_train(subset, names=["dgo"])
    counted = make(tmp_path, rows, yaml="train: images/train\nnc: 5\n")
    assert open_train(counted).names == [f"class{n}" for n in range(5)]
    without_names = make(tmp_path, rows, yaml="train: images/train\n")
    with pytest.raises(UserError, match="names: .or nc:. in the YAML"):
        open_train(without_names)
    (tmp_path / "classes.txt").write_text("a\nb\nc\nd\ne\nf\n")
    assert open_train(without_names).names == list("abcdef")


def test_training_split_without_labels_raises(tmp_path):
    with pytest.raises(UserError, match="no boxes to train on"):
        open_train(make(tmp_path, {"a.png": None}, yaml="format: yolo\ntrain: images/train\nnames: [cat]\n"))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes with names")
def test_images_and_labels_that_are_no_regular_files_are_skipped_and_counted(tmp_path):
    path = make(tmp_path, {f"{name}.png": "0 0.5 0.5 0.2 0.2\n" for name in "abcde"})
    for file in ("images/train/a.png", "images/train/b.png", "labels/train/c.txt"):
        (tmp_path / file).unlink()
    os.mkfifo(tmp_path / "images/train/a.png")
    (tmp_path / "images/train/b.png").symlink_to("/dev/zero")
    os.mkfifo(tmp_path / "labels/train/c.txt")
    split = open_train(path)
    assert [sample.image_id for sample in split.samples] == ["d", "e"]
    assert (split.problems[UNREADABLE], split.problems[BAD_LABEL_FILE]) == (2, 1)


def test_rows_of_corners_are_named(tmp_path):
    row = "0 0.4 0.4 0.7 0.8\n1 0.1 0.2 0.5 0.6\n0 0.6 0.6 0.9 0.9\n"
    split = open_train(make(tmp_path, {"a.png": row}))
    assert split.problems[CORNERS] == 3 and split.problems.examples[CORNERS][0].endswith("labels/train/a.txt")
    for other in ("0 0.4 0.4 0.7 0.8\n" * 2, row + "1 0.9 0.9 0.1 0.1\n", "0 0.5 0.5 0.9 0.9\n" * 4):
        assert CORNERS not in open_train(make(tmp_path, {"a.png": other})).problems


@pytest.mark.filterwarnings("error")
def test_infinite_values_and_numbers_that_are_no_classes(tmp_path):
    rows = "0 inf 0.5 0.2 0.2\n1e400 0.5 0.5 0.2 0.2\n9e30 0.5 0.5 0.2 0.2\n0 0.5 0.5 0.2 0.2\n"
    split = open_train(make(tmp_path, {"a.png": rows}))
    assert dict(split.problems) == {NOT_FINITE: 1, BAD_ROW: 2}


@pytest.mark.parametrize("name", ["train.zip", "train.yaml"])
def test_a_split_that_is_a_file_of_another_kind(tmp_path, name):
    (tmp_path / name).write_text("x")
    with pytest.raises(UserError, match=rf"data.yaml: train: .*{name}: expected a folder, a .txt list of images, or"):
        open_train(make(tmp_path, {"a.png": None}, yaml=f"train: {name}\nnames: [cat]\n"))
