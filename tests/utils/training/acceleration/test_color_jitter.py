"""Color jitter on the device: the same images as OpenCV computes one by one in the loader."""

import numpy as np
import pytest
import torch

from graftdet.data.augmentation.transforms import hsv_jitter
from graftdet.data.dataset import DetectionDataset
from graftdet.data.dataset_config import load_data_config, open_split
from graftdet.data.loader import train_loader
from graftdet.utils.hyperparameters import load_hyperparameters
from graftdet.utils.training.acceleration.color_jitter import images_on_device, scale_hsv


def smooth_images(count, side=48):
    """Images with all kinds of colors next to each other, and some gray, black and white ones: (count, side, side, 3) uint8."""
    draw = np.random.default_rng(0)
    images = draw.integers(0, 256, (count, side, side, 3)).astype(np.uint8)
    images[:, :4] = np.arange(side, dtype=np.uint8)[None, None, :, None] * 5
    images[:, 4:6], images[:, 6:8] = 0, 255
    return images


@pytest.mark.parametrize("spread", [(0.015, 0.7, 0.4), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)])
def test_equals_opencv(spread):
    images = smooth_images(16)
    gains = 1 + np.random.default_rng(1).uniform(-1, 1, (len(images), 3)) * spread
    expected = np.stack([hsv_jitter(image, gain) for image, gain in zip(images, gains, strict=True)])
    rgb = torch.from_numpy(np.ascontiguousarray(images[..., ::-1].transpose(0, 3, 1, 2)))
    actual = scale_hsv(rgb, torch.from_numpy(gains)).numpy()
    assert actual.dtype == np.uint8 and actual.shape == expected.shape
    difference = np.abs(actual.astype(int) - expected)
    assert difference.max() <= 2 and difference.mean() < 0.3
    assert np.abs(rgb.numpy().astype(int) - expected).mean() > 5  # it did something


def test_gray_images_stay_gray():
    gray = torch.full((2, 3, 5, 5), 90, dtype=torch.uint8)
    assert (scale_hsv(gray, torch.tensor([[1.4, 0.3, 1.0], [0.6, 1.7, 1.0]])) == 90).all()
    assert (
        scale_hsv(gray, torch.tensor([[1.4, 0.3, 0.5], [0.6, 1.7, 10.0]]))
        == torch.tensor([45, 255])[:, None, None, None]
    ).all()


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("changes", [[], ["mosaic=0"], ["mixup=1"]])
def test_the_loader_does_not_jitter_if_the_device_does(workers, changes):
    split = open_split(load_data_config("shapes.yaml"), "val")
    recipe = load_hyperparameters("default.yaml", changes)
    batches = {}
    for later in (False, True):
        dataset = DetectionDataset(split, 64, recipe, augment=True, defer_hsv=later)
        loader = train_loader(dataset, 8, workers)
        loader.set_epoch(0)
        batches[later] = next(iter(loader))
    assert "hsv_gains" not in batches[False] and batches[True]["hsv_gains"].shape == (8, 3)
    assert torch.equal(batches[False]["targets"], batches[True]["targets"])
    at_once, later = (images_on_device(batches[key], torch.device("cpu")) for key in (False, True))
    assert torch.equal(at_once, batches[False]["images"])
    assert (at_once.int() - later.int()).abs().max() <= 2
    assert (at_once.int() - batches[True]["images"].int()).abs().float().mean() > 3


def test_zero_gains_do_not_change_images():
    split = open_split(load_data_config("shapes.yaml"), "val")
    recipe = load_hyperparameters("default.yaml", ["hsv_h=0", "hsv_s=0", "hsv_v=0"])
    dataset = DetectionDataset(split, 64, recipe, augment=True, defer_hsv=True)
    batch = next(iter(train_loader(dataset, 8)))
    assert "hsv_gains" not in batch and images_on_device(batch, torch.device("cpu")) is batch["images"]
