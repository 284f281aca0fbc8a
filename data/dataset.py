"""Images and boxes of a split, prepared for the network. NumPy in, NumPy out; `graftdet.data.loader` makes batches."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeVar

import numpy as np

from graftdet.data.augmentation.canvas import Canvas
from graftdet.data.augmentation.degradation import blur, jpeg, noise
from graftdet.data.augmentation.mosaic import draw_center, mosaic
from graftdet.data.augmentation.regions import copy_blend, cutmix, random_crop
from graftdet.data.augmentation.transforms import Tile, clip_boxes, draw_hsv_gains, hsv_jitter, jitter, mixup
from graftdet.data.caching.image_cache import check_readable, open_image_store
from graftdet.data.exif import loaded_size
from graftdet.data.formats.dataset_split import Split
from graftdet.data.formats.sample_table import SampleTable
from graftdet.utils.errors import UserError
from graftdet.utils.hyperparameters import Hyperparameters
from graftdet.utils.images.io import UnreadableImage
from graftdet.utils.images.letterbox import letterbox, pad_to, to_chw

MAX_DRAWS = 64  # of a readable image; at most half of the images are unreadable, or training ends

Result = TypeVar("Result")


class ItemKey(NamedTuple):
    """What to load from a dataset. An item depends on its key and the seed of the dataset alone."""

    epoch: int
    index: int  # type: ignore[assignment]  # also a method of tuples
    size: int  # longest side of the image, or side of the mosaic, in pixels
    mosaic: bool = False
    shape: tuple[int, int] | None = None  # (h, w) of the result; None: (size, size)

    @property
    def output_shape(self) -> tuple[int, int]:
        """(h, w) of the result."""
        return self.shape or (self.size, self.size)


@dataclass(slots=True)
class Item:
    """One image of a batch with its targets.

    Without augmentation, x' = x * gain + pad maps the boxes of the source to `image`; augmented items cannot be mapped
    back.
    """

    image: np.ndarray  # (3, h, w) uint8 RGB, in a batch a view of an array (h, w, 3)
    targets: np.ndarray  # (m, 5) float32: class, cx, cy, w, h, normalized by the sides of `image`
    index: int
    path: str
    image_id: int | str
    gain: float
    pad: tuple[float, float]  # left, top
    shape: tuple[int, int]  # (h, w) that the boxes of the source refer to: almost always the image as read
    replaced: "UnreadableItem | None" = None  # the requested image, if it cannot be read and this item replaces it
    hsv_gains: np.ndarray | None = None  # (3,): color jitter still to be applied, by the training device


@dataclass(slots=True)
class UnreadableItem:
    """An image that cannot be read. The loader counts it, and skips it if nothing replaces it."""

    index: int
    path: str
    reason: str


class DetectionDataset:
    """`dataset[ItemKey(...)]` -> `Item` or `UnreadableItem`. Random draws depend on (seed, epoch, index) alone.

    With `augment`, an unreadable image is replaced by another one, drawn at random, so that processes that train
    together have batches of equal length. Without, it is an `UnreadableItem`. Crowd boxes are excluded.

    Args:
        split: a validated split.
        size: longest side of an image, in pixels.
        recipe: strengths of the augmentation; required with `augment`.
        augment: apply random augmentation.
        rect: make rectangular batches of similar aspect ratio instead of square ones (see `graftdet.data.sampler`);
            excludes mosaic.
        stride: largest stride of the model; shapes of rectangular batches are multiples of it.
        cache: 'auto', 'ram', 'disk' or 'none' (see `graftdet.data.caching.image_cache`); filled here.
        seed: seed of the augmentation.
        label: name of the split in messages.
        defer_hsv: draw the color jitter, but leave it to the training device
            (`graftdet.utils.training.acceleration.color_jitter`).

    Raises:
        UserError: if there is no image, or more than half are found to be unreadable.
    """

    def __init__(
        self,
        split: Split,
        size: int = 640,
        recipe: Hyperparameters | None = None,
        *,
        augment: bool = False,
        rect: bool = False,
        stride: int = 32,
        cache: str = "none",
        seed: int = 0,
        label: str = "images",
        defer_hsv: bool = False,
    ):
        samples = SampleTable.from_samples(split.samples)
        if not len(samples):
            raise UserError(f"{label}: no images")
        self.size, self.stride, self.rect, self.seed = int(size), int(stride), rect, abs(int(seed))
        self.augment, self.recipe, self.label = augment, recipe, label
        self.epochs: int | None = None  # length of the run, on which the strength of the augmentation may depend
        self.defer_hsv = defer_hsv and augment and (recipe.hsv_h or recipe.hsv_s or recipe.hsv_v) > 0
        self.paths, self.image_ids = samples.paths, samples.image_ids
        self.image_sizes = np.stack((samples.heights, samples.widths), 1).astype(np.float32)  # (n, 2) h, w
        is_object = ~samples.crowd
        # flat arrays instead of thousands of small ones: cheap to send to spawned workers
        self._offsets = np.concatenate(([0], np.cumsum(is_object)))[samples.offsets]
        self._boxes = samples.boxes[is_object].astype(np.float32)
        self._labels = samples.labels[is_object]
        longest = np.maximum(self.image_sizes.max(1), 1)
        total_bytes = int((self.image_sizes.prod(1) * (self.size / longest) ** 2).sum() * 3)
        self.images = open_image_store(
            cache, self.paths, samples.apply_exif, self.size, total_bytes, self.image_sizes, split.depth
        )
        self.images.fill(label)

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def boxes(self) -> list[np.ndarray]:
        """Boxes (n, 4) float32 xyxy of each image, in pixels of its `image_sizes`, without crowds."""
        return self._per_image(self._boxes)

    @property
    def labels(self) -> list[np.ndarray]:
        """Class indices (n,) of each image, without crowds."""
        return self._per_image(self._labels)

    def annotations(self) -> tuple[list[np.ndarray], list[np.ndarray], np.ndarray]:
        """Return (`boxes`, `labels`, `image_sizes`) for statistics."""
        return self.boxes, self.labels, self.image_sizes

    def _per_image(self, values: np.ndarray) -> list[np.ndarray]:
        """The rows of each image of an array with one row per box."""
        return [values[start:end] for start, end in zip(self._offsets[:-1], self._offsets[1:], strict=True)]

    @property
    def unreadable(self) -> dict[int, str]:
        """Index of an unreadable image -> reason, as far as known."""
        return self.images.errors

    def record_unreadable(self, items: list[UnreadableItem]) -> None:
        """Record images that workers could not read.

        Raises:
            UserError: if more than half of the images are unreadable.
        """
        for item in items:
            self.images.errors.setdefault(item.index, item.reason)
        check_readable(self.paths, self.images.errors)

    def __getitem__(self, key: ItemKey) -> Item | UnreadableItem:
        return self._load_item(key, np.empty((3, *key.output_shape), dtype=np.uint8))

    def __getitems__(self, keys: list[ItemKey]) -> list[Item | UnreadableItem]:
        """Load a batch. All keys have one shape; the images are written into one array (B, h, w, 3) without a copy."""
        images = np.empty((len(keys), *keys[0].output_shape, 3), dtype=np.uint8)
        return [self._load_item(key, out.transpose(2, 0, 1)) for key, out in zip(keys, images, strict=True)]

    def _load_item(self, key: ItemKey, out: np.ndarray) -> Item | UnreadableItem:
        """The item of `key`, its image written into `out` (3, h, w)."""
        rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence((self.seed, key.epoch, key.index))))
        try:
            return self._augmented_item(key, rng, out) if self.augment else self._plain_item(key, out)
        except UnreadableImage as error:
            unreadable = UnreadableItem(key.index, self.paths[key.index], error.reason)
        if not self.augment:
            return unreadable
        item = self._draw_readable(rng, lambda index: self._augmented_item(key._replace(index=index), rng, out))
        return replace(item, replaced=unreadable) if item else unreadable

    def _plain_item(self, key: ItemKey, out: np.ndarray) -> Item:
        image, boxes, labels, original = self._load(key)
        gain, shape = key.size / max(original), key.output_shape
        height, width = image.shape[:2]
        if key.size != self.size or height > shape[0] or width > shape[1]:
            image, scale, pad = letterbox(image, shape)
            gain = scale * self.size / max(original)
            boxes = boxes * np.float32(scale)
        else:
            image, pad = pad_to(image, shape)
        boxes = boxes + np.array([*pad, *pad], dtype=np.float32)
        return self._make_item(key, to_chw(image, out), boxes, labels, gain, pad, original)

    def _augmented_item(self, key: ItemKey, rng: np.random.Generator, out: np.ndarray) -> Item:
        recipe = self._recipe_of(key.epoch)
        height, width = self.image_sizes[key.index].tolist()
        if key.mosaic and not self.rect and rng.random() < recipe.mosaic:
            tile = self._mosaic(key, rng)
            if rng.random() < recipe.mixup:
                tile = self._mixed(mixup, tile, lambda index: self._mosaic(key._replace(index=index), rng), rng)
        else:
            tile = self._single(key, rng)
        for mix, probability in ((cutmix, recipe.cutmix), (copy_blend, recipe.copy_blend)):
            if key.mosaic and probability and rng.random() < probability:
                tile = self._mixed(mix, tile, lambda index: self._single(key._replace(index=index), rng), rng)
        image, boxes, labels = tile
        for degrade, probability in ((blur, recipe.blur), (noise, recipe.noise), (jpeg, recipe.jpeg)):
            if probability and rng.random() < probability:
                image = degrade(image, rng)
        gains = draw_hsv_gains(rng, recipe)
        image = to_chw(image, out) if self.defer_hsv else hsv_jitter(image, gains, out)
        item = self._make_item(key, image, boxes, labels, 1.0, (0.0, 0.0), (int(height), int(width)))
        item.hsv_gains = gains if self.defer_hsv else None
        return item

    def _recipe_of(self, epoch: int) -> Hyperparameters:
        """The recipe with the strength of the augmentation in an epoch, from 0."""
        if not self.epochs or not self.recipe.late_augmentation:
            return self.recipe
        return self.recipe.at((epoch + 1) / self.epochs)

    def _single(self, key: ItemKey, rng: np.random.Generator) -> Tile:
        """The image of `key`, perhaps a crop of it, jittered."""
        tile, zoom = self._load(key)[:3], key.size / self.size
        recipe = self._recipe_of(key.epoch)
        if recipe.box_crop and rng.random() < recipe.box_crop:
            side = max(tile[0].shape[:2])
            tile = random_crop(tile, rng)
            zoom *= side / max(tile[0].shape[:2])
        return jitter(Canvas.from_image(*tile), rng, recipe, key.output_shape, zoom)

    def _mixed(
        self,
        mix: Callable[[Tile, Tile, np.random.Generator], Tile],
        tile: Tile,
        load: Callable[[int], Tile],
        rng: np.random.Generator,
    ) -> Tile:
        """`tile` mixed with another one, `load(index)` of a random index."""
        other = self._draw_readable(rng, load)
        return mix(tile, other, rng) if other else tile

    def _mosaic(self, key: ItemKey, rng: np.random.Generator) -> Tile:
        """Mosaic of the image of `key` and three random ones of its epoch, jittered: (image, boxes xyxy, labels)."""
        center = draw_center(rng, self.size)
        tiles = [self._load(key)[:3]]
        for _ in range(3):
            tiles.append(self._draw_readable(rng, lambda other: self._load(key._replace(index=other))[:3]))
        order = rng.permutation(4)
        canvas = mosaic([tiles[quarter] for quarter in order], self.size, center)
        return jitter(canvas, rng, self._recipe_of(key.epoch), key.output_shape, key.size / self.size)

    def _draw_readable(self, rng: np.random.Generator, make: Callable[[int], Result]) -> Result | None:
        """`make(index)` for a random index; drawn again if unreadable, which is the same in every process."""
        for _ in range(MAX_DRAWS):
            try:
                return make(int(rng.integers(len(self))))
            except UnreadableImage:
                continue
        return None

    def read_original(self, index: int) -> np.ndarray:
        """Return an image (H, W, 3) BGR uint8 in its own size. Raises `UnreadableImage`."""
        return self.images.read_original(index)

    def _load(self, key: ItemKey) -> tuple[np.ndarray, np.ndarray, np.ndarray, tuple[int, int]]:
        """(image with longest side `self.size`, may be read-only, boxes xyxy on it, labels, (h, w) of source boxes)."""
        index = key.index
        image, original = self.images.read(index)
        rows = slice(self._offsets[index], self._offsets[index + 1])
        size = loaded_size(self.image_sizes[index], original)
        scale_x, scale_y = image.shape[1] / size[1], image.shape[0] / size[0]
        boxes = self._boxes[rows] * np.array([scale_x, scale_y, scale_x, scale_y], dtype=np.float32)
        return image, boxes, self._labels[rows], size

    def _make_item(
        self,
        key: ItemKey,
        image: np.ndarray,
        boxes: np.ndarray,
        labels: np.ndarray,
        gain: float,
        pad: tuple[float, float],
        original: tuple[int, int],
    ) -> Item:
        """The item of an image (3, h, w) with boxes (n, 4) xyxy in its pixels; boxes outside are dropped."""
        sides = np.array(image.shape[:0:-1], dtype=np.float32)  # width, height
        boxes = clip_boxes(boxes, image.shape[1:])
        box_sizes = boxes[:, 2:] - boxes[:, :2]
        visible = (box_sizes > 0).all(1)
        boxes, box_sizes = boxes[visible], box_sizes[visible]
        targets = np.empty((len(boxes), 5), dtype=np.float32)
        targets[:, 0] = labels[visible]
        targets[:, 1:3] = (boxes[:, :2] + box_sizes / 2) / sides
        targets[:, 3:] = box_sizes / sides
        return Item(image, targets, key.index, self.paths[key.index], self.image_ids[key.index], gain, pad, original)
