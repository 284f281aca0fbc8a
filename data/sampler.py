"""Which images form a batch: keys for `DetectionDataset`, a function of (seed, epoch) alone."""

import math
from collections.abc import Iterator

import numpy as np

from graftdet.data.dataset import DetectionDataset, ItemKey

RECT_PADDING = 0.5  # strides added around images in rectangular validation batches, as published


def sort_by_aspect(image_sizes: np.ndarray) -> np.ndarray:
    """Return the indices (n,) of images sorted by aspect ratio, height / width.

    Args:
        image_sizes: (n, 2) h, w.
    """
    image_sizes = np.maximum(image_sizes, 1)
    return np.argsort(image_sizes[:, 0] / image_sizes[:, 1], kind="stable")


def rect_shape(image_sizes: np.ndarray, size: int, stride: int, padding: float) -> tuple[int, int]:
    """Return the smallest shape that holds all images resized to one longest side.

    Args:
        image_sizes: (n, 2) h, w.
        size: longest side of the resized images, in pixels.
        stride: the shape is a multiple of it.
        padding: strides added before rounding up.

    Returns:
        (h, w) in pixels.
    """
    image_sizes = np.maximum(image_sizes.astype(np.float64), 1)
    sides = (image_sizes / image_sizes.max(1, keepdims=True)).max(0)  # relative to size
    height, width = (max(math.ceil(round(side * size / stride + padding, 6)), 1) * stride for side in sides)
    return height, width


class BatchSampler:
    """Yields one list of `ItemKey`s per batch; `set_epoch` chooses the epoch (counted from 0).

    Args:
        dataset: the images; `dataset.rect` selects batches of similar aspect ratio.
        batch_size: images per batch; with `divide` of all processes together.
        shuffle: use another order every epoch (of batches, if rect).
        multi_scale: draw the image size per batch, from 0.5 to 1.5 of that of the dataset.
        mosaic_epochs: no mosaic from this epoch on.
        rank: number of this process.
        world_size: number of processes. Each takes every `world_size`-th image of the same order (or batch, if rect);
            the order is extended from its start so that all have equally many.
        divide: divide each batch among the processes instead, so that every image occurs once.
    """

    def __init__(
        self,
        dataset: DetectionDataset,
        batch_size: int,
        *,
        shuffle: bool = False,
        multi_scale: bool = False,
        mosaic_epochs: float = math.inf,
        rank: int = 0,
        world_size: int = 1,
        divide: bool = False,
    ):
        self.dataset, self.batch_size, self.shuffle, self.multi_scale = dataset, batch_size, shuffle, multi_scale
        self.mosaic_epochs = mosaic_epochs
        self.rank, self.world_size = (0, 1) if divide else (rank, world_size)  # which batches are ours
        self.batch_slice = slice(rank, None, world_size) if divide else slice(None)  # which part of each batch
        self.epoch = 0
        self.weights: np.ndarray | None = None

    def set_epoch(self, epoch: int, weights: np.ndarray | None = None) -> None:
        """Choose the epoch.

        Args:
            epoch: counted from 0.
            weights: (n,) draw n images with replacement by these weights (image weights); None for each image once.
        """
        self.epoch, self.weights = epoch, weights

    def __len__(self) -> int:
        if self.dataset.rect:
            return math.ceil(math.ceil(len(self.dataset) / self.batch_size) / self.world_size)
        return math.ceil(math.ceil(len(self.dataset) / self.world_size) / self.batch_size)

    def __iter__(self) -> Iterator[list[ItemKey]]:
        rng = self._rng(1)
        batches = self._rect_batches(rng) if self.dataset.rect else self._square_batches(rng)
        for number, (indices, shape) in enumerate(batches):
            size, shape = self._scale(number, shape)
            mosaic = bool(self.dataset.augment and not self.dataset.rect and self.epoch < self.mosaic_epochs)
            indices = indices[self.batch_slice]
            if len(indices):
                yield [ItemKey(self.epoch, int(index), size, mosaic, shape) for index in indices]

    def _rng(self, purpose: int, number: int = 0) -> np.random.Generator:
        # five integers with the last one above 0: no stream of an item, which is seeded by three, equals this one
        return np.random.default_rng(np.random.SeedSequence([self.dataset.seed, self.epoch, number, 0, purpose]))

    def _order(self, rng: np.random.Generator) -> np.ndarray:
        count = len(self.dataset)
        if self.weights is not None:
            weights = np.asarray(self.weights, dtype=np.float64)
            weights = weights if weights.sum() > 0 else np.ones(count)  # every class has perfect AP
            return rng.choice(count, count, p=weights / weights.sum())
        return rng.permutation(count) if self.shuffle else np.arange(count)

    def _square_batches(self, rng: np.random.Generator) -> Iterator[tuple[np.ndarray, None]]:
        order = self._order(rng)
        per_process = math.ceil(len(order) / self.world_size)
        order = np.resize(order, per_process * self.world_size)[self.rank :: self.world_size]
        for start in range(0, per_process, self.batch_size):
            yield order[start : start + self.batch_size], None

    def _rect_batches(self, rng: np.random.Generator) -> Iterator[tuple[np.ndarray, tuple[int, int]]]:
        order = np.arange(len(self.dataset)) if self.weights is None else self._order(rng)
        order = order[sort_by_aspect(self.dataset.image_sizes[order])]
        batches = [order[start : start + self.batch_size] for start in range(0, len(order), self.batch_size)]
        batch_order = rng.permutation(len(batches)) if self.shuffle else np.arange(len(batches))
        batch_order = np.resize(batch_order, math.ceil(len(batches) / self.world_size) * self.world_size)
        padding = 0.0 if self.dataset.augment else RECT_PADDING
        for number in batch_order[self.rank :: self.world_size]:
            image_sizes = self.dataset.image_sizes[batches[number]]
            yield batches[number], rect_shape(image_sizes, self.dataset.size, self.dataset.stride, padding)

    def _scale(self, number: int, shape: tuple[int, int] | None) -> tuple[int, tuple[int, int] | None]:
        """Size and shape of batch `number` after the multi-scale draw, which is the same in all processes."""
        size, stride = self.dataset.size, self.dataset.stride
        if not self.multi_scale:
            return size, shape
        low, high = math.ceil(0.5 * size / stride), math.floor(1.5 * size / stride)
        scaled_size = int(self._rng(2, number).integers(low, high + 1)) * stride
        if shape:
            height, width = (math.ceil(side * scaled_size / size / stride) * stride for side in shape)
            shape = (height, width)
        return scaled_size, shape
