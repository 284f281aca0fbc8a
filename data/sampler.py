"""Which pictures form a batch: keys for `DetectionDataset`, a function of (seed, epoch) alone."""

import math
from collections.abc import Iterator

import numpy as np
from graftdet.data.dataset import DetectionDataset, Key


def rect_order(frames: np.ndarray) -> np.ndarray:
    """Numbers of pictures (n,) sorted by aspect, height / width, for `frames` (n, 2) of (h, w)."""
    frames = np.maximum(frames, 1)
    return np.argsort(frames[:, 0] / frames[:, 1], kind="stable")


def rect_shape(frames: np.ndarray, size: int, stride: int, pad: float) -> tuple[int, int]:
    """Smallest shape (h, w) in whole strides that holds all `frames` (n, 2) of (h, w) at longest side `size`.

    `pad` strides are added before rounding up: half a stride around pictures is the published habit in validation.
    """
    frames = np.maximum(frames.astype(np.float64), 1)
    sides = (frames / frames.max(1, keepdims=True)).max(0)  # in units of size
    height, width = (max(math.ceil(round(side * size / stride + pad, 6)), 1) * stride for side in sides)
    return height, width


class BatchSampler:
    """Yields lists of `Key`s, a list a batch; `set_epoch` chooses the epoch (counted from 0).

    shuffle: a new order each epoch. rect: batches of one aspect, their order shuffled. multi_scale: each batch at a
    size drawn from 0.5 to 1.5 of the data set's. mosaic_epochs: from this epoch on no mosaic. Of `world_size` processes
    each takes every `world_size`-th picture of the same order (or batch, when rect); the order is filled up from its
    start so that all have equally many. With `divide` the processes share each batch of a single one instead, every
    picture once.
    """

    def __init__(
        self, dataset: DetectionDataset, batch_size: int, *, shuffle=False, multi_scale=False, mosaic_epochs=math.inf,
        rank=0, world_size=1, divide=False,
    ):  # fmt: skip
        self.dataset, self.batch_size, self.shuffle, self.multi_scale = dataset, batch_size, shuffle, multi_scale
        self.mosaic_epochs = mosaic_epochs
        self.rank, self.world_size = (0, 1) if divide else (rank, world_size)  # of all batches
        self.share = slice(rank, None, world_size) if divide else slice(None)  # of each batch
        self.epoch, self.weights = 0, None

    def set_epoch(self, epoch: int, weights: np.ndarray | None = None) -> None:
        """Choose the epoch; `weights` (n,) make it a draw of n pictures with replacement (image weights)."""
        self.epoch, self.weights = epoch, weights

    def __len__(self) -> int:
        if self.dataset.rect:
            return math.ceil(math.ceil(len(self.dataset) / self.batch_size) / self.world_size)
        return math.ceil(math.ceil(len(self.dataset) / self.world_size) / self.batch_size)

    def __iter__(self) -> Iterator[list[Key]]:
        rng = self._rng(1)
        for number, (indices, shape) in enumerate(self._rect(rng) if self.dataset.rect else self._square(rng)):
            size, shape = self._scaled(number, shape)
            mosaic = bool(self.dataset.augment and not self.dataset.rect and self.epoch < self.mosaic_epochs)
            if len(indices[self.share]):
                yield [Key(self.epoch, int(index), size, mosaic, shape) for index in indices[self.share]]

    def _rng(self, purpose: int, number: int = 0) -> np.random.Generator:
        # five words with a last one above 0: no sample, seeded by three words, shares a stream with this
        return np.random.default_rng(np.random.SeedSequence([self.dataset.seed, self.epoch, number, 0, purpose]))

    def _order(self, rng: np.random.Generator) -> np.ndarray:
        count = len(self.dataset)
        if self.weights is not None:
            weights = np.asarray(self.weights, dtype=np.float64)
            weights = weights if weights.sum() > 0 else np.ones(count)  # all classes learned perfectly
            return rng.choice(count, count, p=weights / weights.sum())
        return rng.permutation(count) if self.shuffle else np.arange(count)

    def _square(self, rng: np.random.Generator):
        order = self._order(rng)
        share = math.ceil(len(order) / self.world_size)
        order = np.resize(order, share * self.world_size)[self.rank :: self.world_size]
        for start in range(0, share, self.batch_size):
            yield order[start : start + self.batch_size], None

    def _rect(self, rng: np.random.Generator):
        order = np.arange(len(self.dataset)) if self.weights is None else self._order(rng)
        order = order[rect_order(self.dataset.frames[order])]
        chunks = [order[start : start + self.batch_size] for start in range(0, len(order), self.batch_size)]
        turns = rng.permutation(len(chunks)) if self.shuffle else np.arange(len(chunks))
        turns = np.resize(turns, math.ceil(len(chunks) / self.world_size) * self.world_size)
        for turn in turns[self.rank :: self.world_size]:
            pad = 0.0 if self.dataset.augment else 0.5
            frames = self.dataset.frames[chunks[turn]]
            yield chunks[turn], rect_shape(frames, self.dataset.size, self.dataset.stride, pad)

    def _scaled(self, number: int, shape: tuple[int, int] | None) -> tuple[int, tuple[int, int] | None]:
        """The batch's size and shape, changed by the multi-scale draw of batch `number`; equal in all processes."""
        size, stride = self.dataset.size, self.dataset.stride
        if not self.multi_scale:
            return size, shape
        low, high = math.ceil(0.5 * size / stride), math.floor(1.5 * size / stride)
        drawn = int(self._rng(2, number).integers(low, high + 1)) * stride
        if shape:
            shape = tuple(math.ceil(side * drawn / size / stride) * stride for side in shape)
        return drawn, shape
