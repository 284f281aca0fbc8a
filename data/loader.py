"""Batches of pictures for training and for measuring."""

import math
import os
import sys

import cv2
import numpy as np
import torch
from graftdet.data.dataset import DetectionDataset, Item, Unreadable
from graftdet.data.sampler import BatchSampler
from torch.utils.data import DataLoader


def collate(items: list[Item | Unreadable]) -> dict:
    """Items of one shape -> a batch; pictures that cannot be read are left out or stood in for, named under 'unreadable'.

    images uint8 (B, 3, H, W) RGB; targets float32 (M, 6): number in the batch, class, cx, cy, w, h normalised; lists
    paths, image_ids, gains, pads [(left, top)], shapes [(h0, w0)], indices; hsv_gains float32 (B, 3) where the data set
    leaves colours to the device.
    """
    good = [item for item in items if isinstance(item, Item)]
    images = _one_array(good)
    numbers = np.repeat(np.arange(len(good)), [len(item.targets) for item in good])
    rows = np.concatenate([item.targets for item in good] or [np.zeros((0, 5))])
    later = [item.hsv_gains for item in good if item.hsv_gains is not None]
    colours = {"hsv_gains": torch.tensor(np.array(later), dtype=torch.float32)} if later else {}
    return colours | {
        "images": torch.from_numpy(images),
        "targets": torch.from_numpy(np.column_stack((numbers, rows)).astype(np.float32)),
        "paths": [item.path for item in good],
        "image_ids": [item.image_id for item in good],
        "gains": [item.gain for item in good],
        "pads": [item.pad for item in good],
        "shapes": [item.shape for item in good],
        "indices": [item.index for item in good],
        "unreadable": [
            lost for lost in (item if isinstance(item, Unreadable) else item.lost for item in items) if lost
        ],
    }


def _one_array(items: list[Item]) -> np.ndarray:
    """The pictures (B, 3, H, W): the array that the data set drew them into, unless one of them was left out."""
    if not items:
        return np.zeros((0, 3, 1, 1), np.uint8)
    block = items[0].image.base
    if block is not None and len(block) == len(items) and all(item.image.base is block for item in items):
        return block
    return np.stack([item.image for item in items])


def collate_arrays(items: list[Item | Unreadable]) -> dict:
    """`collate` with NumPy arrays, which travel through a pipe and not through /dev/shm."""
    return {key: value.numpy() if torch.is_tensor(value) else value for key, value in collate(items).items()}


class Loader:
    """Iterates over one epoch's batches (see `collate`); `set_epoch(epoch)` first, counted from 0.

    An epoch's batches depend on (seed, epoch) only, not on `workers` or on what was iterated before. Pictures that
    cannot be read are left out, or another takes their place in training, and told once; more than half of them raises
    `UserError`.
    """

    def __init__(self, dataset: DetectionDataset, sampler: BatchSampler, workers: int, pin_memory: bool, context=None):
        self.dataset, self.batch_sampler, self.workers = dataset, sampler, workers
        self._told: set[int] = set()
        side = dataset.size * (1.5 if sampler.multi_scale else 1)
        small = workers > 0 and _shared_memory() < 3 * sampler.batch_size * side * side * 3 * (2 * workers + 1)
        self._loader = DataLoader(
            dataset,
            batch_sampler=sampler,
            num_workers=workers,
            collate_fn=collate_arrays if small else collate,
            pin_memory=pin_memory and not small,
            worker_init_fn=_start_worker,
            persistent_workers=workers > 0,
            multiprocessing_context=context if workers else None,
            generator=torch.Generator(),  # its own, so that loading draws nothing from the global one
        )

    @property
    def batch_size(self) -> int:
        return self.batch_sampler.batch_size

    def set_epoch(self, epoch: int, weights: np.ndarray | None = None) -> None:
        """Choose the epoch, and how often each picture is drawn in it: `weights` (n,), None for once each."""
        self.batch_sampler.set_epoch(epoch, weights)

    def __len__(self) -> int:
        return len(self.batch_sampler)

    def __iter__(self):
        for batch in self._loader:
            unreadable = batch.pop("unreadable")
            if unreadable:
                self.dataset.note_unreadable(unreadable)
            if len(batch["paths"]):
                yield {
                    key: torch.from_numpy(value) if isinstance(value, np.ndarray) else value
                    for key, value in batch.items()
                }
        self._tell()

    def _tell(self) -> None:
        """One line on standard error about pictures that were passed over, when there are new ones."""
        new = [index for index in self.dataset.unreadable if index not in self._told]
        if new:
            self._told.update(new)
            first = f"{self.dataset.paths[new[0]]}: {self.dataset.unreadable[new[0]]}"
            total = len(self.dataset)
            print(f"{self.dataset.label}: {len(new)} of {total} cannot be read, passed over ({first})", file=sys.stderr)


def _start_worker(number: int) -> None:
    cv2.setNumThreads(0)  # the workers are the threads
    cv2.ocl.setUseOpenCL(False)


def _shared_memory() -> float:
    """Bytes free in /dev/shm, through which torch's workers send tensors; containers often have 64 MB."""
    try:
        state = os.statvfs("/dev/shm")
    except (OSError, AttributeError):
        return math.inf
    return state.f_bavail * state.f_frsize


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
    context: str | None = None,
) -> Loader:
    """Augmented batches, the last one may be smaller.

    `epochs`, the length of the whole training, tells when `recipe.close_mosaic` begins. `context` is the way workers
    start ('fork', 'spawn', 'forkserver'; None: the platform's).
    """
    closed = 0 if epochs is None else dataset.recipe.closing_epochs(epochs)
    mosaic_epochs = epochs - closed if closed else math.inf
    sampler = BatchSampler(
        dataset, batch_size, shuffle=shuffle, multi_scale=multi_scale, mosaic_epochs=mosaic_epochs,
        rank=rank, world_size=world_size,
    )  # fmt: skip
    return Loader(dataset, sampler, workers, pin_memory, context)


def val_loader(
    dataset: DetectionDataset,
    batch_size: int,
    workers: int = 0,
    *,
    rank: int = 0,
    world_size: int = 1,
    pin_memory: bool = False,
    context=None,
) -> Loader:
    """Every picture once, unaugmented; sorted by aspect in batches of their own shape when the data set is `rect`.

    Of `world_size` processes each takes its share of each batch: `batch_size` counts all of them.
    """
    sampler = BatchSampler(dataset, batch_size, rank=rank, world_size=world_size, divide=True)
    return Loader(dataset, sampler, workers, pin_memory, context)
