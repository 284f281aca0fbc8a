"""Which files of a folder are images, where their labels and class names are."""

import sys

import numpy as np
import pytest

from graftdet.data.dataset_config import load_data_config, open_split
from graftdet.data.formats.files.yolo_paths import LabelPaths
from graftdet.data.formats.validation import UNREADABLE
from graftdet.data.formats.voc import Voc
from graftdet.data.tools.audit import audit
from graftdet.data.tools.report import ERRORS, report_status
from graftdet.utils.errors import UserError
from graftdet.utils.files import is_litter
from graftdet.utils.images import optional_formats
from graftdet.utils.images.io import write_image

HEIC = b"\0\0\0\x1cftypheic\0\0\0\0mif1heicmiaf" + b"\0" * 40
ROW = "0 0.5 0.5 0.5 0.5\n"


@pytest.fixture(autouse=True)
def no_pillow(monkeypatch):
    optional_formats._load_pillow.cache_clear()
    monkeypatch.setitem(sys.modules, "PIL", None)
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    yield
    optional_formats._load_pillow.cache_clear()


def add(path, data=None, label=None, row=ROW):
    """Write an image (or other bytes) and its label."""
    if data is None:
        write_image(path, np.full((20, 40, 3), 90, np.uint8))
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    if label:
        label.parent.mkdir(parents=True, exist_ok=True)
        label.write_text(row)


def write_yaml(root, text="train: images\nnames: [cat, dog]\n"):
    (root / "data.yaml").write_text(text)
    return load_data_config(root / "data.yaml")


def test_litter_is_no_image(tmp_path):
    add(tmp_path / "images/a.jpg", label=tmp_path / "labels/a.txt")
    for litter in (
        ".ipynb_checkpoints/a-checkpoint.jpg",
        "__MACOSX/._a.jpg",
        "__MACOSX/a.jpg",
        "@eaDir/a.jpg/SYNOPHOTO_THUMB_M.jpg",
        ".hidden/b.jpg",
        ".b.jpg",
        "._a.jpg",
        "deep/.ipynb_checkpoints/c.jpg",
        "$RECYCLE.BIN/d.jpg",
        "lost+found/e.jpg",
        "~$a.jpg",
    ):
        add(tmp_path / "images" / litter)
    (tmp_path / "labels/._a.txt").write_bytes(b"\0\5\x16\7")
    split = open_split(write_yaml(tmp_path), "train")
    assert [sample.path.name for sample in split.samples] == ["a.jpg"] and not split.problems


def test_litter_of_list_files_and_voc_folders_is_no_image(tmp_path):
    add(tmp_path / "images/a.jpg", label=tmp_path / "labels/a.txt")
    for litter in (".ipynb_checkpoints/a-checkpoint.jpg", "__MACOSX/images/._a.jpg"):
        add(tmp_path / "images" / litter)
    lines = ["images/a.jpg", "./images/.ipynb_checkpoints/a-checkpoint.jpg", "images/__MACOSX/images/._a.jpg"]
    (tmp_path / "train.txt").write_text("\n".join(lines))
    assert len(open_split(write_yaml(tmp_path, "train: train.txt\nnames: [cat]\n"), "train")) == 1
    xml = "<annotation><object><name>cat</name><bndbox><xmin>2</xmin><ymin>2</ymin><xmax>9</xmax><ymax>9</ymax>"
    for folder in ("pics", "pics/.ipynb_checkpoints", "pics/__MACOSX"):
        add(tmp_path / folder / "x.jpg")
        (tmp_path / folder / "x.xml").write_text(xml + "</bndbox></object></annotation>")
    config = write_yaml(tmp_path, "format: voc\ntrain: pics\n")
    assert [sample.path for sample in Voc(config, "train")] == [tmp_path / "pics/x.jpg"]


def test_a_dataset_below_a_hidden_folder_is_read(tmp_path):
    root = tmp_path / ".cache/mine"
    add(root / "images/a.jpg", label=root / "labels/a.txt")
    assert len(open_split(write_yaml(root), "train")) == 1
    (root / "train.txt").write_text(f"{root}/images/a.jpg\n")
    assert len(open_split(write_yaml(root, "train: train.txt\nnames: [cat]\n"), "train")) == 1


@pytest.mark.parametrize("name", ["a.jpg", "A", "images", "macosx"])
def test_ordinary_names_are_not_litter(name):
    assert not is_litter(name)


def test_images_that_cannot_be_decoded_are_counted_and_named(tmp_path):
    add(tmp_path / "images/a.jpg", label=tmp_path / "labels/a.txt")
    for name, data in (
        ("b.heic", HEIC),
        ("c.HEIF", HEIC + b"c"),
        ("d.jxl", b"\xff\x0a" * 20),
        ("e.psd", b"8BPS" * 9),
        ("f.cr3", b"x" * 50),
    ):
        add(tmp_path / "images" / name, data, tmp_path / f"labels/{name[0]}.txt")
    report = audit(write_yaml(tmp_path))["splits"]["train"]
    assert (report["images"], report["usable"]) == (6, 1) and report["problems"] == {UNREADABLE: 5}
    assert (
        "b.heic: is a HEIC image, which requires: pip install 'graftdet[images]'" in report["examples"][UNREADABLE][0]
    )


def test_files_beside_images_that_are_none(tmp_path):
    add(tmp_path / "images/a.jpg", label=tmp_path / "images/a.txt")
    add(tmp_path / "images/a.heic", HEIC)  # the original of a.jpg
    for name in ("a.json", "a.xml", "a.npy", "notes.cr3", "classes.txt"):
        add(tmp_path / "images" / name, b"{}")
    split = open_split(write_yaml(tmp_path, "format: yolo\ntrain: images\nnames: [cat]\n"), "train")
    assert [sample.path.name for sample in split.samples] == ["a.jpg"] and not split.problems


def test_images_that_all_are_of_unknown_formats(tmp_path):
    for name in ("a.cr2", "b.dng"):
        add(tmp_path / "images" / name, b"II*\0" + b"\0" * 50, label=tmp_path / f"labels/{name[0]}.txt")
    config = write_yaml(tmp_path)
    assert config.format == "yolo"
    with pytest.raises(UserError, match=r"train: .*2 .*cr2"):
        open_split(config, "train")


def test_images_that_all_are_heic(tmp_path):
    for name in "abc":
        add(tmp_path / f"images/{name}.heic", HEIC, tmp_path / f"labels/{name}.txt")
    config = write_yaml(tmp_path)
    assert config.format == "yolo"
    with pytest.raises(UserError, match=r"3 of 3 images missing or unreadable.*HEIC.*pip install 'graftdet\[images\]'"):
        open_split(config, "train")
    report = audit(config)
    assert report["splits"]["train"]["problems"][UNREADABLE] == 3 and report_status(report) == ERRORS


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        ("images/train", "labels/train"),
        ("Images/train", "Labels/train"),
        ("Images/train", "labels/train"),
        ("IMAGES/train", "LABELS/train"),
        ("image/train", "label/train"),
        ("train/image", "train/label"),
        ("train/Image", "train/labels"),
        ("JPEGImages", "labels"),
        ("photos", "photos"),
    ],
)
def test_folders_of_labels(tmp_path, images, labels):
    add(tmp_path / images / "a.jpg", label=tmp_path / labels / "a.txt")
    add(tmp_path / images / "b.jpg", label=tmp_path / labels / "b.txt", row="1 0.5 0.5 0.5 0.5\n")
    config = write_yaml(tmp_path, f"train: {images}\nnames: [cat, dog]\n")
    split = open_split(config, "train")
    assert config.format == "yolo" and not split.problems
    assert [sample.labels.tolist() for sample in split.samples] == [[0], [1]]
    assert split.samples[0].boxes.tolist() == [[10, 5, 30, 15]]


@pytest.mark.parametrize("suffix", ["TXT", "Txt"])
def test_label_files_in_upper_case(tmp_path, suffix):
    add(tmp_path / "images/a.png", label=tmp_path / f"labels/a.{suffix}")
    (tmp_path / "data.yaml").write_text("train: images\nnames: [cat]\n")
    split = open_split(load_data_config(tmp_path / "data.yaml"), "train")
    assert len(split.samples[0].boxes) == 1 and not split.problems


def test_published_folders_win(tmp_path):
    for folder in ("labels", "Labels", "label"):
        add(tmp_path / "images/a.jpg", label=tmp_path / folder / "a.txt")
    assert LabelPaths().find(str(tmp_path / "images/a.jpg")) == str(tmp_path / "labels/a.txt")


@pytest.mark.parametrize("file", ["classes.txt", "pics/classes.txt", "obj.names"])
def test_class_names_from_files(tmp_path, file):
    add(tmp_path / "pics/a.jpg", label=tmp_path / "pics/a.txt", row="1 0.5 0.5 0.5 0.5\n")
    (tmp_path / file).write_text("cat\ndog\n")
    split = open_split(write_yaml(tmp_path, "train: pics\nval: pics\n"), "train")
    assert split.names == ["cat", "dog"] and split.samples[0].labels.tolist() == [1] and not split.problems


def test_class_names_in_another_encoding(tmp_path):
    add(tmp_path / "pics/a.jpg", label=tmp_path / "pics/a.txt")
    (tmp_path / "pics/classes.txt").write_bytes("安全帽\n人\n".encode("gbk"))
    with pytest.raises(UserError, match="classes.txt:1: not UTF-8, likely GBK .安全帽"):
        open_split(write_yaml(tmp_path, "train: pics\n"), "train")


def test_a_link_to_the_images_of_a_dataset(tmp_path):
    add(tmp_path / "real/images/train/a.jpg", label=tmp_path / "real/labels/train/a.txt")
    for link, target in (("images", "real/images"), ("pics", "real/images/train")):
        (tmp_path / link).symlink_to(tmp_path / target)
        split = open_split(write_yaml(tmp_path, f"train: {link}\nnames: [cat]\n"), "train")
        assert split.samples[0].labels.tolist() == [0] and not split.problems


def test_splits_without_any_label_file_name_the_first_one_that_is_missing(tmp_path):
    for name in "ab":
        add(tmp_path / f"images/{name}.jpg")
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels/a.json").write_text("{}")
    with pytest.raises(UserError, match=r"2 images, none of which has a label file \(first: expected .*labels/a.txt\)"):
        open_split(write_yaml(tmp_path, "train: images\nnames: [cat]\n"), "train")
    (tmp_path / "labels/b.txt").write_text("")
    with pytest.raises(UserError, match=r"no boxes to train on \(no annotations\)"):
        open_split(write_yaml(tmp_path, "train: images\nnames: [cat]\n"), "train")
