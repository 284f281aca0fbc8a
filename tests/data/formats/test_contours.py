"""`format: contours`: images that are drawn while they are needed."""

import logging

import numpy as np
import pytest

from graftdet.data.dataset_config import load_data_config, open_split
from graftdet.data.tools.audit import audit
from graftdet.data.tools.convert import convert
from graftdet.data.tools.report import CLEAN, format_report, report_status
from graftdet.data.tools.split import split_dataset
from graftdet.utils.errors import UserError
from graftdet.utils.images.io import read_image

SMALL = "format: contours\nnc: 4\nimage_size: 64\nepoch_length: 10\nval_images: 3\n"


def load(folder, text=SMALL):
    path = folder / "mine.yaml"
    path.write_text(text)
    return load_data_config(path)


def test_split_is_opened_without_files(tmp_path):
    config = load(tmp_path)
    train, val = open_split(config, "train"), open_split(config, "val")
    assert train.names == ["contour 0", "contour 1", "contour 2", "contour 3"] and train.category_ids == [0, 1, 2, 3]
    assert (len(train), len(val)) == (10, 3) and not train.problems
    assert list(tmp_path.iterdir()) == [tmp_path / "mine.yaml"]
    assert (train.samples[0].width, train.samples[0].height) == (64, 64)
    truth = val.ground_truth()
    assert [image["id"] for image in truth["images"]] == [0, 1, 2]
    drawn = [val.drawing.draw(index) for index in range(3)]
    boxes = [annotation["bbox"] for annotation in truth["annotations"]]
    assert boxes == [box for image in drawn for box in image.boxes] and boxes
    ids = np.concatenate([sample.annotation_ids for sample in val.samples])
    assert ids.tolist() == list(range(1, len(boxes) + 1))
    assert [annotation["area"] for annotation in truth["annotations"]] == [a for image in drawn for a in image.areas]
    assert [annotation["category_id"] for annotation in truth["annotations"]] == [
        label for image in drawn for label in image.labels
    ]


def test_long_epoch_is_represented_by_its_first_images(tmp_path):
    train = open_split(load(tmp_path, SMALL.replace("epoch_length: 10", "epoch_length: 1000000")), "train")
    assert len(train) == train.drawing.sample_size == 256


def test_names_choose_number_and_order_of_classes(tmp_path):
    config = load(tmp_path, SMALL.replace("nc: 4", "names: [a, b, c]"))
    split = open_split(config, "val")
    assert split.names == ["a", "b", "c"] and split.drawing.generator.settings.num_classes == 3
    some = open_split(config, "val", names=["c", "a"])
    assert some.names == ["c", "a"] and some.category_ids == [2, 0]
    for index in range(3):
        all_labels = np.array(split.drawing.draw(index).labels)
        expected = [{2: 0, 0: 1}[label] for label in all_labels if label != 1]
        assert some.drawing.draw(index).labels == expected == some.samples[index].labels.tolist()
        assert len(some.drawing.draw(index).boxes) == len(expected)
    with pytest.raises(UserError, match="val: unknown class 'd'"):
        open_split(config, "val", names=["d"])


def test_classes_are_reordered_and_merged_in_drawn_images(tmp_path):
    config = load(tmp_path)
    split = open_split(config, "val")
    reversed_split, merged = split.reorder_classes(split.names[::-1]), open_split(config, "val", single_class=True)
    for index in range(3):
        labels = split.drawing.draw(index).labels
        assert reversed_split.drawing.draw(index).labels == [3 - label for label in labels]
        assert reversed_split.samples[index].labels.tolist() == [3 - label for label in labels]
        assert merged.drawing.draw(index).labels == [0] * len(labels) == merged.samples[index].labels.tolist()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("format: contours\nnoize: 3\n", "unknown key 'noize'; did you mean 'noise'?"),
        (
            "format: contours\ntrain: images\n",
            r"unknown key 'train'; it requires format: coco or dota or labelme or shapes or voc or yolo",
        ),
        ("format: coco\ntrain: a\nnoise: 3\n", r"unknown key 'noise'; it requires format: contours \(known: train, "),
        ("train: a\nocclusion: 0\n", "unknown key 'occlusion'; it requires format: contours"),
        ("format: contour\nnoise: 3\n", "unknown format 'contour'; did you mean 'contours'"),
        ("format: contours\nblur: -1\n", "mine.yaml: blur: expected 0 to 10, got -1"),
        ("format: contours\nnc: 20000\n", "mine.yaml: nc: expected 1 to 10000, got 20000"),
    ],
)
def test_invalid_yaml(tmp_path, text, message):
    with pytest.raises(UserError, match=message):
        load(tmp_path, text)


def test_unknown_split(tmp_path):
    with pytest.raises(UserError, match=r"has no split 'test' \(known: train, val\)"):
        open_split(load(tmp_path), "test")


def test_check_reports_statistics(tmp_path):
    report = audit(load(tmp_path))
    train = report["splits"]["train"]
    assert train["images"] == train["usable"] == 10 and train["problems"] == {}
    assert train["boxes"] == sum(train["classes"].values()) > 10 and list(train["classes"])[3] == "contour 3"
    assert "no problems found" in format_report(report)


def test_classes_without_a_box_in_the_first_epoch_are_no_problem(tmp_path, caplog):
    config = load(tmp_path, SMALL.replace("nc: 4", "nc: 500"))
    report = audit(config)
    assert 0 in report["splits"]["train"]["classes"].values()
    assert report_status(report) == CLEAN and "no problems found" in format_report(report)
    with caplog.at_level("INFO", logger="graftdet"):
        open_split(config, "train")
    assert "without any box" not in caplog.text


@pytest.mark.parametrize("to", ["coco", "yolo", "voc"])
def test_images_of_the_first_epoch_are_written(tmp_path, to):
    config = load(tmp_path)
    written = load_data_config(convert(config, to, tmp_path / "out").yaml)
    for name, count in (("train", 10), ("val", 3)):
        drawn, read = open_split(config, name), open_split(written, name)
        assert len(read) == count and read.names == drawn.names
        for index in range(count):
            image = drawn.drawing.draw(index)
            sample = next(sample for sample in read.samples if sample.path.name == f"{name}_{index:06d}.jpg")
            assert np.abs(read_image(sample.path).astype(int) - image.image).mean() < 12  # JPEG
            corners = [[x, y, x + w, y + h] for x, y, w, h in image.boxes]
            assert sorted(sample.labels.tolist()) == sorted(image.labels)
            assert np.allclose(sorted(sample.boxes.tolist()), sorted(corners), atol=0.01)


def test_the_number_of_images_that_will_be_drawn_is_reported(tmp_path, caplog, capsys, monkeypatch):
    monkeypatch.setattr("graftdet.data.tools.convert._DRAWING_INTERVAL", 0)
    with caplog.at_level(logging.INFO, logger="graftdet"):
        convert(load(tmp_path), "yolo", tmp_path / "out")
    assert "train: 10 images of 64x64 pixels will be drawn" in caplog.text and "val: 3 images" in caplog.text
    assert "train: images drawn: 10/10" in capsys.readouterr().err


def test_drawn_images_cannot_be_divided(tmp_path):
    with pytest.raises(UserError, match="mine.yaml: its images are drawn, .*python -m data convert"):
        split_dataset(load(tmp_path), [0.5, 0.5], tmp_path / "out")
