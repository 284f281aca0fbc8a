import json

import numpy as np
import pytest

from graftdet.data.dataset_config import load_data_config, open_split
from graftdet.utils.config import CONFIGS
from graftdet.utils.errors import UserError
from graftdet.utils.images.io import write_image

COCO128 = """
# COCO128 dataset (first 128 images from COCO train2017)
path: ../datasets/coco128  # dataset root dir
train: images/train2017  # train images (relative to 'path') 128 images
val: images/train2017  # val images (relative to 'path') 128 images
test:  # test images (optional)

# Classes
names:
  0: person
  1: bicycle

# Download script/URL (optional)
download: https://example.org/coco128.zip
"""
COCO = """
path: ../datasets/coco
train: train2017.txt  # 118287 images
val: val2017.txt  # 5000 images
test: test-dev2017.txt
names:
  0: person
  1: bicycle
download: |
  from utils.general import download, Path
  segments = False  # segment or box labels
  dir = Path(yaml['path'])  # dataset root dir
  open('executed', 'w')
"""
VOC = """
path: ../datasets/VOC
train: # train images (relative to 'path')  16551 images
  - images/train2012
  - images/train2007
val:
  - images/test2007
test:
  - images/test2007
names:
  0: person
  1: bicycle
download: |
  import xml.etree.ElementTree as ET
"""
OLD = """
train: ../coco128/images/train2017/
val: ../coco128/images/train2017/
nc: 2
names: ['person', 'bicycle']
"""
ROBOFLOW = """
train: ../train/images
val: ../valid/images
test: ../test/images

nc: 2
names: ['person', 'bicycle']

roboflow:
  workspace: someone
  project: thing
  version: 1
  license: CC BY 4.0
  url: https://example.org/thing
"""


def write_blank(path, label=None):
    write_image(path, np.full((20, 40, 3), 90, np.uint8))
    if label is not None:
        parts = ["labels" if part == "images" else part for part in path.parts]
        text = type(path)(*parts).with_suffix(".txt")
        text.parent.mkdir(parents=True, exist_ok=True)
        text.write_text(label)


@pytest.mark.parametrize(
    ("text", "folders"),
    [
        (COCO128, ["datasets/coco128/images/train2017"]),
        (COCO, ["datasets/coco/images/train2017", "datasets/coco/images/val2017"]),
        (VOC, [f"datasets/VOC/images/{name}" for name in ("train2012", "train2007", "test2007")]),
        (OLD, ["datasets/coco128/images/train2017"]),
        (ROBOFLOW, ["yamls/train/images", "yamls/valid/images", "yamls/test/images"]),
    ],
    ids=["coco128", "coco", "voc", "old", "roboflow"],
)
def test_published_yamls_load_unchanged(tmp_path, monkeypatch, text, folders):
    for number, folder in enumerate(folders):
        write_blank(tmp_path / folder / f"{number}.jpg", f"{number % 2} 0.5 0.5 0.5 0.5")
    for split in ("train2017", "val2017"):
        listed = tmp_path / "datasets/coco" / f"{split}.txt"
        if listed.parent.is_dir():
            files = sorted((tmp_path / "datasets/coco/images" / split).iterdir())
            listed.write_text("".join(f"./images/{split}/{file.name}\n" for file in files))
    monkeypatch.setenv("DATASETS_DIR", str(tmp_path / "datasets"))
    (tmp_path / "yamls").mkdir(exist_ok=True)
    (tmp_path / "yamls/d.yaml").write_text(text)
    monkeypatch.chdir(tmp_path / "yamls")
    config = load_data_config("d.yaml")
    assert config.format == "yolo" and config.names == ["person", "bicycle"]
    for split in ("train", "val"):
        opened = open_split(config, split)
        assert opened.samples and all(len(sample.boxes) == 1 for sample in opened.samples)
        assert not opened.problems
    assert len(open_split(config, "train").samples) == (2 if text is VOC else 1)
    assert not (tmp_path / "yamls/executed").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tran: x", "unknown key 'tran'; did you mean 'train'"),
        ("format: yol\ntrain: x", "unknown format 'yol'; did you mean 'yolo'"),
        ("train: gone\nnames: [a]", "'gone' not found .tried .*gone.; set DATASETS_DIR"),
        ("path: nowhere\ntrain: x", "dataset .nowhere. not found .tried .*datasets.nowhere, .*d.nowhere"),
        ("path: gone\nsource: the shop\ntrain: x", "get it from the shop"),
        ("path: gone\ndownload: bash rm\ntrain: x", "download: block of the YAML is never executed"),
        ("path: gone\ndownload: https://a.b/c.zip\ntrain: x", "get it from https://a.b/c.zip"),
        ("names: [a]", "no split, expected one of train, val, test"),
        ("format: coco\nnames: [a]", "no split, expected one of train, val, test"),
        ("train: 5.5.5: x", "not valid YAML: a ': ' stands within a value; put"),
        ("train: {image: x, annotations: y}", "unknown key 'image'; did you mean 'images'"),
        ("train: {images: x}", "expected a path, a list of paths"),
        ("train: [[a]]", "train: expected a path"),
        ("train: x\nnames: 3", "names: expected a list"),
        ("train: x\nnames: []", "names: is empty"),
        ("train: x\nnames: [a, a]", "'a' is given twice"),
        ("train: x\nnames: {a: b}", "names: key: expected a whole number, got 'a'"),
        ("train: x\nnames: {-1: b}", "must be different and not negative"),
        ("train: x\nnames: [a, [b]]", "names: expected strings"),
        (
            "train: x\nnames: [yes, maybe]",
            "names: YAML reads yes, no, on and off as booleans, here as True; put the name in quotes",
        ),
        ("train: x\nnc: 2\nnames: [a]", "nc is 2 but names has 1"),
        ("train: x\nnc: none", "nc: expected a whole number"),
        ("train: x\nnc: 0", "nc: expected a number of classes"),
        ("path: [a]\ntrain: x", "path: expected a path"),
        ("[a, b]", "expected a mapping"),
    ],
)
def test_mistakes_are_reported(tmp_path, monkeypatch, text, message):
    (tmp_path / "d").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DATASETS_DIR", raising=False)
    (tmp_path / "d/d.yaml").write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        load_data_config("d/d.yaml")
    assert "\n" not in str(caught.value) and "d.yaml" in str(caught.value)


def test_folder_of_images_without_labels_has_no_format(tmp_path):
    write_blank(tmp_path / "images/a.png")
    (tmp_path / "d.yaml").write_text("train: images\n")
    with pytest.raises(
        UserError,
        match="cannot detect the format.*add format: with one of coco, contours, dota, labelme, shapes, voc, yolo",
    ):
        load_data_config(tmp_path / "d.yaml")


def test_search_order_of_path(tmp_path, monkeypatch):
    for base in ("there/set", "yamls/set", "elsewhere"):
        write_blank(tmp_path / base / "images/a.png", "0 .5 .5 .1 .1")
    monkeypatch.setenv("DATASETS_DIR", str(tmp_path / "there"))
    path = tmp_path / "yamls/d.yaml"

    def root(line):
        path.write_text(f"{line}\ntrain: images\nnames: [a]\n")
        return load_data_config(path).root

    assert root("path: set") == tmp_path / "there/set"
    assert root(f"path: {tmp_path / 'elsewhere'}") == tmp_path / "elsewhere"
    (tmp_path / "there/set").rename(tmp_path / "there/other")
    assert root("path: set") == tmp_path / "yamls/set"
    write_blank(tmp_path / "yamls/images/a.png", "0 .5 .5 .1 .1")
    write_blank(tmp_path / "there/images/a.png", "0 .5 .5 .1 .1")
    assert root("") == root("path: .") == tmp_path / "yamls"


def test_splits(tmp_path):
    write_blank(tmp_path / "images/a.png", "0 .5 .5 .1 .1")
    (tmp_path / "d.yaml").write_text("train: images\nnames: [a]\n")
    config = load_data_config(tmp_path / "d.yaml")
    assert config.has("train") and not config.has("val")
    with pytest.raises(
        UserError, match=r"has no split 'val' \(known: train\); add val: to the YAML, or .* python -m data split"
    ):
        open_split(config, "val")


def test_all_coco_splits_use_the_class_indices_of_the_first(tmp_path, capsys):
    write_blank(tmp_path / "images/1.png")
    for split, names in (("train", ["b", "c"]), ("val", ["a", "b", "c"])):
        categories = [{"id": number, "name": name} for number, name in enumerate(names)]
        boxes = [{"image_id": 1, "category_id": c["id"], "bbox": [1, 1, 5, 5]} for c in categories]
        images = [{"id": 1, "file_name": "1.png", "width": 40, "height": 20}]
        document = {"images": images, "annotations": boxes, "categories": categories}
        (tmp_path / f"{split}.json").write_text(json.dumps(document))
    (tmp_path / "d.yaml").write_text("train: train.json\nval: val.json\n")
    config = load_data_config(tmp_path / "d.yaml")
    val = open_split(config, "val")
    assert val.names == ["b", "c"] and val.category_ids == [1, 2] and val.samples[0].labels.tolist() == [0, 1]
    assert "val: 1 object of classes that are not selected" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["bccd", "coco", "coco_tiny", "voc"])
def test_missing_dataset_names_its_source(tmp_path, monkeypatch, name):
    monkeypatch.setenv("DATASETS_DIR", str(tmp_path))
    with pytest.raises(UserError, match=f"tried {tmp_path}.*get it from|tried {tmp_path}.*cocodataset"):
        load_data_config(f"{name}.yaml")


def test_bare_names_and_suggestions():
    assert sorted(path.stem for path in (CONFIGS / "data").glob("*.yaml")) == [
        "bccd",
        "coco",
        "coco_tiny",
        "contours",
        "contours200",
        "shapes",
        "voc",
    ]
    with pytest.raises(UserError, match="did you mean 'shapes.yaml'"):
        load_data_config("shpes.yaml")
    with pytest.raises(UserError, match="data: is a folder, expected a YAML file; did you mean '.*/bccd.yaml'"):
        load_data_config(CONFIGS / "data")


def test_a_folder_of_images_in_place_of_a_yaml_is_answered_with_what_to_write(tmp_path):
    with pytest.raises(UserError, match=r"is a folder.*write one, such as .*/data\.yaml, with train: images/train"):
        load_data_config(tmp_path)


def test_a_misspelled_folder_is_reported_once_with_the_nearest(tmp_path):
    (tmp_path / "images" / "train").mkdir(parents=True)
    (tmp_path / "data.yaml").write_text("train: images/trian\nnames: [a]\n")
    with pytest.raises(UserError) as error:
        load_data_config(tmp_path / "data.yaml")
    assert "data.yaml: train: 'images/trian' not found" in str(error.value)
    assert str(error.value).endswith("did you mean 'images/train'?")


def test_real_data_and_nothing_is_written_there(datasets_dir, monkeypatch):
    monkeypatch.setenv("DATASETS_DIR", str(datasets_dir))
    before = sorted(path for path in datasets_dir.rglob("*"))
    config = load_data_config("bccd")
    counts = {split: len(open_split(config, split)) for split in config.splits}
    assert counts == {"train": 205, "val": 87, "test": 72} and config.names == ["RBC", "WBC", "Platelets"]
    assert before == sorted(path for path in datasets_dir.rglob("*"))


def test_a_model_yaml_is_recognized(tmp_path):
    path = tmp_path / "m.yaml"
    path.write_text("nc: 1\nbackbone: [[-1, 1, Conv, [8]]]\nhead: [[[0], 1, Detect, [nc]]]\n")
    for wrong in (path, CONFIGS / "models" / "yolov5n.yaml"):
        with pytest.raises(UserError, match=r"is a model YAML, not a dataset YAML; give it as --cfg, and the dataset"):
            load_data_config(wrong)
    with pytest.raises(UserError, match=r"yolov5n: is a YAML of configs/models, expected one of configs/data; .*--cfg"):
        load_data_config("yolov5n")
