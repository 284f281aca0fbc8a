"""COCO average precision of boxes, equal to pycocotools, for any ids and without its special cases."""

import math
from collections.abc import Hashable, Iterable
from typing import Any

import numpy as np

from graftdet.utils.errors import UserError
from graftdet.utils.evaluation.coco_matching import Boxes, Matches, match, precision_and_recall
from graftdet.utils.evaluation.coco_results import CocoResults

# indices into `AREA_RANGES` and `MAX_DETECTIONS` of `graftdet.utils.evaluation.coco_matching`
ALL, SMALL, MEDIUM, LARGE = range(4)
ONE, TEN, HUNDRED = range(3)


def coco_scores(ground_truth: dict[str, Any], predictions: list[dict[str, Any]] | CocoResults) -> dict[str, Any]:
    """Compute COCO AP and AR of boxes.

    Equal to pycocotools, except where that fails or returns -1: without predictions or ground-truth boxes all scores
    are 0; an area range or class without ground truth is NaN, and not part of the means.

    Args:
        ground_truth: A COCO dict, which is not changed. Ids may be any integers or strings; annotation ids may be
            missing, 0 or repeated; a missing `area` is width x height, a missing `iscrowd` 0.
        predictions: COCO results (bbox xywh in pixels) as a list or as arrays. Unknown categories are ignored.

    Returns:
        "AP50-95", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", and "per_class": a list in the order of
        the categories with "id", "name", "AP50-95", "AP50", "AR100".

    Raises:
        UserError: If a prediction is for an image that is not part of the ground truth.
    """
    return GroundTruth(ground_truth).scores(predictions)[0]


class GroundTruth:
    """A COCO dict as arrays.

    Images and categories are numbered in the order of their ids, so that ties between scores are resolved as by
    pycocotools.

    Attributes:
        boxes: All ground-truth boxes.
        images, categories: Id -> index.
        entries: The entries of "categories".
    """

    def __init__(self, ground_truth: dict[str, Any]):
        self.entries = ground_truth.get("categories", [])
        self.images = _indices(image["id"] for image in ground_truth.get("images", []))
        self.categories = _indices(category["id"] for category in self.entries)
        annotations = [
            annotation
            for annotation in ground_truth.get("annotations", [])
            if annotation["image_id"] in self.images and annotation["category_id"] in self.categories
        ]
        self.boxes = _boxes(
            [self.images[annotation["image_id"]] for annotation in annotations],
            [self.categories[annotation["category_id"]] for annotation in annotations],
            [annotation["bbox"] for annotation in annotations],
        )
        areas = np.array([annotation.get("area") for annotation in annotations], np.float64)  # None becomes NaN
        self.boxes.area = np.where(np.isnan(areas), self.boxes.area, areas)
        self.boxes.crowd = np.array([bool(annotation.get("iscrowd")) for annotation in annotations], bool)

    def scores(self, predictions: list[dict[str, Any]] | CocoResults) -> tuple[dict[str, Any], np.ndarray]:
        """Return the scores of `coco_scores`, and the result of each prediction at IoU 0.5 (n,) int8: TRUE_POSITIVE,
        FALSE_POSITIVE or IGNORED.
        """
        matches, rows = self.matches(predictions)
        hits = np.zeros(len(predictions), np.int8)
        hits[rows] = matches.at_iou_50()
        return self._summary(*precision_and_recall(self.boxes, matches, len(self.categories))), hits

    def matches(self, predictions: list[dict[str, Any]] | CocoResults) -> tuple[Matches, np.ndarray]:
        """Match predictions with the ground truth; return the matches of those of known categories, and their indices
        in `predictions`.
        """
        detections, rows = self._detections(predictions)
        return match(self.boxes, detections, len(self.categories)), rows

    def _detections(self, predictions: list[dict[str, Any]] | CocoResults) -> tuple[Boxes, np.ndarray]:
        """The predictions of known categories as arrays, and their indices in `predictions`."""
        if isinstance(predictions, CocoResults):
            boxes, scores, labels = predictions.columns()
            images = self.image_indices(predictions)
            known = np.array([self.categories.get(category, -1) for category in predictions.category_ids], np.int64)
            categories = known[labels]
        else:
            images = [self._image_index(prediction["image_id"]) for prediction in predictions]
            categories = np.array(
                [self.categories.get(prediction["category_id"], -1) for prediction in predictions], np.int64
            )
            boxes = [prediction["bbox"] for prediction in predictions]
            scores = np.array([prediction["score"] for prediction in predictions], np.float64)
        detections = _boxes(images, categories, boxes)
        detections.score = scores
        rows = np.flatnonzero(categories >= 0)
        return detections.take(rows), rows

    def image_indices(self, results: CocoResults) -> np.ndarray:
        """Return the index (n,) of the image of each detection."""
        return np.repeat(np.array([self._image_index(image) for image in results.image_ids], np.int64), results.counts)

    def _image_index(self, image_id: Hashable) -> int:
        if image_id not in self.images:
            raise UserError(f"predictions: image_id {image_id!r} is not in the ground truth")
        return self.images[image_id]

    def _summary(self, precision: np.ndarray, recall: np.ndarray) -> dict[str, Any]:
        scores: dict[str, Any] = {
            "AP50-95": _mean(precision[..., ALL]),
            "AP50": _mean(precision[0, ..., ALL]),
            "AP75": _mean(precision[5, ..., ALL]),
            "APs": _mean(precision[..., SMALL]),
            "APm": _mean(precision[..., MEDIUM]),
            "APl": _mean(precision[..., LARGE]),
            "AR1": _mean(recall[..., ONE]),
            "AR10": _mean(recall[..., TEN]),
            "AR100": _mean(recall[..., HUNDRED]),
        }
        for key in ("AP50-95", "AP50", "AP75", "AR1", "AR10", "AR100"):  # undefined without ground truth: 0
            scores[key] = 0.0 if math.isnan(scores[key]) else scores[key]
        scores["per_class"] = []
        for category in self.entries:
            k = self.categories[category["id"]]
            entry = {"id": category["id"], "name": str(category.get("name", category["id"]))}
            entry |= {"AP50-95": _mean(precision[:, :, k, ALL]), "AP50": _mean(precision[0, :, k, ALL])}
            scores["per_class"].append({**entry, "AR100": _mean(recall[:, k, HUNDRED])})
        return scores


def _boxes(images: Any, categories: Any, xywh: Any) -> Boxes:
    xywh = np.asarray(xywh, np.float64).reshape(-1, 4)
    return Boxes(np.asarray(images, np.int64), np.asarray(categories, np.int64), xywh, xywh[:, 2] * xywh[:, 3])


def _indices(ids: Iterable[Hashable]) -> dict[Hashable, int]:
    """From each id to its index in sorted order; numbers before strings."""
    ordered = sorted(set(ids), key=lambda given: (isinstance(given, str), given))
    return {given: index for index, given in enumerate(ordered)}


def _mean(values: np.ndarray) -> float:
    """The mean of defined values (above -1), NaN if there are none."""
    values = values[values > -1]
    return float(values.mean()) if values.size else math.nan
