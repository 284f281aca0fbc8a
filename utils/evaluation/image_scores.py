"""How well each image of a dataset is detected."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from graftdet.utils.evaluation.coco_matching import FALSE_POSITIVE, TRUE_POSITIVE
from graftdet.utils.evaluation.evaluator import Evaluation


@dataclass(frozen=True)
class ImageScore:
    """Detections of an image at IoU 0.5 and the confidence with the highest mean F1.

    Attributes:
        image_id: Id of the image in the dataset.
        correct: Number of true positives.
        wrong: Number of false positives.
        missed: Number of objects that were not detected.
        f1: 2 correct / (2 correct + wrong + missed); 1 for an empty image without detections.
    """

    image_id: Any
    correct: int
    wrong: int
    missed: int
    f1: float


def score_images(evaluation: Evaluation) -> list[ImageScore]:
    """Return the score of each image, worst first: by F1, then by the number of errors."""
    truth, results, hits = evaluation.truth, evaluation.results, evaluation.hits
    _, scores, _ = results.columns()
    images = truth.image_indices(results)
    confident = scores >= evaluation.metrics["confidence"]
    number = len(truth.images)
    correct = np.bincount(images[confident & (hits == TRUE_POSITIVE)], minlength=number)
    wrong = np.bincount(images[confident & (hits == FALSE_POSITIVE)], minlength=number)
    objects = np.bincount(truth.boxes.image[~truth.boxes.crowd], minlength=number)
    ranked = []
    for image_id in results.image_ids:
        index = truth.images[image_id]
        hit, spurious = int(correct[index]), int(wrong[index])
        missed = max(int(objects[index]) - hit, 0)
        total = 2 * hit + spurious + missed
        ranked.append(ImageScore(image_id, hit, spurious, missed, 2 * hit / total if total else 1.0))
    return sorted(ranked, key=lambda one: (one.f1, -one.wrong - one.missed if one.f1 < 1 else one.correct))
