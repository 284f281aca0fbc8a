"""A sheet of images with their boxes, for `python -m data draw`."""

import math
from pathlib import Path

import cv2
import numpy as np

from graftdet.data.dataset_config import DataConfig, open_split
from graftdet.data.formats.dataset_split import Split
from graftdet.utils.boxes import xywh_to_xyxy
from graftdet.utils.errors import UserError
from graftdet.utils.images.io import UnreadableImage, read_image, write_image
from graftdet.utils.images.letterbox import resize
from graftdet.utils.visualization.drawing import draw_boxes, image_grid

CELL = 480  # longest side of an image on the sheet, in pixels


def draw_sheet(config: DataConfig, output: str | Path, split: str = "train", count: int = 16, seed: int = 0) -> Path:
    """Write an image that shows images of a split with boxes and class names.

    Args:
        config: the data YAML.
        output: the file to write; its suffix selects the format.
        split: train, val or test.
        count: number of images; all, if the split has fewer.
        seed: another seed selects other images.

    Returns:
        `output`.

    Raises:
        UserError: for a count or seed out of range, or if the split cannot be opened or the file cannot be written.
    """
    if count < 1:
        raise UserError(f"--count: expected at least 1 image, got {count}")
    if seed < 0:
        raise UserError(f"--seed: expected a number of at least 0, got {seed}")
    opened = open_split(config, split)
    total = opened.drawing.count if opened.drawing else len(opened)
    indices = np.random.default_rng(seed).choice(total, min(count, total), replace=False)
    images = [_draw_image(opened, int(index)) for index in indices]
    write_image(output, image_grid(images, math.ceil(math.sqrt(len(images)))))
    return Path(output)


def _draw_image(split: Split, index: int) -> np.ndarray:
    """One image with its boxes, at most `CELL` pixels wide and high; gray if it cannot be read."""
    if split.drawing:
        image, labels, xywh, _ = split.drawing.draw(index)
        boxes = xywh_to_xyxy(np.array(xywh, np.float32).reshape(-1, 4))
    else:
        sample = split.samples[index]
        boxes, labels = sample.boxes, sample.labels.tolist()
        try:
            image = read_image(sample.path, sample.apply_exif, split.depth)
        except UnreadableImage:
            return np.full((CELL, CELL, 3), 128, np.uint8)
    scale = CELL / max(image.shape[:2])
    image = resize(image, scale) if scale < 1 else cv2.resize(image, None, fx=scale, fy=scale)
    return draw_boxes(image, boxes * scale, labels, names=split.names)
