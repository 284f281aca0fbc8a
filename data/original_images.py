"""Batches of images in their own sizes, for validation that resizes them itself."""

import logging
from collections.abc import Iterator
from typing import Any

from graftdet.data.dataset import DetectionDataset, UnreadableItem
from graftdet.data.exif import loaded_size
from graftdet.utils.images.io import UnreadableImage
from graftdet.utils.text import counted

logger = logging.getLogger(__name__)


class OriginalImages:
    """Iterates over the images of a dataset in order, as they are read; unreadable ones are skipped and recorded.

    A batch is a dict of lists: "images" (H, W, 3) BGR uint8, "image_ids", and "shapes", the (height, width) that the
    boxes of each image refer to.

    Args:
        dataset: the images.
        batch_size: images per batch; each is divided into many windows.

    Raises:
        UserError: while iterating, if more than half of the images cannot be read.
    """

    def __init__(self, dataset: DetectionDataset, batch_size: int = 4):
        self.dataset, self.batch_size = dataset, batch_size

    def __len__(self) -> int:
        return -(-len(self.dataset) // self.batch_size)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for start in range(0, len(self.dataset), self.batch_size):
            batch: dict[str, Any] = {"images": [], "image_ids": [], "shapes": []}
            for index in range(start, min(start + self.batch_size, len(self.dataset))):
                self._append(batch, index)
            if batch["images"]:
                yield batch
        if self.dataset.unreadable:
            index, reason = next(iter(self.dataset.unreadable.items()))
            logger.warning(
                f"{self.dataset.label}: {len(self.dataset.unreadable)} of {counted(len(self.dataset), 'image')} "
                f"cannot be read, skipped ({self.dataset.paths[index]}: {reason})"
            )

    def _append(self, batch: dict[str, Any], index: int) -> None:
        dataset = self.dataset
        try:
            image = dataset.read_original(index)
        except UnreadableImage as error:
            dataset.record_unreadable([UnreadableItem(index, dataset.paths[index], error.reason)])
            return
        batch["images"].append(image)
        batch["image_ids"].append(dataset.image_ids[index])
        batch["shapes"].append(loaded_size(dataset.image_sizes[index], image.shape[:2]))
