"""COCO average precision by faster-coco-eval, with what makes evaluators stumble taken out of its way."""

import math
from collections.abc import Hashable, Iterable

import numpy as np

from .errors import UserError

MAX_DETECTIONS = (1, 10, 100)


def coco_scores(ground_truth: dict, predictions: list[dict]) -> dict:
    """COCO AP and AR of boxes: `ground_truth` a COCO dict, `predictions` a list of COCO results (bbox xywh pixels).

    Returns "AP50-95", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100" and "per_class", a list in the order
    of the categories with "id", "name", "AP50-95", "AP50", "AR100". The numbers are pycocotools', with three
    differences where that crashes or says -1: without predictions all is 0; without any true box all is 0; a size or
    a class that has no true box is NaN (and has no part in the means).

    Ids may be any integers or strings, annotation ids may be missing, 0 or repeated; a missing `area` is width x
    height, a missing `iscrowd` 0. Nothing given is changed. Predictions of categories that the ground truth does not have are
    passed over; a prediction for a picture that it does not have raises `UserError`.
    """
    categories = ground_truth.get("categories", [])
    truth, found = _renumbered(ground_truth, predictions)
    precision, recall = _evaluate(truth, found)
    scores = {
        "AP50-95": _mean(precision[..., 0, 2]),
        "AP50": _mean(precision[0, ..., 0, 2]),
        "AP75": _mean(precision[5, ..., 0, 2]),
        "APs": _mean(precision[..., 1, 2]),
        "APm": _mean(precision[..., 2, 2]),
        "APl": _mean(precision[..., 3, 2]),
        "AR1": _mean(recall[..., 0, 0]),
        "AR10": _mean(recall[..., 0, 1]),
        "AR100": _mean(recall[..., 0, 2]),
    }
    for key in ("AP50-95", "AP50", "AP75", "AR1", "AR10", "AR100"):  # undefined without any true box: a plain number
        scores[key] = 0.0 if math.isnan(scores[key]) else scores[key]
    columns = [truth["category_numbers"][category["id"]] - 1 for category in categories]
    scores["per_class"] = [
        {
            "id": category["id"],
            "name": str(category.get("name", category["id"])),
            "AP50-95": _mean(precision[:, :, k, 0, 2]),
            "AP50": _mean(precision[0, :, k, 0, 2]),
            "AR100": _mean(recall[:, k, 0, 2]),
        }
        for category, k in zip(categories, columns)
    ]
    return scores


def _evaluate(truth: dict, found: dict) -> tuple[np.ndarray, np.ndarray]:
    """Precision (10 IoUs, 101 recalls, categories, 4 areas, 3 limits) and recall (10, categories, 4, 3), -1 where
    there is no true box. Quiet."""
    from faster_coco_eval import COCO, COCOeval_faster

    num_categories = len(truth["categories"])
    if not num_categories or not truth["images"]:
        return np.full((10, 101, num_categories, 4, 3), -1.0), np.full((10, num_categories, 4, 3), -1.0)
    evaluator = COCOeval_faster(COCO(truth), COCO(found), "bbox", print_function=_silent)
    evaluator.params.maxDets = list(MAX_DETECTIONS)
    evaluator.evaluate()
    evaluator.accumulate()
    shape = (10, 101, num_categories, 4, 3)
    precision = np.asarray(evaluator.eval["precision"], np.float64).reshape(shape)
    return precision, np.asarray(evaluator.eval["recall"], np.float64).reshape(shape[:1] + shape[2:])


def _renumbered(ground_truth: dict, predictions: list[dict]) -> tuple[dict, dict]:
    """Copies of both as COCO dicts with ids 1, 2, ...: of images and categories in the order of the ids given, so that
    ties between scores fall as in the original; annotation id 0 would mean 'not matched' to an evaluator."""
    images = _numbers(image["id"] for image in ground_truth.get("images", []))
    categories = _numbers(category["id"] for category in ground_truth.get("categories", []))
    shared = {
        "images": [{"id": number} for number in images.values()],
        "categories": [{"id": number, "name": str(given)} for given, number in categories.items()],
        "category_numbers": categories,
    }
    annotations = []
    for annotation in ground_truth.get("annotations", []):
        if annotation["image_id"] in images and annotation["category_id"] in categories:
            entry = _entry(annotation, images, categories, len(annotations) + 1)
            area = annotation.get("area")
            annotations.append(entry if area is None else {**entry, "area": float(area)})
    results = []
    for prediction in predictions:
        if prediction["image_id"] not in images:
            raise UserError(f"predictions: image_id {prediction['image_id']!r} is not in the ground truth")
        if prediction["category_id"] in categories:
            entry = _entry(prediction, images, categories, len(results) + 1)
            results.append({**entry, "score": float(prediction["score"]), "iscrowd": 0})
    return {**shared, "annotations": annotations}, {**shared, "annotations": results}


def _entry(source: dict, images: dict, categories: dict, number: int) -> dict:
    x, y, width, height = (float(v) for v in source["bbox"])
    return {
        "id": number,
        "image_id": images[source["image_id"]],
        "category_id": categories[source["category_id"]],
        "bbox": [x, y, width, height],
        "area": width * height,
        "iscrowd": int(source.get("iscrowd") or 0),
    }


def _numbers(ids: Iterable[Hashable]) -> dict[Hashable, int]:
    """From each id to 1, 2, ... in sorted order; numbers before strings."""
    ordered = sorted(set(ids), key=lambda given: (isinstance(given, str), given))
    return {given: number for number, given in enumerate(ordered, 1)}


def _mean(values: np.ndarray) -> float:
    """The mean of what is defined (above -1), NaN when nothing is."""
    values = values[values > -1]
    return float(values.mean()) if values.size else math.nan


def _silent(*_) -> None:
    pass
