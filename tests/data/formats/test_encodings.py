"""Annotations and lists in the encodings that Windows' Notepad and PowerShell write, and in others."""

import codecs
import json
import re

import numpy as np
import pytest

from graftdet.data.dataset_config import load_data_config, open_split
from graftdet.data.formats.per_image import BAD_FILE
from graftdet.data.formats.yolo import BAD_LABEL_FILE
from graftdet.utils.errors import UserError
from graftdet.utils.images.io import write_image

MARKED = ["utf-8", "utf-16-le", "utf-16-be", "utf-32-le"]
BOX = [10, 5, 30, 15]


@pytest.fixture(params=MARKED)
def write(request, tmp_path):
    """`write(name, text)`: a text file with a byte order mark and line ends of Windows."""

    def write_marked(name, text):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(("\ufeff" + text.replace("\n", "\r\n")).encode(request.param))

    return write_marked


def open_train(root):
    return open_split(load_data_config(root / "data.yaml"), "train")


def write_blank(path):
    write_image(path, np.full((20, 40, 3), 90, np.uint8))


def test_yolo(tmp_path, write):
    write_blank(tmp_path / "images/train/bäume.png")
    write("labels/train/bäume.txt", "1 0.5 0.5 0.5 0.5\n0 0.5 0.5 0.5 0.5\n")
    write("train.txt", "./images/train/bäume.png\n")
    write("classes.txt", "Ast\nLöwe\n")
    write("data.yaml", "train: train.txt\n")
    split = open_train(tmp_path)
    assert split.names == ["Ast", "Löwe"] and split.samples[0].labels.tolist() == [1, 0] and not split.problems
    assert split.samples[0].boxes.tolist() == [BOX, BOX]


def test_coco(tmp_path, write):
    write_blank(tmp_path / "images/bäume.png")
    image = {"id": 1, "file_name": "bäume.png", "width": 40, "height": 20}
    annotation = {"id": 1, "image_id": 1, "category_id": 3, "bbox": [10, 5, 20, 10]}
    content = {"images": [image], "annotations": [annotation], "categories": [{"id": 3, "name": "Löwe"}]}
    write("train.json", json.dumps(content, ensure_ascii=False))
    write("data.yaml", "train: {images: images, annotations: train.json}\n")
    split = open_train(tmp_path)
    assert split.names == ["Löwe"] and split.samples[0].boxes.tolist() == [BOX]


@pytest.mark.parametrize("declaration", ["", '<?xml version="1.0"?>', '<?xml version="1.0" encoding="utf-8"?>'])
def test_voc(tmp_path, write, declaration):
    write_blank(tmp_path / "a.png")
    corners = "".join(f"<{tag}>{x}</{tag}>" for tag, x in zip(("xmin", "ymin", "xmax", "ymax"), (11, 6, 30, 15)))
    text = f"<annotation><object><name>Löwe</name><bndbox>{corners}</bndbox></object></annotation>"
    write("a.xml", declaration + text)
    write("data.yaml", "format: voc\ntrain: .\n")
    split = open_train(tmp_path)
    assert split.names == ["Löwe"] and split.samples[0].boxes.tolist() == [BOX]


def test_labelme(tmp_path, write):
    write_blank(tmp_path / "images/a.png")
    shape = {"label": " Löwe ", "shape_type": "rectangle", "points": [[10, 5], [30, 15]]}
    write("images/a.json", json.dumps({"imagePath": "a.png", "shapes": [shape]}, ensure_ascii=False))
    write("data.yaml", "train: images\n")
    split = open_train(tmp_path)
    assert split.names == ["Löwe"] and split.samples[0].boxes.tolist() == [BOX]


def test_dota(tmp_path, write):
    write_blank(tmp_path / "images/a.png")
    write("labelTxt/a.txt", "imagesource:GoogleEarth\n10 5 30 5 30 15 10 15 Löwe 0\n")
    write("data.yaml", "train: images\n")
    split = open_train(tmp_path)
    assert split.names == ["Löwe"] and split.samples[0].boxes.tolist() == [BOX]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (
            "0 0.5 0.5 0.5 0.5\n".encode("utf-16-le"),
            "b.txt: is encoded in UTF-16LE, expected UTF-8; .*iconv -f UTF-16LE",
        ),
        (codecs.BOM_UTF16_LE + b"0", "b.txt: starts as UTF-16, but is malformed; save it as UTF-8"),
        ("0 0.5 0.5 0.5 0.5 # größe\n".encode("latin-1"), "b.txt:1: not UTF-8, likely Latin-1 .*iconv -f LATIN-1"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "b.txt: is a Git LFS pointer"),
    ],
)
def test_images_of_label_files_that_cannot_be_read_are_not_trained_as_background(tmp_path, data, reason):
    for name, content in (("a", b"0 0.5 0.5 0.5 0.5\n"), ("b", data)):
        write_blank(tmp_path / f"images/{name}.png")
        (tmp_path / "labels").mkdir(exist_ok=True)
        (tmp_path / f"labels/{name}.txt").write_bytes(content)
    (tmp_path / "data.yaml").write_text("train: images\nnames: [cat]\n")
    split = open_train(tmp_path)
    assert [sample.image_id for sample in split.samples] == ["a"] and dict(split.problems) == {BAD_LABEL_FILE: 1}
    assert re.search(reason, split.problems.examples[BAD_LABEL_FILE][0])


def test_labels_of_dota_in_another_encoding(tmp_path):
    for name in "ab":
        write_blank(tmp_path / f"images/{name}.png")
    (tmp_path / "labelTxt").mkdir()
    (tmp_path / "labelTxt/a.txt").write_text("10 5 30 5 30 15 10 15 plane 0\n")
    (tmp_path / "labelTxt/b.txt").write_bytes("10 5 30 5 30 15 10 15 größe 0\n".encode("latin-1"))
    (tmp_path / "data.yaml").write_text("train: images\n")
    split = open_train(tmp_path)
    assert len(split.samples) == 1 and "b.txt:1: not UTF-8, likely Latin-1" in split.problems.examples[BAD_FILE][0]


def test_a_list_in_another_encoding_is_an_error(tmp_path):
    write_blank(tmp_path / "images/a.png")
    (tmp_path / "train.txt").write_bytes("images/größe.png\n".encode("latin-1"))
    (tmp_path / "data.yaml").write_text("train: train.txt\nnames: [cat]\n")
    with pytest.raises(UserError, match=r"train.txt:1: not UTF-8, likely Latin-1 \(images/größe.png\)"):
        open_train(tmp_path)
