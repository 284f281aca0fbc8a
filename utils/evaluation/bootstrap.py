"""Confidence intervals of AP, and of its difference between models, by resampling the images.

Efron and Tibshirani, An Introduction to the Bootstrap, 1993, section 13.3 (percentile intervals). All models are
evaluated on the same resampled images, so that what is hard about an image affects both sides of a difference.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from graftdet.utils.evaluation.coco_matching import (
    IOU_THRESHOLDS,
    MAX_DETECTIONS,
    RECALL_THRESHOLDS,
    TRUE_POSITIVE,
    Matches,
)
from graftdet.utils.evaluation.evaluator import Evaluation

CELLS = 1 << 22  # of the arrays of samples and detections: bounds the memory


@dataclass(frozen=True)
class Interval:
    """A value with its 95 % confidence interval.

    Attributes:
        value: On all images once.
        low: 2.5th percentile of the samples.
        high: 97.5th percentile.
    """

    value: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """Whether zero lies outside the interval."""
        return self.low > 0 or self.high < 0


def interval(samples: np.ndarray) -> Interval:
    """Return the interval of samples (1 + n,); the first is that of all images once."""
    low, high = np.nanpercentile(samples[1:], (2.5, 97.5))
    return Interval(float(samples[0]), float(low), float(high))


def sample_images(images: int, samples: int, seed: int = 0) -> np.ndarray:
    """Return how often each image is drawn (1 + samples, images); the first row is ones."""
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(images, np.full(images, 1 / images), samples) if images else np.zeros((samples, 0), int)
    return np.concatenate((np.ones((1, images), int), drawn))


def resampled_ap(evaluation: Evaluation, image_ids: Sequence, weights: np.ndarray) -> np.ndarray:
    """Compute COCO AP on resampled images.

    Args:
        evaluation: Result of `evaluate`.
        image_ids: Order of the images in `weights`.
        weights: How often each image is drawn (samples, images).

    Returns:
        AP50-95 and AP50 of each sample, (2, samples); NaN without ground truth.
    """
    truth = evaluation.truth
    column = np.zeros(len(truth.images), int)
    column[[truth.images[given] for given in image_ids]] = np.arange(len(image_ids))
    matches, _ = truth.matches(evaluation.results)
    step = max(CELLS // max(len(matches.detections), 1), 1)
    parts = [
        _average_precision(evaluation, matches, weights[start : start + step][:, column].astype(np.float64))
        for start in range(0, len(weights), step)
    ]
    return np.concatenate(parts, 1)


def _average_precision(evaluation: Evaluation, matches: Matches, weights: np.ndarray) -> np.ndarray:
    """AP50-95 and AP50 (2, samples) for weights (samples, images) in the order of the ground truth."""
    boxes, detections = evaluation.truth.boxes, matches.detections
    objects = ~boxes.crowd
    row_of = np.full(len(detections), -1)
    row_of[matches.rows] = np.arange(len(matches.rows))
    counted = matches.rank < MAX_DETECTIONS[-1]
    values = np.full((len(evaluation.truth.categories), len(IOU_THRESHOLDS), len(weights)), np.nan)
    for k in range(len(values)):
        positives = weights[:, boxes.image[objects & (boxes.category == k)]].sum(1)  # (samples,)
        own = np.flatnonzero(counted & (detections.category == k))
        own = own[np.argsort(-detections.score[own], kind="stable")]
        drawn = weights[:, detections.image[own]]  # (samples, detections)
        rows = row_of[own]
        for t in range(len(IOU_THRESHOLDS)):
            result = (
                np.where(rows >= 0, matches.table[rows, t, 0], 0) if len(matches.table) else np.zeros(len(own), int)
            )
            values[k, t] = _class_ap(drawn, result, positives)
    with np.errstate(invalid="ignore"):
        known = np.isfinite(values)
        totals, counts = np.where(known, values, 0).sum(0), known.sum(0)  # (thresholds, samples)
        return np.stack((totals.sum(0) / counts.sum(0), totals[0] / counts[0]))


def _class_ap(drawn: np.ndarray, result: np.ndarray, positives: np.ndarray) -> np.ndarray:
    """AP (samples,) of one class at one IoU threshold.

    Args:
        drawn: How often each detection counts (samples, n), best score first.
        result: TRUE_POSITIVE, FALSE_POSITIVE or IGNORED (n,).
        positives: Ground-truth boxes (samples,).
    """
    hits = np.flatnonzero(result == TRUE_POSITIVE)
    ap = np.where(positives > 0, 0.0, np.nan)
    if not len(hits):
        return ap
    detected = np.cumsum(np.where(result >= 0, drawn, 0), 1)[:, hits]  # (samples, hits)
    correct = np.cumsum(drawn[:, hits], 1)
    precision = correct / np.maximum(detected, 1)
    precision = np.maximum.accumulate(precision[:, ::-1], 1)[:, ::-1]
    recall = correct / np.maximum(positives, 1)[:, None]
    reached = np.searchsorted(RECALL_THRESHOLDS, recall, "right")  # recall thresholds up to each hit
    new = np.diff(np.where(correct > 0, reached, 0), axis=1, prepend=0)
    return np.where(positives > 0, (precision * new).sum(1) / len(RECALL_THRESHOLDS), ap)
