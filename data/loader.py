"""Batches of images for training and validation."""

import logging
import math
import os
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader

from graftdet.data.dataset import DetectionDataset, Item, UnreadableItem
from graftdet.data.sampler import BatchSampler
from graftdet.utils.processes.deferred_signals import signals_deferred
from graftdet.utils.text import counted

logger = logging.getLogger(__name__)


def collate(items: list[Item | UnreadableItem]) -> dict[str, Any]:
    """Make a batch from items of one shape. Unreadable images are skipped, or were replaced by another one.

    Args:
        items: the items of one batch.

    Returns:
        images: uint8 (B, 3, H, W) RGB, in channels-last memory.
        targets: float32 (M, 6): index in the batch, class, cx, cy, w, h normalized.
        paths, image_ids, gains, pads [(left, top)], shapes [(h0, w0)], indices: lists with one entry per image.
        unreadable: the `UnreadableItem`s.
        hsv_gains: float32 (B, 3), only if the color jitter is left to the training device.
    """
    loaded = [item for item in items if isinstance(item, Item)]
    positions = np.repeat(np.arange(len(loaded)), [len(item.targets) for item in loaded])
    rows = np.concatenate([item.targets for item in loaded] or [np.zeros((0, 5))])
    hsv_gains = [item.hsv_gains for item in loaded if item.hsv_gains is not None]
    unreadable = [item if isinstance(item, UnreadableItem) else item.replaced for item in items]
    batch = {
        "images": torch.from_numpy(_stack_images(loaded)),
        "targets": torch.from_numpy(np.column_stack((positions, rows)).astype(np.float32)),
        "paths": [item.path for item in loaded],
        "image_ids": [item.image_id for item in loaded],
        "gains": [item.gain for item in loaded],
        "pads": [item.pad for item in loaded],
        "shapes": [item.shape for item in loaded],
        "indices": [item.index for item in loaded],
        "unreadable": [item for item in unreadable if item],
    }
    if hsv_gains:
        batch["hsv_gains"] = torch.tensor(np.array(hsv_gains), dtype=torch.float32)
    return batch


def _stack_images(items: list[Item]) -> np.ndarray:
    """The images (B, 3, H, W): a view of the array that the dataset wrote them into, unless one was skipped."""
    if not items:
        return np.zeros((0, 3, 1, 1), np.uint8)
    block = items[0].image.base  # (B, H, W, 3)
    if block is not None and len(block) == len(items) and all(item.image.base is block for item in items):
        return block.transpose(0, 3, 1, 2)
    return np.stack([item.image for item in items])


def collate_arrays(items: list[Item | UnreadableItem]) -> dict[str, Any]:
    """`collate` with NumPy arrays, which workers send through a pipe instead of /dev/shm."""
    return {key: value.numpy() if torch.is_tensor(value) else value for key, value in collate(items).items()}


class Loader:
    """Iterates over the batches of one epoch (see `collate`); call `set_epoch(epoch)` first, counted from 0.

    The batches of an epoch depend on (seed, epoch) alone, not on `workers` or on earlier iterations. Images that cannot
    be read are skipped, or replaced in training, and reported once.

    Args:
        dataset: the images.
        sampler: the keys of each batch.
        workers: number of loader processes; 0 loads in this process.
        pin_memory: copy batches to pinned memory, for a GPU.
        start_method: how workers start ('fork', 'spawn', 'forkserver'; None: default of the platform).

    Raises:
        UserError: while iterating, if more than half of the images cannot be read.
    """

    def __init__(
        self,
        dataset: DetectionDataset,
        sampler: BatchSampler,
        workers: int,
        pin_memory: bool,
        start_method: str | None = None,
    ):
        self.dataset, self.batch_sampler, self.workers = dataset, sampler, workers
        self._reported: set[int] = set()
        self._ahead: Iterator[Any] | None = None
        max_side = dataset.size * (1.5 if sampler.multi_scale else 1)
        needed = 3 * sampler.batch_size * max_side * max_side * 3 * (2 * workers + 1)
        through_pipes = workers > 0 and _free_shared_memory() < needed
        self._loader: DataLoader = DataLoader(
            dataset,  # type: ignore[arg-type]  # a dataset of keys, not of indices
            batch_sampler=sampler,
            num_workers=workers,
            collate_fn=collate_arrays if through_pipes else collate,
            pin_memory=pin_memory and not through_pipes,
            worker_init_fn=_init_worker,
            persistent_workers=workers > 0,
            multiprocessing_context=start_method if workers else None,
            generator=torch.Generator(),  # its own, so that loading draws nothing from the global one
        )

    @property
    def batch_size(self) -> int:
        """Images per batch."""
        return self.batch_sampler.batch_size

    def set_epoch(self, epoch: int, weights: np.ndarray | None = None) -> None:
        """Choose the epoch.

        Args:
            epoch: counted from 0.
            weights: (n,) how often each image is drawn, relative to the others; None for once each.
        """
        if self._ahead is not None and (weights is not None or epoch != self.batch_sampler.epoch):
            self._ahead = None  # what the workers have loaded is discarded when they begin another epoch
        self.batch_sampler.set_epoch(epoch, weights)

    def load_ahead(self, epoch: int) -> None:
        """Let the workers begin with an epoch, while this process does something else. Does nothing without workers.

        Args:
            epoch: counted from 0; the next one, without weights.
        """
        if self.workers:
            self.set_epoch(epoch)
            self._ahead = self._start()

    def _start(self) -> Iterator[Any]:
        with signals_deferred():  # Python ignores exceptions while it forks the workers
            return iter(self._loader)

    def __len__(self) -> int:
        return len(self.batch_sampler)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        batches, self._ahead = self._ahead or self._start(), None
        for batch in batches:
            unreadable = batch.pop("unreadable")
            if unreadable:
                self.dataset.record_unreadable(unreadable)
            if len(batch["paths"]):
                yield {
                    key: torch.from_numpy(value) if isinstance(value, np.ndarray) else value
                    for key, value in batch.items()
                }
        self._report_unreadable()

    def _report_unreadable(self) -> None:
        """One warning for images that were skipped, if there are new ones."""
        new = [index for index in self.dataset.unreadable if index not in self._reported]
        if new:
            self._reported.update(new)
            first = f"{self.dataset.paths[new[0]]}: {self.dataset.unreadable[new[0]]}"
            total = len(self.dataset)
            logger.warning(
                "%s: %d of %s cannot be read, skipped (%s)",
                self.dataset.label,
                len(new),
                counted(total, "image"),
                first,
            )


def _init_worker(number: int) -> None:
    cv2.setNumThreads(0)  # parallel workers replace OpenCV's threads
    cv2.ocl.setUseOpenCL(False)


def _free_shared_memory() -> float:
    """Free bytes in /dev/shm, through which torch's workers send tensors; containers often have 64 MB."""
    try:
        stats = os.statvfs("/dev/shm")
    except (OSError, AttributeError):
        return math.inf
    return stats.f_bavail * stats.f_frsize


def train_loader(
    dataset: DetectionDataset,
    batch_size: int,
    workers: int = 0,
    *,
    epochs: int | None = None,
    shuffle: bool = True,
    multi_scale: bool = False,
    rank: int = 0,
    world_size: int = 1,
    pin_memory: bool = False,
    start_method: str | None = None,
) -> Loader:
    """Return augmented batches for training; the last batch may be smaller.

    Args:
        dataset: the images, with `augment`.
        batch_size: images per batch of this process.
        workers: number of loader processes.
        epochs: length of the whole training, which `close_mosaic` and `late_augmentation` of the recipe refer to.
        shuffle: use another order every epoch.
        multi_scale: vary the image size per batch, from 0.5 to 1.5 of that of the dataset.
        rank: number of this process.
        world_size: number of processes.
        pin_memory: copy batches to pinned memory, for a GPU.
        start_method: how workers start ('fork', 'spawn', 'forkserver'; None: default of the platform).
    """
    dataset.epochs = epochs
    closing_epochs = 0 if epochs is None else dataset.recipe.closing_epochs(epochs)
    mosaic_epochs = epochs - closing_epochs if closing_epochs else math.inf
    sampler = BatchSampler(
        dataset,
        batch_size,
        shuffle=shuffle,
        multi_scale=multi_scale,
        mosaic_epochs=mosaic_epochs,
        rank=rank,
        world_size=world_size,
    )
    return Loader(dataset, sampler, workers, pin_memory, start_method)


def val_loader(
    dataset: DetectionDataset,
    batch_size: int,
    workers: int = 0,
    *,
    rank: int = 0,
    world_size: int = 1,
    pin_memory: bool = False,
    start_method: str | None = None,
) -> Loader:
    """Return batches for validation: every image once, not augmented; sorted by aspect ratio if the dataset is `rect`.

    Args:
        dataset: the images.
        batch_size: images per batch of all processes together.
        workers: number of loader processes.
        rank: number of this process.
        world_size: number of processes, which divide each batch among them.
        pin_memory: copy batches to pinned memory, for a GPU.
        start_method: how workers start ('fork', 'spawn', 'forkserver'; None: default of the platform).
    """
    sampler = BatchSampler(dataset, batch_size, rank=rank, world_size=world_size, divide=True)
    return Loader(dataset, sampler, workers, pin_memory, start_method)
