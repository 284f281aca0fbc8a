"""A resumed run notices that its dataset has changed."""

import logging

import numpy as np
import pytest

from graftdet.data.dataset_config import load_data_config, open_split
from graftdet.data.formats.manifest import Manifest, record_data
from graftdet.data.formats.sample_table import SampleTable
from graftdet.utils.errors import UserError
from graftdet.utils.images.io import write_image


@pytest.fixture
def dataset(tmp_path):
    """A function that reads a dataset of six images anew."""
    for split in ("train", "val"):
        for name in "abc":
            write_image(tmp_path / "images" / split / f"{name}.png", np.full((20, 40, 3), 90, np.uint8))
            (tmp_path / "labels" / split).mkdir(parents=True, exist_ok=True)
            (tmp_path / "labels" / split / f"{name}.txt").write_text("0 0.5 0.5 0.25 0.5\n")
    (tmp_path / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [cat, dog]\n")
    config = load_data_config(tmp_path / "data.yaml")
    return lambda: {name: open_split(config, name) for name in ("train", "val")}


def changes(dataset, start, caplog):
    with pytest.raises(UserError) as error:
        record_data(dataset(), start, allow_changes=False)
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        record_data(dataset(), start, allow_changes=True)
    text = str(error.value).partition("(")[2].partition(")")[0]
    assert text in caplog.text and "--allow-changed-data" in str(error.value)
    return text


def test_an_unchanged_dataset(dataset):
    start = record_data(dataset(), None, allow_changes=False)
    assert record_data(dataset(), start, allow_changes=False)["dataset"] == start["dataset"]
    assert start["dataset"]["train"]["images"] == 3 and len(start["dataset"]["train"]["digest"]) == 64
    assert record_data(dataset(), {"manifest": {}}, allow_changes=False)  # of an earlier version


def test_images_and_labels_that_were_added_removed_and_changed(dataset, tmp_path, caplog):
    start = record_data(dataset(), None, allow_changes=False)
    train = tmp_path / "images" / "train"
    (train / "a.png").rename(train / "d.png")
    assert changes(dataset, start, caplog) == "train: 1 image added, 1 image removed"
    (train / "d.png").rename(train / "a.png")
    (tmp_path / "labels" / "train" / "b.txt").write_text("1 0.5 0.5 0.25 0.5\n")
    write_image(tmp_path / "images" / "val" / "c.png", np.random.default_rng(0).integers(0, 255, (20, 40, 3), np.uint8))
    assert changes(dataset, start, caplog) == "train: 1 image changed; val: 1 image changed"


def test_swapped_splits(dataset, tmp_path, caplog):
    start = record_data(dataset(), None, allow_changes=False)
    for folder in ("images", "labels"):
        (tmp_path / folder / "val" / "a.png").with_suffix(".png" if folder == "images" else ".txt").unlink()
    (tmp_path / "data.yaml").write_text("train: images/val\nval: images/train\nnames: [cat, dog]\n")
    config = load_data_config(tmp_path / "data.yaml")
    swapped = lambda: {name: open_split(config, name) for name in ("train", "val")}  # noqa: E731
    assert changes(swapped, start, caplog) == (
        "train: 2 images added, 3 images removed; val: 3 images added, 3 images removed"
    )


def test_the_order_of_images_does_not_count(dataset):
    table = SampleTable.from_samples(dataset()["train"].samples)
    moved = [*table][::-1]
    assert Manifest.of(SampleTable.from_samples(moved)).digest == Manifest.of(table).digest
