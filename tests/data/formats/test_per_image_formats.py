"""labelme and DOTA: recognized, with the right boxes, classes and counts."""

import json

import numpy as np
import pytest

from graftdet.data.dataset_config import load_data_config, open_split
from graftdet.data.formats.format import OTHER_CLASS
from graftdet.data.formats.per_image import BAD_FILE, BAD_OBJECT, NO_FILE
from graftdet.data.formats.validation import MISSING
from graftdet.data.tools.convert import convert
from graftdet.utils.errors import UserError
from graftdet.utils.images.io import write_image

WIDTH, HEIGHT = 100, 50


def write_images(folder, *names):
    for name in names:
        write_image(folder / name, np.full((HEIGHT, WIDTH, 3), 90, np.uint8))


def shape(label, points, kind="polygon"):
    return {"label": label, "points": points, "shape_type": kind, "group_id": None, "flags": {}}


def write_labelme(path, shapes, image=None, **more):
    document = {
        "version": "5.4.1",
        "flags": {},
        "shapes": shapes,
        "imagePath": image or f"{path.stem}.png",
        "imageData": None,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**document, "imageHeight": HEIGHT, "imageWidth": WIDTH, **more}))


def open_train(root, yaml="train: pics\n"):
    (root / "data.yaml").write_text(yaml)
    config = load_data_config(root / "data.yaml")
    return config, open_split(config, "train")


def test_shapes_of_labelme(tmp_path):
    write_images(tmp_path / "pics", "a.png", "b.png", "deep/c.png")
    shapes = [
        shape("dog", [[10, 5], [30, 8], [20, 25]]),
        shape("cat", [[40, 30], [60, 10]], "rectangle"),
        shape("cat", [[50, 25], [53, 29]], "circle"),
        shape("dog", [[5, 5], [15, 20]], "mask"),
        shape("dog", [[20, 10], [30, 20], [20, 30], [10, 20]], "rotation"),
    ]
    write_labelme(tmp_path / "pics/a.json", shapes)
    write_labelme(tmp_path / "pics/b.json", [])
    write_labelme(tmp_path / "pics/deep/c.json", [{"label": "cat", "points": [[0, 0], [9, 0], [9, 9]]}])
    config, split = open_train(tmp_path)
    assert config.format == "labelme" and split.names == ["cat", "dog"] and not split.problems
    assert split.samples[0].boxes.tolist() == [
        [10, 5, 30, 25],
        [40, 10, 60, 30],
        [45, 20, 55, 30],
        [5, 5, 15, 20],
        [10, 10, 30, 30],
    ]
    assert [sample.labels.tolist() for sample in split.samples] == [[1, 0, 0, 1, 1], [], [0]]


def test_defects_of_labelme(tmp_path):
    write_images(tmp_path / "pics", "a.png", "b.png", "other.png")
    shapes = [
        shape("dog", [[10, 5], [30, 8], [20, 25]]),
        shape("dog", [[10, 5]], "point"),
        shape("dog", [[10, 5], [30, 5]], "line"),
        shape("", [[1, 1], [5, 5]], "rectangle"),
        shape("dog", "x"),
        "text",
        shape("bird", [[1, 1], [5, 5]], "rectangle"),
    ]
    write_labelme(tmp_path / "pics/a.json", shapes)
    write_labelme(tmp_path / "pics/renamed.json", [shape("dog", [[1, 2], [5, 6]], "rectangle")], "C:\\x\\other.png")
    write_labelme(tmp_path / "pics/gone.json", [])
    (tmp_path / "pics/malformed.json").write_text("{")
    _, split = open_train(tmp_path, "train: pics\nnames: [dog]\n")
    assert dict(split.problems) == {BAD_OBJECT: 5, OTHER_CLASS: 1, NO_FILE: 1, MISSING: 1, BAD_FILE: 1}
    assert "shapes[1] point" in split.problems.examples[BAD_OBJECT][0]
    boxes = {sample.path.name: sample.boxes.tolist() for sample in split.samples}
    assert boxes == {"a.png": [[10, 5, 30, 25]], "b.png": [], "other.png": [[1, 2, 5, 6]]}


ROWS = """imagesource:GoogleEarth
gsd:0.146343590398
10 5 30 8 28 25 8 20 plane 0
60.0 10.0 80.0 10.0 80.0 30.0 60.0 30.0 small-vehicle 1
"""


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        ("train/images", "train/labelTxt"),
        ("images/train", "labelTxt/train"),
        ("train/images", "train/labelTxt-v1.0/labelTxt"),
        ("train/images", "train/labels"),
        ("pics", "pics"),
    ],
)
def test_rows_of_dota(tmp_path, images, labels):
    write_images(tmp_path / images, "P0001.png", "P0002.png")
    (tmp_path / labels).mkdir(parents=True, exist_ok=True)
    (tmp_path / labels / "P0001.txt").write_text(ROWS)
    (tmp_path / labels / "P0002.txt").write_text("imagesource:GoogleEarth\ngsd:null\n")
    config, split = open_train(tmp_path, f"train: {images}\n")
    assert config.format == "dota" and split.names == ["plane", "small-vehicle"] and not split.problems
    sample = split.samples[0]
    assert sample.boxes.tolist() == [[8, 5, 30, 25], [60, 10, 80, 30]] and sample.crowd.tolist() == [False, True]
    assert [sample.image_id for sample in split.samples] == ["P0001", "P0002"]
    _, split = open_train(tmp_path, f"train: {images}\ncrowds: objects\nnames: [small-vehicle, plane]\n")
    assert split.samples[0].crowd.tolist() == [False, False] and split.samples[0].labels.tolist() == [1, 0]


def test_class_names_of_dota_with_blanks(tmp_path):
    write_images(tmp_path / "images", "a.png")
    (tmp_path / "labelTxt").mkdir()
    corners = "10 5 30 5 30 25 10 25"
    rows = [f"{corners} large vehicle 0", f"{corners} large vehicle", f"{corners} large vehicle 1", f"{corners} plane"]
    (tmp_path / "labelTxt/a.txt").write_text("\n".join(rows))
    _, split = open_train(tmp_path, "train: images\n")
    assert split.names == ["large vehicle", "plane"] and not split.problems
    assert split.samples[0].labels.tolist() == [0, 0, 0, 1]
    assert split.samples[0].crowd.tolist() == [False, False, True, False]


def test_defects_of_dota(tmp_path):
    write_images(tmp_path / "images", "a.png", "b.png", "c.png")
    (tmp_path / "labelTxt").mkdir()
    (tmp_path / "labelTxt/c.txt").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    rows = ["1 2 3", "1 2 3 4 5 6 7 x plane 0", "1 2 3 4 5 6 7 8 9 0", "1 2 3 4 5 6 7 8 9 10 11"]
    (tmp_path / "labelTxt/a.txt").write_text(ROWS + "\n".join(rows))
    _, split = open_train(tmp_path, "train: images\n")
    assert dict(split.problems) == {BAD_OBJECT: 4, NO_FILE: 1, BAD_FILE: 1}
    assert "Git LFS" in split.problems.examples[BAD_FILE][0]
    assert "row 5: '1 2 3'" in split.problems.examples[BAD_OBJECT][0]


def test_conversion_of_labelme(tmp_path):
    write_images(tmp_path / "source/pics", "a.png")
    write_labelme(tmp_path / "source/pics/a.json", [shape("dog", [[10, 5], [30, 8], [20, 25]])])
    config, _ = open_train(tmp_path / "source")
    written = convert(config, "yolo", tmp_path / "out")
    assert np.allclose(
        open_split(load_data_config(written.yaml), "train").samples[0].boxes, [[10, 5, 30, 25]], atol=1e-3
    )


def test_labelme_in_another_encoding_is_named(tmp_path):
    write_images(tmp_path / "pics", "a.png")
    write_labelme(tmp_path / "pics/a.json", [shape("dog", [[1, 2], [30, 4]], "rectangle")])
    text = (tmp_path / "pics/a.json").read_text().replace("dog", "\u72d7\u72d7")
    (tmp_path / "pics/a.json").write_bytes(text.encode("gbk"))
    with pytest.raises(UserError, match=r"first: .*a.json:1: not UTF-8, likely GBK"):
        open_train(tmp_path)
