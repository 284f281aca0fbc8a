"""Images of a dataset in their own sizes."""

import numpy as np
import pytest

from graftdet.data.formats.dataset_split import Split
from graftdet.data.formats.sample import Sample
from graftdet.data.original_images import OriginalImages
from graftdet.data.synthetic_dataset import open_dataset
from graftdet.utils.errors import UserError
from graftdet.utils.images.io import write_image

SIZES = [(300, 200), (40, 64), (128, 96)]


def make_split(folder, sizes, declared=None):
    """A split of noise images with one box each."""
    samples = []
    for index, (height, width) in enumerate(sizes):
        path = folder / f"{index}.png"
        write_image(path, np.random.default_rng(index).integers(0, 256, (height, width, 3), np.uint8))
        size = declared or (height, width)
        columns = {"crowd": np.array([False]), "areas": np.array([1.0]), "annotation_ids": np.array([1 + index])}
        box, label = np.array([[1, 2, 30, 30]], np.float32), np.array([0])
        samples.append(Sample(path, box, label, **columns, image_id=10 + index, height=size[0], width=size[1]))
    return Split("val", samples, ["thing"], [1])


def test_images_are_not_resized(tmp_path):
    loader = OriginalImages(open_dataset(make_split(tmp_path, SIZES), 64), batch_size=2)
    batches = list(loader)
    assert len(loader) == len(batches) == 2
    assert [image.shape[:2] for batch in batches for image in batch["images"]] == SIZES
    assert [shape for batch in batches for shape in batch["shapes"]] == SIZES
    assert [image_id for batch in batches for image_id in batch["image_ids"]] == [10, 11, 12]
    expected = np.random.default_rng(0).integers(0, 256, (300, 200, 3), np.uint8)
    assert (batches[0]["images"][0] == expected).all()


def test_boxes_may_refer_to_another_resolution(tmp_path):
    (batch,) = OriginalImages(open_dataset(make_split(tmp_path, [(40, 64)], declared=(80, 128)), 64))
    assert batch["images"][0].shape == (40, 64, 3) and batch["shapes"] == [(80, 128)]


def test_unreadable_images_are_skipped_and_reported(tmp_path, caplog):
    dataset = open_dataset(make_split(tmp_path, SIZES), 64, label="val")
    (tmp_path / "1.png").write_bytes(b"no image")
    (batch,) = OriginalImages(dataset)
    assert batch["image_ids"] == [10, 12] and list(dataset.unreadable) == [1]
    assert "val: 1 of 3 images cannot be read, skipped" in caplog.text and "1.png" in caplog.text
    (tmp_path / "2.png").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"2 of 3 images"):
        list(OriginalImages(dataset))


def test_drawn_images(tmp_path):
    from graftdet.data.dataset_config import load_data_config, open_split

    split = open_split(load_data_config("contours.yaml"), "val")
    dataset = open_dataset(split, 64)
    assert dataset.read_original(0).shape[:2] == tuple(dataset.image_sizes[0].astype(int))
