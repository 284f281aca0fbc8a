"""Pictures and boxes of a split, made ready for the network. NumPy in, NumPy out; `graftdet.data.loader` makes the batches."""

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from graftdet.data.augmentation.canvas import Canvas
from graftdet.data.augmentation.mosaic import draw_centre, mosaic
from graftdet.data.augmentation.transforms import clip_boxes, draw_hsv_gains, hsv_jitter, jitter, mixup
from graftdet.data.caching.image_cache import check_readable, open_pictures
from graftdet.data.exif import loaded_frame
from graftdet.data.formats.sample_table import SampleTable
from graftdet.utils.errors import UserError
from graftdet.utils.images.io import UnreadableImage
from graftdet.utils.images.letterbox import letterbox, pad_to, to_chw


class Key(NamedTuple):
    """What is asked of a data set: all that a sample depends on, next to the data set's seed."""

    epoch: int
    index: int
    size: int  # longest side of the picture, or side of the mosaic
    mosaic: bool = False
    shape: tuple[int, int] | None = None  # (h, w) of the result; None: (size, size)

    @property
    def sides(self) -> tuple[int, int]:
        """(h, w) of the result."""
        return self.shape or (self.size, self.size)


@dataclass(slots=True)
class Item:
    """One picture for a batch. x' = x * gain + pad for an unaugmented one; an augmented one has no way back."""

    image: np.ndarray  # (3, h, w) uint8 RGB
    targets: np.ndarray  # (m, 5) float32: class, cx, cy, w, h, normalised by the sides of `image`
    index: int
    path: str
    image_id: int | str
    gain: float
    pad: tuple[float, float]  # left, top
    shape: tuple[int, int]  # (h0, w0) of the frame that the source's boxes are in: nearly always the picture as read
    lost: "Unreadable | None" = None  # the picture that was asked for, where another one is trained on in its place
    hsv_gains: np.ndarray | None = None  # (3,): the colours are still to be multiplied so, by the device that trains


@dataclass(slots=True)
class Unreadable:
    """A picture that cannot be read; the loader counts it, and leaves it out where nothing took its place."""

    index: int
    path: str
    reason: str


class DetectionDataset:
    """`dataset[Key(...)]` -> `Item`, or `Unreadable`. Randomness is a function of (seed, epoch, index) alone.

    With `augment` another picture, drawn, takes the place of one that cannot be read: processes that train together
    have batches of one number. An unaugmented one is `Unreadable`.

    split: has `.samples` (`graftdet.data.formats.Sample`). size: longest side of a picture, in pixels. recipe: augmentation
    numbers (`graftdet.utils.hyperparameters`), needed with `augment`. rect: batches of one aspect (see `graftdet.data.loader`) instead of
    squares; excludes mosaic. cache: 'auto', 'ram', 'disk' or 'none' (see `graftdet.data.caching.image_cache`), filled here. With `hsv_later` the
    colour jitter is drawn and left to the device that trains (`graftdet.utils.training.color_jitter`). Crowd boxes are left out. Raises
    `UserError` when there is no picture, or when more than half turn out unreadable.
    """

    def __init__(
        self, split, size=640, recipe=None, *, augment=False, rect=False, stride=32, cache="none", seed=0, label="pictures",
        hsv_later=False,
    ):  # fmt: skip
        samples = SampleTable.of(split.samples)
        if not len(samples):
            raise UserError(f"{label}: no pictures")
        self.size, self.stride, self.rect, self.seed = int(size), int(stride), rect, abs(int(seed))
        self.augment, self.recipe, self.label = augment, recipe, label
        self.hsv_later = hsv_later and augment and (recipe.hsv_h or recipe.hsv_s or recipe.hsv_v) > 0
        self.paths, self.image_ids = samples.paths, samples.image_ids
        self.frames = np.stack((samples.heights, samples.widths), 1).astype(np.float32)
        trained = ~samples.crowd
        # flat arrays instead of thousands of small ones: cheap to send to spawned workers
        self._ends = np.concatenate(([0], np.cumsum(trained)))[samples.ends]
        self._boxes = samples.boxes[trained].astype(np.float32)
        self._labels = samples.labels[trained]
        longest = np.maximum(self.frames.max(1), 1)
        self.pictures = open_pictures(
            cache, self.paths, samples.apply_exif, self.size,
            int((self.frames.prod(1) * (self.size / longest) ** 2).sum() * 3), self.frames,
        )  # fmt: skip
        self.pictures.fill(label)

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def boxes(self) -> list[np.ndarray]:
        """xyxy pixels (n, 4) of each picture as read, without crowds; with `frames` (h, w) what autoanchor needs."""
        return [self._boxes[a:b] for a, b in zip(self._ends[:-1], self._ends[1:])]

    @property
    def labels(self) -> list[np.ndarray]:
        """Class indices (n,) of each picture, without crowds."""
        return [self._labels[a:b] for a, b in zip(self._ends[:-1], self._ends[1:])]

    @property
    def unreadable(self) -> dict[int, str]:
        """Number of a picture that cannot be read -> reason, as far as known."""
        return self.pictures.errors

    def note_unreadable(self, items: list[Unreadable]) -> None:
        """Count pictures that workers could not read. Raises `UserError` when they are more than half."""
        for item in items:
            self.pictures.errors.setdefault(item.index, item.reason)
        check_readable(self.paths, self.pictures.errors)

    def __getitem__(self, key: Key) -> Item | Unreadable:
        return self._read(key, np.empty((3, *key.sides), dtype=np.uint8))

    def __getitems__(self, keys: list[Key]) -> list[Item | Unreadable]:
        """A batch: items whose pictures lie in one array (B, 3, h, w), each drawn there once. `keys` ask for one shape."""
        images = np.empty((len(keys), 3, *keys[0].sides), dtype=np.uint8)
        return [self._read(key, out) for key, out in zip(keys, images, strict=True)]

    def _read(self, key: Key, out: np.ndarray) -> Item | Unreadable:
        """The item of `key`, its picture drawn into `out` (3, h, w)."""
        rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence((self.seed, key.epoch, key.index))))
        try:
            return self._augmented(key, rng, out) if self.augment else self._plain(key, out)
        except UnreadableImage as error:
            lost = Unreadable(key.index, self.paths[key.index], error.reason)
        item = (
            self._partner(rng, lambda index: self._augmented(key._replace(index=index), rng, out))
            if self.augment
            else None
        )
        return replace(item, lost=lost) if item else lost

    def _plain(self, key: Key, out: np.ndarray) -> Item:
        image, boxes, labels, original = self._picture(key.index)
        gain, shape = key.size / max(original), key.sides
        height, width = image.shape[:2]
        if key.size != self.size or height > shape[0] or width > shape[1]:
            image, factor, pad = letterbox(image, shape)
            gain = factor * self.size / max(original)
            boxes = boxes * np.float32(factor)
        else:
            image, pad = pad_to(image, shape)
        boxes = boxes + np.array([*pad, *pad], dtype=np.float32)
        return self._item(key, to_chw(image, out), boxes, labels, gain, pad, original)

    def _augmented(self, key: Key, rng: np.random.Generator, out: np.ndarray) -> Item:
        recipe, shape = self.recipe, key.sides
        original = tuple(int(side) for side in self.frames[key.index])
        if key.mosaic and not self.rect and rng.random() < recipe.mosaic:
            image, boxes, labels = self._mosaic(key.index, shape, key.size, rng)
            if rng.random() < recipe.mixup:
                partner = self._partner(rng, lambda index: self._mosaic(index, shape, key.size, rng))
                if partner:
                    image = mixup(image, partner[0], rng)
                    boxes, labels = np.concatenate((boxes, partner[1])), np.concatenate((labels, partner[2]))
        else:
            image, boxes, labels, original = self._picture(key.index)
            image, boxes, labels = jitter(Canvas.of(image, boxes, labels), rng, recipe, shape, key.size / self.size)
        gains = draw_hsv_gains(rng, recipe)
        image = to_chw(image, out) if self.hsv_later else hsv_jitter(image, gains, out)
        item = self._item(key, image, boxes, labels, 1.0, (0.0, 0.0), original)
        item.hsv_gains = gains if self.hsv_later else None
        return item

    def _mosaic(self, index: int, shape: tuple[int, int], size: int, rng: np.random.Generator):
        """Mosaic of picture `index` and three drawn ones, jittered onto `shape`: (image, boxes xyxy, labels)."""
        centre = draw_centre(rng, self.size)
        tiles = [self._picture(index)[:3]]
        tiles += [self._partner(rng, lambda other: self._picture(other)[:3]) for _ in range(3)]
        order = rng.permutation(4)
        canvas = mosaic([tiles[place] for place in order], self.size, centre)
        return jitter(canvas, rng, self.recipe, shape, size / self.size)

    def _partner(self, rng: np.random.Generator, make):
        """`make(index)` of a drawn picture. Draws again when it cannot be read: whether it can is the same everywhere."""
        for _ in range(64):  # no more than half are unreadable, or training ends
            try:
                return make(int(rng.integers(len(self))))
            except UnreadableImage:
                continue
        return None

    def _picture(self, index: int):
        """(image with its longest side at `self.size`, boxes xyxy, labels, (h0, w0) of the frame that the source's
        boxes are in); the image may be read-only."""
        image, original = self.pictures.read(index)
        rows = slice(self._ends[index], self._ends[index + 1])
        frame = loaded_frame(self.frames[index], original)
        across, down = image.shape[1] / frame[1], image.shape[0] / frame[0]
        boxes = self._boxes[rows] * np.array([across, down, across, down], dtype=np.float32)
        return image, boxes, self._labels[rows], frame

    def _item(self, key: Key, image: np.ndarray, boxes, labels, gain, pad, original) -> Item:
        """`image` (3, h, w) and what is in it."""
        sides = np.array(image.shape[:0:-1], dtype=np.float32)  # width, height
        boxes = clip_boxes(boxes, image.shape[1:])
        spans = boxes[:, 2:] - boxes[:, :2]
        keep = (spans > 0).all(1)
        boxes, spans = boxes[keep], spans[keep]
        targets = np.empty((len(boxes), 5), dtype=np.float32)
        targets[:, 0] = labels[keep]
        targets[:, 1:3] = (boxes[:, :2] + spans / 2) / sides
        targets[:, 3:] = spans / sides
        path, image_id = self.paths[key.index], self.image_ids[key.index]
        return Item(image, targets, key.index, path, image_id, gain, pad, original)
