"""Images divided into train, val and test."""

import json

import cv2
import numpy as np
import pytest

from graftdet.data.dataset_config import load_data_config, open_split
from graftdet.data.tools.convert import convert
from graftdet.data.tools.split import check_ratios, split_dataset, stratify
from graftdet.utils.errors import UserError

NAMES = ["common", "middle", "rare"]


@pytest.fixture
def source(tmp_path):
    """100 images: each has class 0, every 4th class 1, every 10th class 2; 90 and 91 are copies of 0."""
    folder = tmp_path / "source"
    (folder / "images" / "train").mkdir(parents=True)
    (folder / "annotations").mkdir()
    images, annotations = [], []
    for index in range(100):
        seed = 0 if index in (90, 91) else index
        image = np.random.default_rng(seed).integers(0, 255, (8, 8, 3)).astype(np.uint8)
        (folder / "images" / "train" / f"{index:03d}.png").write_bytes(cv2.imencode(".png", image)[1].tobytes())
        images.append({"id": index, "file_name": f"{index:03d}.png", "width": 8, "height": 8})
        for label, every in enumerate((1, 4, 10)):
            if index % every == 0:
                row = {"id": len(annotations) + 1, "image_id": index, "category_id": label + 1, "bbox": [1, 1, 5, 5]}
                annotations.append(row)
    categories = [{"id": number, "name": name} for number, name in enumerate(NAMES, 1)]
    document = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "annotations" / "instances_train.json").write_text(json.dumps(document))
    (folder / "set.yaml").write_text("train: images/train\n")
    return load_data_config(folder / "set.yaml")


def open_all(yaml_path):
    config = load_data_config(yaml_path)
    return {split: open_split(config, split) for split in config.splits}


def test_ratios_class_balance_and_duplicates(source, tmp_path):
    splits = open_all(split_dataset(source, [0.8, 0.1, 0.1], tmp_path / "out").yaml)
    assert list(splits) == ["train", "val", "test"]
    where = {s.image_id: name for name, split in splits.items() for s in split.samples}
    assert sorted(where) == list(range(100))  # every image once, with its id
    assert where[0] == where[90] == where[91]
    for name, ratio in (("train", 0.8), ("val", 0.1), ("test", 0.1)):
        assert abs(len(splits[name]) - 100 * ratio) <= 3
        counts = np.bincount(np.concatenate([sample.labels for sample in splits[name].samples]), minlength=3)
        assert (np.abs(counts - ratio * np.array([100, 25, 10])) <= [3, 2, 1.5]).all(), (name, counts)


def test_same_seed_gives_same_splits(source, tmp_path):
    def members(seed, out):
        splits = open_all(split_dataset(source, [0.5, 0.5], tmp_path / out, seed).yaml)
        return {name: [sample.image_id for sample in split.samples] for name, split in splits.items()}

    first = members(1, "a")
    assert first == members(1, "b") and first != members(2, "c")
    assert first["train"] == sorted(first["train"])


def test_splits_are_pooled_and_colliding_ids_renumbered(source, tmp_path):
    two = split_dataset(source, [0.5, 0.5], tmp_path / "two", to="yolo").yaml
    again = split_dataset(load_data_config(two), [0.7, 0.3], tmp_path / "again", to="coco").yaml
    assert sum(len(split) for split in open_all(again).values()) == 100
    same = tmp_path / "same.yaml"
    folder = tmp_path / "source"
    same.write_text(
        f"path: {folder.as_posix()}\nformat: coco\ntrain: images/train\n"
        "val: {images: images/train, annotations: annotations/instances_train.json}\n"
    )
    splits = open_all(split_dataset(load_data_config(same), [0.7, 0.3], tmp_path / "same").yaml)
    assert sum(len(split) for split in splits.values()) == 100  # an image of both splits occurs once


@pytest.mark.parametrize(
    ("ratios", "message"),
    [
        ([0.8, 0.3], "add up to 1.1"),
        ([0.5], "add up to 0.5"),
        ([-0.5, 1.5], "from 0 to 1"),
        ([0.25] * 4, "up to three"),
        ([float("nan"), 1], "from 0 to 1"),
    ],
)
def test_wrong_ratios(ratios, message):
    with pytest.raises(UserError, match=message):
        check_ratios(ratios)


def test_ratio_of_zero_makes_no_split():
    assert check_ratios([0.7, 0, 0.3]) == {"train": 0.7, "test": 0.3}


def test_nothing_is_written_into_the_source(source):
    with pytest.raises(UserError, match="inside the folder of the dataset"):
        split_dataset(source, [0.5, 0.5], source.root / "out")


@pytest.mark.parametrize("seed", range(5))
def test_rarest_class_is_assigned_first(seed):
    counts = np.array([[1, index % 4 == 0, index % 10 == 0] for index in range(100)], int)
    chosen = stratify(counts, np.ones(100, int), np.array([0.8, 0.1, 0.1]), np.random.default_rng(seed))
    assert [int(counts[chosen == split, 2].sum()) for split in range(3)] == [8, 1, 1]
    assert [int((chosen == split).sum()) for split in range(3)] == [80, 10, 10]


def test_every_split_gets_an_image():
    for number in (3, 4, 7):
        counts = np.ones((number, 1), int)
        chosen = stratify(counts, np.ones(number, int), np.array([0.98, 0.01, 0.01]), np.random.default_rng(0))
        assert sorted(set(chosen)) == [0, 1, 2]


def test_too_few_images(tmp_path, source):
    little = convert(source, "coco", tmp_path / "little").yaml
    path = little.parent / "annotations" / "instances_train.json"
    document = json.loads(path.read_text())
    document["images"] = [image for image in document["images"] if image["id"] in (0, 90, 91)]  # three copies of one
    path.write_text(json.dumps(document))
    with pytest.raises(UserError, match="1 different image cannot fill 2 splits"):
        split_dataset(load_data_config(little), [0.5, 0.5], tmp_path / "out")
