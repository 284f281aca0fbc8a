"""COCO average precision of boxes, equal to pycocotools, with what makes evaluators stumble taken out of its way."""

import math
from collections.abc import Hashable, Iterable

import numpy as np
from graftdet.utils.errors import UserError
from graftdet.utils.evaluation.coco_matching import Boxes, match, precision_and_recall
from graftdet.utils.evaluation.coco_results import Results

# The order of `AREAS` and of `LIMITS` in `graftdet.utils.evaluation.coco_matching`
ALL, SMALL, MEDIUM, LARGE = range(4)
ONE, TEN, HUNDRED = range(3)


def coco_scores(ground_truth: dict, predictions: list[dict] | Results) -> dict:
    """COCO AP and AR of boxes: `ground_truth` a COCO dict, `predictions` COCO results (bbox xywh pixels), as a list or as
    arrays.

    Returns "AP50-95", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100" and "per_class", a list in the order
    of the categories with "id", "name", "AP50-95", "AP50", "AR100". The numbers are pycocotools', with three
    differences where that crashes or says -1: without predictions all is 0; without any true box all is 0; a size or
    a class that has no true box is NaN (and has no part in the means).

    Ids may be any integers or strings, annotation ids may be missing, 0 or repeated; a missing `area` is width x
    height, a missing `iscrowd` 0. Nothing given is changed. Predictions of categories that the ground truth does not have are
    passed over; a prediction for a picture that it does not have raises `UserError`.
    """
    return Truth(ground_truth).scores(predictions)[0]


class Truth:
    """A COCO dict as arrays: `boxes`, with the numbers of `images` and `categories` (id -> number from 0). Numbers go in
    the order of the ids, so that ties between scores fall as they do in pycocotools."""

    def __init__(self, ground_truth: dict):
        self.entries = ground_truth.get("categories", [])
        self.images = _numbers(image["id"] for image in ground_truth.get("images", []))
        self.categories = _numbers(category["id"] for category in self.entries)
        kept = [
            annotation for annotation in ground_truth.get("annotations", [])
            if annotation["image_id"] in self.images and annotation["category_id"] in self.categories
        ]  # fmt: skip
        self.boxes = _boxes(
            [self.images[annotation["image_id"]] for annotation in kept],
            [self.categories[annotation["category_id"]] for annotation in kept],
            [annotation["bbox"] for annotation in kept],
        )
        areas = np.array([annotation.get("area") for annotation in kept], np.float64)  # None becomes NaN
        self.boxes.area = np.where(np.isnan(areas), self.boxes.area, areas)
        self.boxes.crowd = np.array([bool(annotation.get("iscrowd")) for annotation in kept], bool)

    def scores(self, predictions: list[dict] | Results) -> tuple[dict, np.ndarray]:
        """What `coco_scores` returns, and for each prediction (n,) int8 HIT, MISSED or IGNORED at an IoU of 0.5."""
        found, rows = self._found(predictions)
        matches = match(self.boxes, found, len(self.categories))
        hits = np.zeros(len(predictions), np.int8)
        hits[rows] = matches.at_half()
        return self._summary(*precision_and_recall(self.boxes, matches, len(self.categories))), hits

    def _found(self, predictions: list[dict] | Results) -> tuple[Boxes, np.ndarray]:
        """The predictions of known categories as arrays, and which of those given they are."""
        if isinstance(predictions, Results):
            boxes, scores, labels = predictions.columns()
            images = self.pictures_of(predictions)
            categories = np.array([self.categories.get(given, -1) for given in predictions.category_ids], np.int64)[
                labels
            ]
        else:
            images = [self._image(prediction["image_id"]) for prediction in predictions]
            categories = np.array(
                [self.categories.get(prediction["category_id"], -1) for prediction in predictions], np.int64
            )
            boxes = [prediction["bbox"] for prediction in predictions]
            scores = np.array([prediction["score"] for prediction in predictions], np.float64)
        found = _boxes(images, categories, boxes)
        found.score = scores
        rows = np.flatnonzero(categories >= 0)
        return found.take(rows), rows

    def pictures_of(self, results: Results) -> np.ndarray:
        """The number (n,) of the picture of each detection."""
        return np.repeat(np.array([self._image(given) for given in results.image_ids], np.int64), results.counts)

    def _image(self, given: Hashable) -> int:
        if given not in self.images:
            raise UserError(f"predictions: image_id {given!r} is not in the ground truth")
        return self.images[given]

    def _summary(self, precision: np.ndarray, recall: np.ndarray) -> dict:
        scores = {
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
        for key in (
            "AP50-95",
            "AP50",
            "AP75",
            "AR1",
            "AR10",
            "AR100",
        ):  # undefined without any true box: a plain number
            scores[key] = 0.0 if math.isnan(scores[key]) else scores[key]
        scores["per_class"] = []
        for category in self.entries:
            k = self.categories[category["id"]]
            entry = {"id": category["id"], "name": str(category.get("name", category["id"]))}
            entry |= {"AP50-95": _mean(precision[:, :, k, ALL]), "AP50": _mean(precision[0, :, k, ALL])}
            scores["per_class"].append({**entry, "AR100": _mean(recall[:, k, HUNDRED])})
        return scores


def _boxes(images, categories, xywh) -> Boxes:
    xywh = np.asarray(xywh, np.float64).reshape(-1, 4)
    return Boxes(np.asarray(images, np.int64), np.asarray(categories, np.int64), xywh, xywh[:, 2] * xywh[:, 3])


def _numbers(ids: Iterable[Hashable]) -> dict[Hashable, int]:
    """From each id to 0, 1, ... in sorted order; numbers before strings."""
    ordered = sorted(set(ids), key=lambda given: (isinstance(given, str), given))
    return {given: number for number, given in enumerate(ordered)}


def _mean(values: np.ndarray) -> float:
    """The mean of what is defined (above -1), NaN when nothing is."""
    values = values[values > -1]
    return float(values.mean()) if values.size else math.nan
