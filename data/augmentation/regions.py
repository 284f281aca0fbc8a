"""Augmentation that moves regions between images; needs boxes, no masks. NumPy and OpenCV, no torch.

Images are (h, w, 3) BGR uint8, boxes (n, 4) float32 xyxy in pixels, labels (n,). No function changes its arguments.
"""

import cv2
import numpy as np

from graftdet.data.augmentation.transforms import Tile, clip_boxes, remaining_boxes
from graftdet.utils.boxes import box_area

MAX_TRIES = 20  # of a position or of a crop
_MIN_VISIBLE = 0.5  # fraction of a box that must remain visible
_CONTEXT = 0.1  # of each side of a copied box, blended into its surroundings
_MAX_COPIES = 5


def cutmix(tile: Tile, other: Tile, rng: np.random.Generator) -> Tile:
    """Replace a rectangle of an image by the same rectangle of another one, with its boxes.

    Source: Yun et al. 2019, "CutMix" (arXiv:1905.04899), section 3; boxes take the place of mixed labels. The area
    of the rectangle is uniform from 0 to 1 of the image, its center is uniform in the image.

    Args:
        tile: The image that remains outside of the rectangle.
        other: An image of the same shape.
        rng: The random generator.

    Returns:
        The mixed image with the boxes of which at least half is visible; those of the other image are clipped to the
        rectangle.
    """
    (image, boxes, labels), (other_image, other_boxes, other_labels) = tile, other
    height, width = image.shape[:2]
    half = np.sqrt(rng.random()) / 2 * np.array([width, height])
    center = rng.random(2) * (width, height)
    x1, y1, x2, y2 = np.rint(clip_boxes(np.array([*(center - half), *(center + half)]), (height, width))).astype(int)
    mixed = image.copy()
    mixed[y1:y2, x1:x2] = other_image[y1:y2, x1:x2]
    window = np.array([x1, y1, x2, y2], np.float32)
    outside = _covered(boxes, window) < 1 - _MIN_VISIBLE
    inside_boxes = _clip_to(other_boxes, window)
    inside = remaining_boxes(other_boxes, inside_boxes, min_area=_MIN_VISIBLE)
    return (
        mixed,
        np.concatenate((boxes[outside], inside_boxes[inside])),
        np.concatenate((labels[outside], other_labels[inside])),
    )


def copy_blend(tile: Tile, other: Tile, rng: np.random.Generator) -> Tile:
    """Copy up to five objects of another image, with a margin that fades into the new surroundings.

    Source: Huang et al. 2025, "DEIMv2" (arXiv:2509.20787), Copy-Blend: copy-paste by boxes instead of masks. Each copy
    is placed at random where it covers no object by more than half.

    Args:
        tile: The image that receives the objects.
        other: The image whose objects are copied.
        rng: The random generator.

    Returns:
        The image with the boxes of both; a copy for which there is no place is left out.
    """
    (image, boxes, labels), (other_image, other_boxes, other_labels) = tile, other
    image, hidden = image.copy(), np.zeros(len(boxes))
    chosen = rng.permutation(len(other_boxes))[: rng.integers(1, _MAX_COPIES + 1)]
    for index in chosen:
        x1, y1, x2, y2 = np.rint(clip_boxes(_grown(other_boxes[index]), other_image.shape[:2])).astype(int)
        width, height = x2 - x1, y2 - y1
        if width < 4 or height < 4 or width > image.shape[1] or height > image.shape[0]:
            continue
        for _ in range(MAX_TRIES):
            left, top = (int(rng.integers(side + 1)) for side in (image.shape[1] - width, image.shape[0] - height))
            copy = np.array([left, top, left + width, top + height], np.float32)
            total = hidden + _covered(boxes, copy)
            if (total <= 1 - _MIN_VISIBLE).all():
                break
        else:
            continue
        window = image[top : top + height, left : left + width]
        alpha = _fading(height, width)
        window[:] = np.rint(alpha * other_image[y1:y2, x1:x2] + (1 - alpha) * window)
        box = other_boxes[index] + np.array([left - x1, top - y1] * 2, np.float32)
        boxes = np.concatenate((boxes, clip_boxes(box[None], image.shape[:2])))
        labels, hidden = np.append(labels, other_labels[index]), np.append(total, 0)
    return image, boxes, labels


def random_crop(tile: Tile, rng: np.random.Generator, min_side: float = 0.3) -> Tile:
    """Cut a random part out of an image, around at least one object: objects get larger at the same input size.

    Source: Liu et al. 2016, "SSD" (arXiv:1512.02325), section 2.2: sides from 0.3 to 1 of the image, aspect ratio from
    1/2 to 2, boxes remain if their center is in the crop. Here, in addition, a crop that cuts away more than half of
    such a box is drawn again, so that no box shows a fragment.

    Args:
        tile: The image. Without boxes it is returned as it is.
        rng: The random generator.
        min_side: Smallest side of the crop, as a fraction of the side of the image.

    Returns:
        The crop; the whole image if no crop was found in twenty tries.
    """
    image, boxes, labels = tile
    height, width = image.shape[:2]
    for _ in range(MAX_TRIES if len(boxes) else 0):
        w, h = (int(side * rng.uniform(min_side, 1)) for side in (width, height))
        if not 0.5 <= w / max(h, 1) <= 2:
            continue
        x, y = int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1))
        centers = (boxes[:, :2] + boxes[:, 2:]) / 2
        inside = ((centers > (x, y)) & (centers < (x + w, y + h))).all(1)
        crop = np.array([x, y, x + w, y + h], np.float32)
        if inside.any() and (_covered(boxes[inside], crop) >= _MIN_VISIBLE).all():
            cropped = _clip_to(boxes[inside], crop) - np.tile(crop[:2], 2)
            return image[y : y + h, x : x + w], cropped, labels[inside]
    return tile


def _covered(boxes: np.ndarray, window: np.ndarray) -> np.ndarray:
    """Fraction (n,) of the area of boxes (n, 4) that lies in a box (4,)."""
    return box_area(_clip_to(boxes, window)) / np.maximum(box_area(boxes), 1e-9)


def _grown(box: np.ndarray) -> np.ndarray:
    margin = _CONTEXT * (box[2:] - box[:2])
    return np.concatenate((box[:2] - margin, box[2:] + margin))


def _clip_to(boxes: np.ndarray, window: np.ndarray) -> np.ndarray:
    """Clip boxes (n, 4) to a box (4,)."""
    low, high = np.tile(window[:2], 2), np.tile(window[2:], 2)
    return np.clip(boxes, low, high).astype(np.float32)


def _fading(height: int, width: int) -> np.ndarray:
    """Weights (h, w, 1) float32 of a copy: 1 inside, down to 0 at its border."""
    rows, columns = (
        np.minimum(1, (0.5 + np.minimum(np.arange(n), np.arange(n)[::-1])) / max(_CONTEXT * n, 1)).astype(np.float32)
        for n in (height, width)
    )
    return cv2.GaussianBlur(np.outer(rows, columns), (0, 0), 1)[..., None]
