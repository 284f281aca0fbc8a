"""Images of batches with boxes, class names and file names."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from graftdet.utils.boxes import cxcywh_to_xyxy, is_tensor, xyxy_to_cxcywh
from graftdet.utils.images.io import write_image
from graftdet.utils.visualization.drawing import Names, draw_boxes, image_grid, put_text, shorten, text_box

CAPTION_SCALE, CAPTION_HEIGHT = 0.45, 22  # font scale, and pixels above each image
DRAWN_SCORE = 0.25  # minimum score of the detections that are drawn


class ValidationImages:
    """Remembers the first batches of a validation and draws them with file names.

    Args:
        count: Number of batches.

    Attributes:
        paths: Path, and height and width that the boxes refer to, of each image by its id; of all batches.
    """

    def __init__(self, count: int = 3):
        self.count = count
        self.paths: dict[Any, tuple[str, tuple[int, int]]] = {}
        self._batches: dict[int, tuple[dict[str, Any], Sequence[np.ndarray]]] = {}

    def __call__(self, number: int, batch: dict[str, Any], detections: Sequence[np.ndarray]) -> None:
        """Remember a batch if it is one of the first.

        Args:
            number: The number of the batch, from 0.
            batch: A batch of `graftdet.data.loader`.
            detections: (n, 6) of each image: x1, y1, x2, y2 in pixels of the original image, score, class index.
        """
        self.paths.update(zip(batch["image_ids"], zip(batch["paths"], batch["shapes"], strict=True), strict=True))
        if number < self.count:
            self._batches[number] = batch, detections

    def write(self, folder: str | Path, names: Names) -> None:
        """Write val_batch*_labels.jpg with the ground truth and val_batch*_pred.jpg with the detections."""
        for number, (batch, detections) in self._batches.items():
            files = [Path(path).name for path in batch["paths"]]
            for kind, targets in (("labels", batch["targets"]), ("pred", _as_targets(batch, detections))):
                path = Path(folder) / f"val_batch{number}_{kind}.jpg"
                plot_batch(batch["images"], targets, names, path, captions=files)


def _as_targets(batch: dict[str, Any], detections: Sequence[np.ndarray]) -> np.ndarray:
    """Detections of at least `DRAWN_SCORE` as targets (M, 7) of the letterboxed images, with scores."""
    height, width = batch["images"].shape[2:]
    rows = [np.zeros((0, 7))]
    for index, found in enumerate(detections):
        found = np.asarray(found, np.float64)
        found = found[found[:, 4] >= DRAWN_SCORE]
        corners = found[:, :4] * batch["gains"][index] + np.tile(batch["pads"][index], 2)
        boxes = xyxy_to_cxcywh(corners) / (width, height, width, height)
        rows.append(np.column_stack((np.full(len(found), index), found[:, 5], boxes, found[:, 4])))
    return np.concatenate(rows)


def plot_batch(
    images: Any,
    targets: Any,
    names: Names,
    path: str | Path,
    columns: int = 4,
    limit: int = 16,
    width: int = 1920,
    captions: Sequence[str] = (),
) -> Path:
    """Write a grid of the first images of a batch with their boxes.

    All images are resized to the width of a column before boxes are drawn, so that class names are equally large
    whatever the size of the images.

    Args:
        images: (B, 3, H, W) RGB, uint8 or float 0..1, array or tensor.
        targets: (M, 6) image, class, cx, cy, w, h normalized, or (M, 7) with a score; array or tensor.
        names: Class names.
        path: File to write.
        columns: Images per row.
        limit: Maximum number of images.
        width: Approximate width of a full row in pixels.
        captions: A text above each image; empty: none.

    Returns:
        `path`.
    """
    images, targets = to_array(images[:limit]), to_array(targets)
    cell = width // columns
    cells = []
    for index, image in enumerate(images):
        if image.dtype != np.uint8:
            image = (image.astype(np.float32) * 255).round().clip(0, 255).astype(np.uint8)
        image = np.ascontiguousarray(image.transpose(1, 2, 0)[..., ::-1])  # RGB to OpenCV's BGR
        image = resize_to_width(image, cell)
        own = targets[targets[:, 0] == index]
        best_first = np.argsort(-own[:, 6], kind="stable") if own.shape[1] > 6 else np.arange(len(own))
        own = own[best_first]
        boxes = cxcywh_to_xyxy(own[:, 2:6]) * np.tile(image.shape[1::-1], 2)
        scores = own[:, 6] if own.shape[1] > 6 else None
        drawn = draw_boxes(image, boxes, own[:, 1].astype(int), scores, names)
        cells.append(add_caption(drawn, captions[index]) if len(captions) else drawn)
    write_image(path, image_grid(cells, min(columns, len(images))))
    return Path(path)


def resize_to_width(image: np.ndarray, width: int) -> np.ndarray:
    """Return an image (H, W, 3) at that width, smaller if it would be higher than twice the width."""
    scale = min(width / image.shape[1], 2 * width / image.shape[0])
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    size = (max(round(image.shape[1] * scale), 1), max(round(image.shape[0] * scale), 1))
    return cv2.resize(image, size, interpolation=method)


def add_caption(image: np.ndarray, text: str) -> np.ndarray:
    """Return an image with a line of text above it; of a long file name the end stays, which is what differs."""
    strip = np.full((CAPTION_HEIGHT, image.shape[1], 3), 255, np.uint8)
    available = image.shape[1] - 8
    if text_box(text, CAPTION_SCALE)[0] > available:
        tail = text
        while tail and text_box(".." + tail, CAPTION_SCALE)[0] > available:
            tail = tail[1:]
        text = ".." + tail if tail else shorten(text, available, CAPTION_SCALE)
    put_text(strip, text, (4, CAPTION_HEIGHT - 7), CAPTION_SCALE, (30, 30, 30))
    return np.concatenate((strip, image))


def to_array(values: Any) -> np.ndarray:
    """Return a tensor or array as an array; bfloat16 and float16 become float32."""
    if is_tensor(values):
        values = values.detach().cpu()
        return (values.float() if values.is_floating_point() else values).numpy()
    return np.asarray(values)
