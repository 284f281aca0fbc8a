"""Images that are drawn in the loader's workers."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch

from graftdet import train
from graftdet.data.dataset import DetectionDataset, ItemKey
from graftdet.data.dataset_config import load_data_config, open_split
from graftdet.data.loader import train_loader, val_loader
from graftdet.data.synthetic.drawn_images import DrawnImages
from graftdet.data.synthetic_dataset import SyntheticDataset, open_dataset
from graftdet.utils.errors import UserError
from graftdet.utils.hyperparameters import Hyperparameters

YAML = "format: contours\nnc: 4\nimage_size: 64\nepoch_length: 10\nval_images: 5\nseed: {seed}\n"
WITHOUT_AUGMENTATION = replace(
    Hyperparameters(), hsv_h=0, hsv_s=0, hsv_v=0, degrees=0, translate=0, scale=0, fliplr=0, mosaic=0, close_mosaic=0
)


@pytest.fixture
def open_named(tmp_path):
    def call(name="train", seed=0):
        path = tmp_path / f"{seed}.yaml"
        path.write_text(YAML.format(seed=seed))
        return open_split(load_data_config(path), name)

    return call


def train_set(split, recipe=None, **options):
    return open_dataset(split, 64, recipe or Hyperparameters(), augment=True, **options)


def drain(loader, epoch=0):
    loader.set_epoch(epoch)
    return [(batch["images"].clone(), batch["targets"].clone(), batch["paths"]) for batch in loader]


def same(first, second):
    return len(first) == len(second) and all(
        torch.equal(a[0], b[0]) and torch.equal(a[1], b[1]) and a[2] == b[2] for a, b in zip(first, second, strict=True)
    )


@pytest.mark.parametrize(("workers", "start_method"), [(2, "fork"), (1, "spawn")])
def test_batches_do_not_depend_on_the_workers(open_named, workers, start_method):
    single = train_loader(train_set(open_named()), 4)
    parallel = train_loader(train_set(open_named()), 4, workers, start_method=start_method)
    for epoch in (0, 3):
        assert same(drain(single, epoch), drain(parallel, epoch))


def test_resumed_run_gets_the_same_images(open_named):
    uninterrupted = train_loader(train_set(open_named()), 4)
    history = [drain(uninterrupted, epoch) for epoch in range(3)]
    assert same(drain(train_loader(train_set(open_named()), 4), 2), history[2])


def test_every_epoch_has_new_images(open_named):
    dataset = train_set(open_named(), WITHOUT_AUGMENTATION)
    images = [dataset[ItemKey(epoch, index, 64)].image for epoch in range(3) for index in range(10)]
    assert len({image.tobytes() for image in images}) == 30
    other_seed = train_set(open_named(seed=1), WITHOUT_AUGMENTATION)
    assert not np.array_equal(other_seed[ItemKey(0, 0, 64)].image, images[0])


def test_item_shows_the_drawn_image_of_its_epoch(open_named):
    split = open_named()
    item = train_set(split, WITHOUT_AUGMENTATION)[ItemKey(2, 7, 64)]
    drawn = split.drawing.draw(7, epoch=2)
    assert np.array_equal(item.image, drawn.image[:, :, ::-1].transpose(2, 0, 1))
    boxes = np.array(drawn.boxes, float)
    expected = np.column_stack((drawn.labels, (boxes[:, :2] + boxes[:, 2:] / 2) / 64, boxes[:, 2:] / 64))
    assert np.allclose(item.targets, expected, atol=1e-6)


def test_mosaic_is_made_of_images_of_one_epoch(open_named, monkeypatch):
    dataset, drawn, draw = (
        train_set(open_named(), replace(Hyperparameters(), mosaic=1.0, mixup=1.0)),
        [],
        DrawnImages.draw,
    )
    monkeypatch.setattr(DrawnImages, "draw", lambda self, index, epoch: drawn.append(epoch) or draw(self, index, epoch))
    item = dataset[ItemKey(6, 0, 64, mosaic=True)]
    assert drawn == [6] * 8 and item.image.shape == (3, 64, 64)


def test_validation_images_are_always_the_same(open_named):
    split = open_named("val")
    dataset = open_dataset(split, 64, rect=True)
    loader = val_loader(dataset, 2)
    first, second = drain(loader, 0), drain(loader, 5)
    assert same(first, second) and len(dataset) == 5
    assert np.array_equal(split.drawing.draw(0, epoch=3).image, split.drawing.draw(0).image)
    assert not np.array_equal(split.drawing.draw(0).image, open_named().drawing.draw(0).image)
    targets = np.concatenate([batch[1].numpy() for batch in first])
    assert len(targets) == len(split.ground_truth()["annotations"])


def test_training_split_is_evaluated_on_its_first_images(open_named):
    split = open_named()
    dataset = open_dataset(split, 64)
    item = dataset[ItemKey(0, 9, 64)]
    assert len(dataset) == len(split) == 10 and item.image_id == split.samples[9].image_id
    assert len(item.targets) == len(split.samples[9].boxes)


@pytest.mark.parametrize("size", [32, 96])
def test_images_are_resized_with_their_boxes(open_named, size):
    split = open_named("val")
    item = open_dataset(split, size)[ItemKey(0, 1, size)]
    boxes = np.array(split.drawing.draw(1).boxes, float)
    assert item.image.shape == (3, size, size) and item.gain == size / 64
    assert np.allclose(item.targets[:, 3:] * 64, boxes[:, 2:], atol=1e-3)


def test_statistics_come_from_a_sample(open_named, monkeypatch):
    monkeypatch.setattr("graftdet.data.synthetic.drawn_images.SAMPLE_IMAGES", 3)
    split = open_named()
    dataset = train_set(split)
    boxes, labels, sizes = dataset.annotations()
    assert len(dataset) == 10 and len(boxes) == len(labels) == len(sizes) == 3
    assert [rows.tolist() for rows in labels] == [sample.labels.tolist() for sample in split.samples]
    assert dataset.image_sizes.shape == (10, 2) and sizes.tolist() == [[64, 64]] * 3
    with pytest.raises(UserError, match="--image-weights"):
        _ = dataset.labels


def test_dataset_can_be_pickled(open_named):
    dataset = train_set(open_named())
    copy = pickle.loads(pickle.dumps(dataset))
    key = ItemKey(1, 2, 64, mosaic=True)
    assert np.array_equal(copy[key].image, dataset[key].image)


def test_class_follows_from_the_split(open_named):
    split = open_named("val")
    assert isinstance(open_dataset(split, 64, cache="ram"), SyntheticDataset)  # nothing to cache
    files = open_dataset(replace(split, drawing=None), 64)
    assert type(files) is DetectionDataset
    with pytest.raises(ValueError, match="images are drawn"):
        SyntheticDataset(replace(split, drawing=None), 64)


@pytest.mark.parametrize("flags", [["--multi-scale", "--set", "mixup=0.5"], ["--rect", "--single-cls"]])
def test_training_and_resuming_on_drawn_images(run_train_until, run_train, tmp_path, flags):
    (tmp_path / "drawn.yaml").write_text(YAML.format(seed=0))
    flags = ["--data", tmp_path / "drawn.yaml", "--epochs", 2, *flags]
    interrupted = run_train_until(1, "interrupted", *flags)
    train.main(["--resume", str(interrupted / "weights" / "last.pt")])
    whole = run_train("drawn whole", *flags)
    rows = [(folder / "results.csv").read_text().splitlines()[-1].split(",") for folder in (interrupted, whole)]
    assert rows[0][2:6] == rows[1][2:6]  # learning rate and losses of the second epoch
