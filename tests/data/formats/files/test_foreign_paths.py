"""Splits and lists of images that another machine or tool wrote."""

import numpy as np
import pytest

from graftdet.data.dataset_config import load_data_config, open_split
from graftdet.data.formats.validation import MISSING
from graftdet.utils.errors import UserError
from graftdet.utils.images.io import write_image

ROW = "0 0.5 0.5 0.5 0.5\n"


def add(path, label):
    write_image(path, np.full((20, 40, 3), 90, np.uint8))
    label.parent.mkdir(parents=True, exist_ok=True)
    label.write_text(ROW)


@pytest.fixture
def root(tmp_path):
    for name in ("a", "b"):
        add(tmp_path / f"images/train/{name}.jpg", tmp_path / f"labels/train/{name}.txt")
    return tmp_path


def open_train(root, value, names="names: [cat]\n"):
    (root / "data.yaml").write_text(f"train: {value}\n{names}")
    config = load_data_config(root / "data.yaml")
    assert config.format == "yolo"
    return open_split(config, "train")


@pytest.mark.parametrize(
    "value",
    [
        "images\\train",
        ".\\images\\train",
        "..\\images\\train",
        "D:\\data\\set\\images\\train",
        "/content/drive/My Drive/set/images/train",
        "labels/train",
    ],
)
def test_folders_of_another_machine(root, value):
    split = open_train(root, value)
    assert [sample.path.name for sample in split.samples] == ["a.jpg", "b.jpg"] and not split.problems
    assert split.samples[0].boxes.tolist() == [[10, 5, 30, 15]]


def test_a_path_with_backslashes(root, tmp_path):
    (tmp_path / "yaml").mkdir()
    (tmp_path / "yaml/data.yaml").write_text("path: ..\\images\\..\\\ntrain: images\\train\nnames: [cat]\n")
    assert len(open_split(load_data_config(tmp_path / "yaml/data.yaml"), "train")) == 2


def test_missing_folders_are_named_with_what_was_tried(root):
    (root / "data.yaml").write_text("train: D:\\set\\images\\trian\nnames: [cat]\n")
    with pytest.raises(UserError, match=r"train: 'D:\\set\\images\\trian' not found \(tried "):
        load_data_config(root / "data.yaml")


def test_a_path_in_double_quotes_that_has_an_escape(root):
    for key, text in (("train", 'train: "images\\train"\n'), ("path", 'path: "x\\new"\ntrain: images/train\n')):
        (root / "data.yaml").write_text(text + "names: [cat]\n")
        with pytest.raises(UserError, match=rf"{key} '.*\\.*' has control characters: in double quotes YAML reads"):
            load_data_config(root / "data.yaml")


@pytest.mark.parametrize(
    "line",
    [
        "images/train/{}.jpg",
        '"images/train/{}.jpg"',
        "'./images/train/{}.jpg'",
        "./images/train/{}.jpg",
        "images\\train\\{}.jpg",
        "D:\\data\\set\\images\\train\\{}.jpg",
        "/home/ann/set/images/train/{}.jpg",
        "data/images/train/{}.jpg",
        "../../set/images/train/{}.jpg",
        "somewhere/{}.jpg",
    ],
)
def test_lists_of_another_machine(root, line):
    text = "\ufeff" + "\r\n".join([line.format("a"), "", line.format("b")]) + "\r\n"
    (root / "train.txt").write_text(text, encoding="utf-8")
    split = open_train(root, "train.txt")
    assert [sample.path for sample in split.samples] == [root / f"images/train/{name}.jpg" for name in "ab"]
    assert [sample.labels.tolist() for sample in split.samples] == [[0], [0]] and not split.problems


def test_lists_with_boxes_behind_the_names(root):
    (root / "train.txt").write_text("images/train/a.jpg 10,10,30,40,0\n")
    with pytest.raises(UserError, match="first: .*images/train/a.jpg 10,10,30,40,0: no such file"):
        open_train(root, "train.txt")


def test_accents_as_one_or_two_characters(root):
    add(root / "images/accents/caf\u00e9.jpg", root / "labels/accents/cafe\u0301.txt")
    add(root / "images/accents/nin\u0303o.jpg", root / "labels/accents/ni\u00f1o.txt")
    split = open_train(root, "images/accents")
    assert [sample.labels.tolist() for sample in split.samples] == [[0], [0]] and not split.problems


def test_lists_do_not_search_if_other_images_are_found(root):
    add(root / "images/val/c.jpg", root / "labels/val/c.txt")
    (root / "train.txt").write_text("images/train/a.jpg\nimages/train/c.jpg\n")
    split = open_train(root, "train.txt")
    assert [sample.path.name for sample in split.samples] == ["a.jpg"] and dict(split.problems) == {MISSING: 1}


def test_the_yolo_export_of_cvat(tmp_path):
    for name in ("frame_000000", "frame_000001"):
        add(tmp_path / f"obj_train_data/{name}.PNG", tmp_path / f"obj_train_data/{name}.txt")
    (tmp_path / "obj.names").write_text("cat\ndog\n")
    (tmp_path / "obj.data").write_text(
        "classes = 2\ntrain = data/train.txt\nnames = data/obj.names\nbackup = backup/\n"
    )
    lines = [f"data/obj_train_data/frame_00000{number}.PNG" for number in (1, 0)]
    (tmp_path / "train.txt").write_text("\n".join(lines) + "\n")
    split = open_train(tmp_path, "train.txt", "")
    assert split.names == ["cat", "dog"] and not split.problems
    assert [sample.path.name for sample in split.samples] == ["frame_000001.PNG", "frame_000000.PNG"]
    assert [sample.labels.tolist() for sample in split.samples] == [[0], [0]]


def test_keys_of_ultralytics(root):
    keys = "channels: 3\nflip_idx: [0, 2, 1]\ntest:  # optional\nkpt_shape: [17, 3]\ndownload: |\n  import os\n"
    assert len(open_train(root, "images/train", f"names: {{0: cat}}\n{keys}")) == 2


def test_labels_requires_the_yolo_format(tmp_path):
    write_image(tmp_path / "pics/a.png", np.zeros((20, 40, 3), np.uint8))
    (tmp_path / "pics/a.json").write_text('{"shapes": [], "imagePath": "a.png"}')
    (tmp_path / "data.yaml").write_text("train: pics\nnames: [cat]\nlabels: box\n")
    with pytest.raises(UserError, match="data.yaml: labels: .*the format is labelme"):
        load_data_config(tmp_path / "data.yaml")


@pytest.mark.parametrize("path", ["D:\\data\\set", "D:/data/set", "/content/set", "../elsewhere/set"])
def test_the_path_of_another_machine_if_the_splits_are_beside_the_yaml(root, path, caplog):
    (root / "data.yaml").write_text(f"path: {path}\ntrain: images/train\nval: images/gone\nnames: [cat]\n")
    assert len(open_split(load_data_config(root / "data.yaml"), "train")) == 2
    assert f"data.yaml: path '{path}' not found; its splits are read below {root}".replace("\\", "/") in caplog.text


@pytest.mark.parametrize("path", ["D:\\data\\set", "/content/drive/set"])
@pytest.mark.parametrize("where", ["datasets", "yaml"])
def test_the_path_of_another_machine_whose_last_folder_is_here(root, path, where, tmp_path, monkeypatch):
    (tmp_path / "datasets").mkdir()
    (tmp_path / "yaml").mkdir()
    monkeypatch.setenv("DATASETS_DIR", str(tmp_path / "datasets"))
    (tmp_path / "images").rename(tmp_path / where / "images")
    (tmp_path / where / "set").mkdir()
    (tmp_path / where / "images").rename(tmp_path / where / "set/images")
    (tmp_path / "yaml/data.yaml").write_text(f"path: {path}\nformat: yolo\ntrain: images/train\nnames: [cat]\n")
    assert load_data_config(tmp_path / "yaml/data.yaml").root == tmp_path / where / "set"


def test_the_path_of_another_machine_of_coco_and_one_without_splits(tmp_path):
    write_image(tmp_path / "images/a.jpg", np.full((20, 40, 3), 90, np.uint8))
    (tmp_path / "train.json").write_text('{"images": [], "annotations": [], "categories": [{"id": 1, "name": "a"}]}')
    text = "path: C:\\set\ntrain: {images: images, annotations: %s}\n"
    (tmp_path / "data.yaml").write_text(text % "train.json")
    assert load_data_config(tmp_path / "data.yaml").root == tmp_path
    (tmp_path / "data.yaml").write_text(text % "gone.json")
    with pytest.raises(UserError, match="data.yaml: dataset 'C:/set' not found"):
        load_data_config(tmp_path / "data.yaml")


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        ("images/train/*.jpg", ", such as images/train,"),
        ("images\\train\\*.jpg", ", such as images/train,"),
        ("['images/train/?.jpg']", ", such as images/train,"),
        ("gone/**/*.png", ","),
        ("'*.jpg'", ","),
    ],
)
@pytest.mark.parametrize("more", ["", "format: yolo\n"])
def test_patterns_are_refused(root, value, hint, more):
    (root / "data.yaml").write_text(f"train: {value}\nnames: [cat]\n{more}")
    with pytest.raises(
        UserError, match=rf"data.yaml: train: '.*' is a pattern; expected a folder of images{hint} or a"
    ):
        open_split(load_data_config(root / "data.yaml"), "train")


def test_folders_whose_names_look_like_patterns(root):
    add(root / "images/set [1]/c.jpg", root / "labels/set [1]/c.txt")
    assert len(open_train(root, "images/set [1]")) == 1


@pytest.mark.parametrize("value", ["images/train/a.jpg", "[images/train/a.jpg]", "D:\\set\\images\\train\\a.jpg"])
def test_a_split_of_one_image(root, value):
    split = open_train(root, value)
    assert len(split.samples) == 1 and split.samples[0].labels.tolist() == [0]
