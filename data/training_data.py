"""The images of a training run: batches for training, and validation of a model."""

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import device as Device

from graftdet.data.dataset import DetectionDataset, Item, ItemKey
from graftdet.data.formats.dataset_split import Split
from graftdet.data.loader import Loader, train_loader, val_loader
from graftdet.data.synthetic_dataset import open_dataset
from graftdet.utils.distributed import Ranks
from graftdet.utils.errors import UserError
from graftdet.utils.evaluation.evaluator import Evaluation, evaluate
from graftdet.utils.hyperparameters import Hyperparameters


@dataclass(frozen=True)
class LoaderSettings:
    """How images are loaded for training and validation.

    Attributes:
        size: Longer side of the images [pixels].
        stride: Divisor of the sides of all batches.
        batch_size: Training images per batch, over all processes; validation batches have twice as many.
        workers: Processes that load images.
        seed: Seed of augmentation and order.
        cache: Where decoded images are cached.
        rect: Use batches of one aspect ratio instead of mosaics.
        ranks: Rank of this process.
        device: Device of this process.
    """

    size: int
    stride: int
    batch_size: int
    workers: int
    seed: int
    cache: str
    rect: bool
    ranks: Ranks
    device: Device

    def __post_init__(self) -> None:
        if self.batch_size % self.ranks.world_size:
            count = self.ranks.world_size
            raise UserError(
                f"--batch-size {self.batch_size}: counts all {count} processes and must be divisible by their number"
            )

    @property
    def dataset(self) -> dict[str, Any]:
        """Arguments of `open_dataset`."""
        return {"size": self.size, "stride": self.stride, "seed": self.seed, "cache": self.cache}


def make_batches(
    split: Split, hyperparameters: Hyperparameters, settings: LoaderSettings, epochs: int, multi_scale: bool
) -> tuple[DetectionDataset, Loader]:
    """Open the training images.

    Args:
        split: The split to train on.
        hyperparameters: The training recipe, for augmentation.
        settings: How to load images.
        epochs: Length of the run.
        multi_scale: Change the size in each batch.

    Returns:
        The images, and their batches.
    """
    on_cuda = settings.device.type == "cuda"
    images = open_dataset(
        split,
        recipe=hyperparameters,
        augment=True,
        rect=settings.rect,
        label="train",
        defer_hsv=on_cuda,
        **settings.dataset,
    )
    batches = train_loader(
        images,
        settings.batch_size // settings.ranks.world_size,
        settings.workers,
        epochs=epochs,
        multi_scale=multi_scale,
        pin_memory=on_cuda,
        rank=settings.ranks.rank,
        world_size=settings.ranks.world_size,
    )
    return images, batches


def sample_images(images: DetectionDataset, size: int, count: int = 64, batch_size: int = 16) -> Iterator[torch.Tensor]:
    """Images of the first epoch, augmented as in training, evenly spread over the dataset.

    Args:
        images: The training images.
        size: Longer side [pixels].
        count: Maximum number of images.
        batch_size: Images per batch.

    Yields:
        Batches (B, 3, size, size), float32 in 0..1.
    """
    step = max(len(images) / count, 1)
    keys = [ItemKey(0, int(number * step), size) for number in range(min(count, len(images)))]
    for start in range(0, len(keys), batch_size):
        items = images.__getitems__(keys[start : start + batch_size])
        found = [item.image for item in items if isinstance(item, Item)]
        if found:
            yield torch.from_numpy(np.stack(found)).float() / 255


def plain_images(
    split: Split, settings: LoaderSettings, count: int = 48, batch_size: int = 16
) -> Iterator[torch.Tensor]:
    """Images of a split without augmentation, evenly spread over it, at 320 pixels or the size of the run if smaller.

    Args:
        split: The split.
        settings: How images are loaded.
        count: Maximum number of images.
        batch_size: Images per batch.

    Yields:
        Batches (B, 3, size, size), float32 in 0..1; nothing is read before the first one.
    """
    size = min(settings.size, max(320 // settings.stride, 1) * settings.stride)
    images = open_dataset(split, size, stride=settings.stride, seed=settings.seed, label="train")
    yield from sample_images(images, size, count, batch_size)


def make_validation(
    split: Split, settings: LoaderSettings, geometric_augmentation: bool
) -> Callable[..., Evaluation | None]:
    """Open the validation images.

    Args:
        split: The split to validate on.
        settings: How to load images.
        geometric_augmentation: Whether training moves or scales image content; without it, validation uses the same
            square letterboxing as training.

    Returns:
        `validate(model, half=False)`, which evaluates a model; None in processes other than the main one.
    """
    images = open_dataset(split, rect=settings.rect or geometric_augmentation, label="val", **settings.dataset)
    return functools.partial(
        evaluate,
        loader=val_loader(
            images,
            2 * settings.batch_size,
            settings.workers,
            rank=settings.ranks.rank,
            world_size=settings.ranks.world_size,
        ),
        ground_truth=split.ground_truth(),
        category_ids=split.category_ids,
        ranks=settings.ranks,
        device=settings.device,
        half=settings.device.type == "cuda",
    )
