"""Whether scores are probabilities: precision of the detections of each range of scores."""

from dataclasses import dataclass

import numpy as np

from graftdet.utils.evaluation.coco_matching import IGNORED, TRUE_POSITIVE
from graftdet.utils.evaluation.evaluator import Evaluation

MIN_SCORE = 0.05  # below are very many detections that nobody uses


@dataclass(frozen=True)
class Calibration:
    """Precision at IoU 0.5 of the detections by score (Küppers et al., Multivariate Confidence Calibration for Object
    Detection, 2020, without position and size).

    Attributes:
        edges: Limits (bins + 1,) of the scores.
        counts: Detections (bins,) in each range.
        scores: Mean score (bins,), NaN for an empty one.
        precision: Precision (bins,), NaN for an empty one.
        error: Mean difference of score and precision over the detections (expected calibration error).
    """

    edges: np.ndarray
    counts: np.ndarray
    scores: np.ndarray
    precision: np.ndarray
    error: float


def calibration(evaluation: Evaluation, bins: int = 10) -> Calibration:
    """Compute the calibration of detections with a score of at least `MIN_SCORE`."""
    _, scores, _ = evaluation.results.columns()
    counted = (evaluation.hits != IGNORED) & (scores >= MIN_SCORE)
    scores, correct = scores[counted], evaluation.hits[counted] == TRUE_POSITIVE
    edges = np.linspace(0, 1, bins + 1)
    which = np.clip((scores * bins).astype(int), 0, bins - 1)
    counts = np.bincount(which, minlength=bins)
    divisor = np.where(counts > 0, counts, np.nan)
    mean_score = np.bincount(which, scores, minlength=bins) / divisor
    precision = np.bincount(which, correct, minlength=bins) / divisor
    gaps = np.nan_to_num(np.abs(mean_score - precision)) * counts
    return Calibration(edges, counts, mean_score, precision, float(gaps.sum() / max(counts.sum(), 1)))
