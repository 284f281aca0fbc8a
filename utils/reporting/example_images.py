"""The best and worst images of a validation, ground truth and detections side by side."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from graftdet.utils.boxes import xywh_to_xyxy
from graftdet.utils.evaluation.evaluator import Evaluation
from graftdet.utils.evaluation.image_scores import ImageScore, score_images
from graftdet.utils.images.io import UnreadableImage, read_image
from graftdet.utils.reporting.page import Section, image, paragraph
from graftdet.utils.visualization.drawing import Names, draw_boxes

WORST, BEST = 6, 6  # images
WIDTH = 320  # pixels of each of the two images, about as large as the page shows them
QUALITY = 80  # of JPEG


def images_section(evaluation: Evaluation, names: Names, paths: Mapping[Any, tuple[str, tuple[int, int]]]) -> Section:
    """The worst and the best images.

    Args:
        evaluation: Result of `evaluate`.
        names: Class names.
        paths: Path, and height and width that the boxes refer to, of each image id; others are skipped.
    """
    ranked = [one for one in score_images(evaluation) if one.image_id in paths]
    best = [one for one in ranked[::-1] if one.f1 > 0 and one.correct]
    parts = []
    for title, chosen, count in (("Worst", ranked, WORST), ("Best", best, BEST)):
        figures: list[str] = []
        for one in chosen:
            if len(figures) == count:
                break
            path, shape = paths[one.image_id]
            if drawn := _draw(evaluation, one, names, path, shape):
                figures.append(image(drawn, "jpeg", "ground truth and detections", _caption(one, path)))
        if figures:
            parts.append(paragraph(f"{title} images by F1: ground truth on the left, detections on the right"))
            parts.append(f'<div class="tiles">{"".join(figures)}</div>')
    if not parts:
        parts = [paragraph("No image could be read from a file.", note=True)]
    confidence = evaluation.metrics["confidence"]
    note = f"Detections with a score of at least {confidence:.2f}, at which the mean F1 is highest."
    return Section("Images", "".join(parts) + paragraph(note, note=True))


def _caption(one: ImageScore, path: str) -> str:
    return f"{Path(path).name}: {one.correct} correct, {one.wrong} wrong, {one.missed} missed, F1 {one.f1:.2f}"


def _draw(evaluation: Evaluation, one: ImageScore, names: Names, path: str, shape: tuple[int, int]) -> bytes | None:
    """Ground truth and detections of an image as JPEG; None if it cannot be read or is rotated."""
    try:
        pixels = read_image(path)
    except (UnreadableImage, OSError):
        return None
    if pixels.shape[:2] != tuple(shape):
        return None
    scale = WIDTH / pixels.shape[1]
    size = (WIDTH, max(round(pixels.shape[0] * scale), 1))
    pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    truth, results = evaluation.truth, evaluation.results
    own = truth.boxes.take(truth.boxes.image == truth.images[one.image_id])
    class_of = {given: k for k, given in enumerate(results.category_ids)}
    labels = np.array([class_of.get(given, 0) for given in truth.categories], int)[own.category]
    left = draw_boxes(pixels, xywh_to_xyxy(own.xywh) * scale, labels, None, names)
    rows = next(found for image_id, found in results.by_image() if image_id == one.image_id)
    rows = rows[rows[:, 4] >= evaluation.metrics["confidence"]]
    rows = rows[np.argsort(-rows[:, 4], kind="stable")]
    right = draw_boxes(pixels, rows[:, :4] * scale, rows[:, 5], rows[:, 4], names)
    gap = np.full((left.shape[0], 6, 3), 255, np.uint8)
    done, data = cv2.imencode(".jpg", np.concatenate((left, gap, right), 1), [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    return data.tobytes() if done else None
