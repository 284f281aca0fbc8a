"""A dataset whose images are drawn in the loader's workers, and the choice of the dataset class for a split."""

from typing import Any

import numpy as np

from graftdet.data.dataset import DetectionDataset, ItemKey
from graftdet.data.formats.dataset_split import Split
from graftdet.utils.boxes import xywh_to_xyxy
from graftdet.utils.errors import UserError
from graftdet.utils.images.letterbox import resize


class SyntheticDataset(DetectionDataset):
    """Images of `split.drawing`. With `augment`, every epoch has new images; without, those of `split.samples`.

    Args:
        split: a split with a `drawing`.
        size: longest side of an image, in pixels.
        *args, cache, **options: those of `DetectionDataset`; nothing is cached.
    """

    def __init__(self, split: Split, size: int = 640, *args: Any, cache: str = "none", **options: Any):
        super().__init__(split, size, *args, cache="none", **options)
        if split.drawing is None:
            raise ValueError("SyntheticDataset: expected a split whose images are drawn")
        self.drawing = split.drawing
        self._sample_sizes = self.image_sizes
        if self.augment and self.drawing.new_every_epoch:
            count = self.drawing.count
            self.paths = [f"{split.name}_{index:06d}.jpg" for index in range(count)]
            self.image_ids = list(range(count))
            self.image_sizes = np.full((count, 2), self.drawing.side, np.float32)

    def annotations(self) -> tuple[list[np.ndarray], list[np.ndarray], np.ndarray]:
        """Return (boxes, labels, image sizes) of a sample of images, as `DetectionDataset.annotations`."""
        return self.boxes, self._per_image(self._labels), self._sample_sizes

    @property
    def labels(self) -> list[np.ndarray]:
        """Class indices (n,) of each image.

        Raises:
            UserError: if there are new images in every epoch.
        """
        if self.augment and self.drawing.new_every_epoch:
            raise UserError("--image-weights: the images of a drawn dataset are new in every epoch; omit this flag")
        return super().labels

    def _load(self, key: ItemKey) -> tuple[np.ndarray, np.ndarray, np.ndarray, tuple[int, int]]:
        drawn = self.drawing.draw(key.index, key.epoch if self.augment else 0)
        height, width = drawn.image.shape[:2]
        image = resize(drawn.image, self.size / max(height, width))
        boxes = xywh_to_xyxy(np.array(drawn.boxes, np.float32).reshape(-1, 4))
        boxes *= np.array([image.shape[1] / width, image.shape[0] / height] * 2, np.float32)
        return image, boxes, np.array(drawn.labels, np.int64), (height, width)

    def read_original(self, index: int) -> np.ndarray:
        """Return the image (H, W, 3) BGR uint8 as drawn."""
        return self.drawing.draw(index, 0).image


def open_dataset(split: Split, *args: Any, **options: Any) -> DetectionDataset:
    """Return the dataset of a split, from files or drawn. The arguments are those of `DetectionDataset`."""
    dataset_class = DetectionDataset if split.drawing is None else SyntheticDataset
    return dataset_class(split, *args, **options)
