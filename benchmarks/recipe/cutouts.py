"""Images of one class, put together from photographs: outlines of its objects, pasted into other photographs."""

from pathlib import Path

import cv2
import numpy as np

from graftdet.utils.errors import UserError
from graftdet.utils.images.io import read_image, write_image

SIDE = 320  # pixels
_MIN_AREA = 3000  # pixels of a segment in its photograph; smaller ones are not used


def paste_cutouts(document: dict, images: Path, out: Path, *, name: str, count: int, seed: int) -> dict:
    """Write images of objects of one class on photographs without that class.

    Each image has one to four objects at 12 to 60 percent of its side, half of them mirrored, with brightness and
    contrast changed. Objects may cover each other by at most a third.

    Args:
        document: COCO-format document with polygons.
        images: Folder of its images.
        out: Folder for the new images.
        name: Name of the class.
        count: Number of images.
        seed: Another seed gives other images.

    Returns:
        COCO-format document of the new images; boxes are tight around the visible pixels.

    Raises:
        UserError: If the document has no outline of the class, or the class is in every image.
    """
    category_ids = {category["id"] for category in document["categories"] if category["name"] == name}
    of_class = [box for box in document["annotations"] if box["category_id"] in category_ids]
    with_class = {box["image_id"] for box in of_class}
    files = {image["id"]: images / image["file_name"] for image in document["images"]}
    cutouts = [
        _cut(read_image(files[box["image_id"]]), box["segmentation"])
        for box in of_class
        if not box.get("iscrowd") and box["area"] >= _MIN_AREA
    ]
    backgrounds = [_square(read_image(file)) for image_id, file in files.items() if image_id not in with_class]
    if not cutouts or not backgrounds:
        raise UserError(f"--name: class '{name}' needs outlines of {_MIN_AREA} pixels and images without the class")
    new: dict = {"images": [], "annotations": [], "categories": [{"id": 1, "name": name}]}
    for image_id, image_seed in enumerate(np.random.SeedSequence(seed).spawn(count), 1):
        image, boxes = _compose(cutouts, backgrounds, np.random.default_rng(image_seed))
        file_name = f"{image_id:06d}.jpg"
        write_image(out / file_name, image)
        new["images"].append({"id": image_id, "file_name": file_name, "width": SIDE, "height": SIDE})
        for x, y, width, height in boxes:
            new["annotations"].append(
                {
                    "id": len(new["annotations"]) + 1,
                    "image_id": image_id,
                    "category_id": 1,
                    "bbox": [x, y, width, height],
                    "area": width * height,
                    "iscrowd": 0,
                }
            )
    return new


def _cut(image: np.ndarray, polygons: list[list[float]]) -> np.ndarray:
    """Return the object as (height, width, 4) uint8: its pixels and its mask."""
    mask = np.zeros(image.shape[:2], np.uint8)
    points = [np.round(np.reshape(polygon, (-1, 2))).astype(np.int32) for polygon in polygons]
    cv2.fillPoly(mask, points, 255, cv2.LINE_AA)
    x, y, width, height = cv2.boundingRect(mask)
    return np.dstack([image, mask])[y : y + height, x : x + width]


def _square(image: np.ndarray) -> np.ndarray:
    """Return the center of an image as a square of SIDE pixels."""
    side = min(image.shape[:2])
    top, left = (image.shape[0] - side) // 2, (image.shape[1] - side) // 2
    return cv2.resize(image[top : top + side, left : left + side], (SIDE, SIDE), interpolation=cv2.INTER_AREA)


def _compose(
    cutouts: list[np.ndarray], backgrounds: list[np.ndarray], rng: np.random.Generator
) -> tuple[np.ndarray, list[list[int]]]:
    """Return an image (SIDE, SIDE, 3) uint8 BGR and its boxes as xywh in pixels."""
    image = backgrounds[rng.integers(len(backgrounds))].astype(np.float32)
    owner = np.full((SIDE, SIDE), -1, np.int16)
    areas: list[int] = []
    for _ in range(rng.integers(1, 5)):
        cutout = cutouts[rng.integers(len(cutouts))]
        scale = SIDE * rng.uniform(0.12, 0.6) / max(cutout.shape[:2])
        cutout = cv2.resize(cutout, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        if rng.random() < 0.5:
            cutout = cutout[:, ::-1]
        height, width = cutout.shape[:2]
        y, x = (int(rng.integers(SIDE - length + 1)) for length in (height, width))
        window = np.s_[y : y + height, x : x + width]
        covered = owner.copy()
        covered[window][cutout[..., 3] > 127] = len(areas)
        visible = [int((covered == index).sum()) for index in range(len(areas) + 1)]
        if any(now < 0.67 * area for now, area in zip(visible, areas, strict=False)) or visible[-1] < 30:
            continue
        owner = covered
        areas.append(visible[-1])
        alpha = cutout[..., 3:].astype(np.float32) / 255
        pixels = cutout[..., :3] * rng.uniform(0.8, 1.2) + rng.uniform(-20, 20)
        image[window] += alpha * (pixels - image[window])
    boxes = [[int(v) for v in cv2.boundingRect((owner == index).astype(np.uint8))] for index in range(len(areas))]
    return np.clip(image, 0, 255).astype(np.uint8), boxes
