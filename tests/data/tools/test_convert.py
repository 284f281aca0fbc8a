"""Datasets written in another format, read back, and compared."""

import json
import os
import struct
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from graftdet.data.__main__ import main
from graftdet.data.dataset_config import load_data_config, open_split
from graftdet.data.tools.convert import convert, open_split_verified
from graftdet.data.tools.split import split_dataset
from graftdet.utils.errors import UserError
from graftdet.utils.images.io import read_image, write_image

SIZES = [(60, 40), (50, 70), (33, 47)]  # width, height


def write_coco(root, orientation=None):
    """A COCO dataset of two splits with gaps in its ids, a crowd, an image without boxes; return its YAML.

    `orientation`: the first image of each split gets this EXIF orientation, declared with its stored size.
    """
    boxes = {0: [[4.25, 6.25, 19.5, 9.5], [0, 0, 60, 40]], 1: [[10, 20, 30.75, 40.125]]}
    for number, split in enumerate(("train", "val")):
        images, annotations = [], []
        for index, (width, height) in enumerate(SIZES):
            image = np.random.default_rng([number, index]).integers(0, 60, (height, width, 3)).astype(np.uint8)
            if index == 0:
                image[6:16, 4:24] += 190  # inside the first box
            data = cv2.imencode(".jpg", image)[1].tobytes()
            if orientation and index == 0:
                payload = b"Exif\0\0II*\0" + struct.pack("<IHHHIHHI", 8, 1, 0x112, 3, 1, orientation, 0, 0)
                data = data[:2] + b"\xff\xe1" + struct.pack(">H", len(payload) + 2) + payload + data[2:]
            path = root / "images" / split / f"bild ä {index}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            image_id = 100 * number + 7 * index
            images.append({"id": image_id, "file_name": path.name, "width": width, "height": height})
            for row, box in enumerate(boxes.get(index, [])):
                annotation = {"id": len(annotations), "image_id": image_id, "category_id": (5, 90)[row], "bbox": box}
                annotations.append({**annotation, "area": 11.5, "iscrowd": int(row == 1)})
        categories = [{"id": 5, "name": "cat"}, {"id": 40, "name": "dog"}, {"id": 90, "name": "hot dog"}]
        (root / "annotations").mkdir(exist_ok=True)
        document = {"images": images, "annotations": annotations, "categories": categories}
        (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(document))
    (root / "set.yaml").write_text("format: coco\ntrain: images/train\nval: images/val\n")
    return root / "set.yaml"


def split_of(yaml_path, name="train"):
    return open_split(load_data_config(yaml_path), name)


@pytest.mark.parametrize("to", ["coco", "yolo", "voc"])
@pytest.mark.parametrize("split", ["train", "val"])
def test_boxes_labels_and_images_survive_conversion(tmp_path, to, split):
    source = write_coco(tmp_path / "soürce set")
    written = convert(load_data_config(source), to, tmp_path / "out put" / to)
    before, after = split_of(source, split), split_of(written.yaml, split)
    assert after.names == before.names == ["cat", "dog", "hot dog"]
    assert len(after) == len(before) == 3 and not after.problems
    for old, new in zip(before.samples, after.samples, strict=True):
        assert new.path.read_bytes() == old.path.read_bytes() and new.path != old.path
        selected = slice(None) if to != "yolo" else ~old.crowd
        np.testing.assert_allclose(new.boxes, old.boxes[selected], atol=1e-3)
        np.testing.assert_array_equal(new.labels, old.labels[selected])
        np.testing.assert_array_equal(new.crowd, old.crowd[selected])
        assert (new.width, new.height) == (old.width, old.height)


def test_coco_keeps_ids_areas_and_crowds(tmp_path):
    source = write_coco(tmp_path / "source")
    written = convert(load_data_config(source), "coco", tmp_path / "out")
    before, after = split_of(source, "val").ground_truth(), split_of(written.yaml, "val").ground_truth()
    assert after == before
    assert [image["id"] for image in after["images"]] == [100, 107, 114]
    assert {row["category_id"] for row in after["annotations"]} == {5, 90}
    assert all(row["id"] > 0 and row["area"] == 11.5 for row in after["annotations"])


@pytest.mark.parametrize("formats", [("yolo", "voc", "coco"), ("voc", "yolo", "coco"), ("voc", "coco", "voc")])
def test_round_trips_preserve_boxes(tmp_path, formats):
    source = here = write_coco(tmp_path / "source")
    for step, to in enumerate(formats):
        here = convert(load_data_config(here), to, tmp_path / f"{step} {to}").yaml
    for old, new in zip(split_of(source).samples, split_of(here).samples, strict=True):
        old_boxes, new_boxes = (s.boxes[~s.crowd] for s in (old, new))
        np.testing.assert_allclose(new_boxes, old_boxes, atol=2e-3)
        np.testing.assert_array_equal(new.labels[~new.crowd], old.labels[~old.crowd])
        if "yolo" not in formats:
            np.testing.assert_array_equal(new.crowd, old.crowd)


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
@pytest.mark.parametrize("to", ["coco", "yolo", "voc"])
def test_boxes_on_unrotated_images_stay_on_the_same_pixels(tmp_path, to, orientation):
    source = write_coco(tmp_path / "source", orientation)
    written = convert(load_data_config(source), to, tmp_path / "out")
    sample = open_split_verified(load_data_config(written.yaml), "train").samples[0]
    assert sample.apply_exif == (to != "coco")  # in COCO the declared size shows that boxes refer to the stored pixels
    image = read_image(sample.path, sample.apply_exif)
    assert image.shape[:2] == (sample.height, sample.width)
    x1, y1, x2, y2 = np.round(sample.boxes[0]).astype(int)
    bright = image.mean(2) > 128
    assert bright[y1:y2, x1:x2].mean() > 0.97
    bright[y1:y2, x1:x2] = False
    assert bright.mean() < 0.01


def test_yolo_reports_omitted_crowds(tmp_path):
    written = convert(load_data_config(write_coco(tmp_path / "source")), "yolo", tmp_path / "out")
    assert any(line.startswith("2 crowd regions omitted") for line in written.messages)
    assert any(line.startswith("not written by the yolo format") for line in written.messages)
    assert "train: 3 images, 2 boxes, 1 crowd region" in written.messages


def test_images_of_equal_name_are_numbered(tmp_path):
    source = write_coco(tmp_path / "source")
    written = convert(load_data_config(source), "voc", tmp_path / "out")  # one folder for the images of both splits
    names = sorted(path.name for path in (tmp_path / "out" / "JPEGImages").iterdir())
    assert names == sorted(f"bild ä {index}{again}.jpg" for index in range(3) for again in ("", "_2"))
    assert len(split_of(written.yaml, "val")) == 3


@pytest.mark.parametrize("images", ["link", "symlink"])
def test_images_can_be_linked(tmp_path, images):
    source = write_coco(tmp_path / "source")
    written = convert(load_data_config(source), "yolo", tmp_path / "out", images)
    old, new = split_of(source).samples[0].path, split_of(written.yaml).samples[0].path
    assert new.samefile(old) and new.is_symlink() == (images == "symlink")


@pytest.mark.parametrize("flags", [["--images", "symlink"], ["--pictures", "symlink"], ["--link"], []])
def test_flags_for_images(tmp_path, capsys, flags):
    source = write_coco(tmp_path / "source")
    main(["convert", str(source), "--to", "yolo", "--out", str(tmp_path / "out"), *flags])
    output = capsys.readouterr().out
    old, new = split_of(source).samples[0].path, split_of(tmp_path / "out" / "data.yaml").samples[0].path
    assert new.is_symlink() == ("symlink" in flags) and new.samefile(old) == bool(flags)
    assert output.endswith(f"to train on it: --data {tmp_path / 'out' / 'data.yaml'}\n")


def test_nothing_is_written_into_the_source_or_over_files(tmp_path):
    config = load_data_config(write_coco(tmp_path / "source"))
    files = sorted((tmp_path / "source").rglob("*"))
    full = tmp_path / "full"
    full.mkdir()
    (full / "mine.txt").write_text("mine")
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "source")
    for out, message in [
        (tmp_path / "source", "inside the folder of the dataset"),
        (tmp_path / "source" / "new" / "er", "inside the folder of the dataset"),
        (link / "new", "inside the folder of the dataset"),
        (full, "not empty"),
        (full / "mine.txt", "not empty"),
        (full / "mine.txt" / "new", "cannot be written"),
    ]:
        with pytest.raises(UserError, match=message):
            convert(config, "yolo", out)
    assert sorted((tmp_path / "source").rglob("*")) == files and [p.name for p in full.iterdir()] == ["mine.txt"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["full", "link", "source"]  # and no partial output


@pytest.mark.parametrize(
    ("to", "images", "message"),
    [
        ("yollo", "copy", "did you mean 'yolo'"),
        ("shapes", "copy", "cannot write"),
        ("yolo", "symlnk", "did you mean 'symlink'"),
    ],
)
def test_unknown_format_or_mode(tmp_path, to, images, message):
    with pytest.raises(UserError, match=message):
        convert(load_data_config(write_coco(tmp_path / "source")), to, tmp_path / "out", images)


def test_real_annotations_survive(tmp_path, datasets_dir, monkeypatch):
    monkeypatch.setenv("DATASETS_DIR", str(datasets_dir))
    source = load_data_config("coco_tiny.yaml")
    written = convert(source, "voc", tmp_path / "voc", "symlink")
    before, after = open_split(source, "val"), split_of(written.yaml, "val")
    assert sum(sample.crowd.sum() for sample in after.samples) == 11
    boxes = [np.concatenate([sample.boxes for sample in split.samples]) for split in (before, after)]
    np.testing.assert_allclose(*boxes, atol=1e-2)


@pytest.mark.skipif(sys.platform != "linux", reason="file names are text there")
@pytest.mark.parametrize("to", ["coco", "yolo", "voc"])
def test_names_that_are_not_utf8_are_written_percent_encoded(to, tmp_path):
    """Two images, one with such a name, in a dataset whose YAML also has one."""
    for number, name in enumerate((b"caf\xe9", b"b")):
        stem = os.fsdecode(os.fsencode(tmp_path) + b"/source/images/" + name)
        write_image(stem + ".png", np.full((40, 60, 3), 90 + number, np.uint8))
        label = Path(stem.replace("/images/", "/labels/") + ".txt")
        label.parent.mkdir(exist_ok=True)
        label.write_text("0 0.5 0.5 0.25 0.25\n")
    source = Path(os.fsdecode(os.fsencode(tmp_path) + b"/source/d\xe9.yaml"))
    source.write_text("format: yolo\ntrain: images\nval: images\nnames: [circle]\n")
    config = load_data_config(source)
    written = [
        convert(config, to, tmp_path / "converted"),
        split_dataset(config, [0.5, 0.5], tmp_path / "split", to=to),
    ]
    for name, one in zip(("converted", "split"), written, strict=True):
        files = [path for path in (tmp_path / name).rglob("*") if path.is_file()]
        assert any(path.stem == "caf%E9" for path in files)
        for path in files:
            str(path).encode()
            assert path.suffix == ".png" or path.read_bytes().decode()
        names = [sample.path.name for split in ("train", "val") for sample in split_of(one.yaml, split).samples]
        assert set(names) >= {"caf%E9.png", "b.png"}
        assert all(len(sample.boxes) == 1 for split in ("train", "val") for sample in split_of(one.yaml, split).samples)
