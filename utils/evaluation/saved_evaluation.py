"""Detections and ground truth of a validation in one file, from which every number can be computed again."""

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from graftdet.utils.errors import UserError
from graftdet.utils.evaluation.coco_results import CocoResults, plain
from graftdet.utils.evaluation.evaluator import Evaluation, score
from graftdet.utils.files import write_atomically
from graftdet.utils.untrusted.limits import limit

FILE = "evaluation.npz"
MAX_BYTES = 1 << 29  # of all arrays: 300 detections in each of 37,000 images
_BOXES = ("target_images", "target_classes", "target_boxes", "target_areas", "target_crowds")


def save_evaluation(evaluation: Evaluation, path: str | Path) -> None:
    """Write an evaluation: ids and names as JSON, boxes as arrays."""
    truth, results = evaluation.truth, evaluation.results
    class_of = {given: k for k, given in enumerate(results.category_ids)}
    classes = np.array([class_of.get(given, -1) for given in truth.categories], np.int64)[truth.boxes.category]
    chosen = classes >= 0
    boxes = truth.boxes.take(chosen)
    header = {
        "names": [entry["name"] for entry in evaluation.per_class],
        "category_ids": results.category_ids,
        "image_ids": [plain(given) for given in results.image_ids],
        "all_images": [plain(given) for given in truth.images],
    }
    content = io.BytesIO()
    np.savez_compressed(
        content,
        header=np.frombuffer(json.dumps(header).encode(), np.uint8),
        detections=results.rows(),
        counts=results.counts,
        **dict(zip(_BOXES, (boxes.image, classes[chosen], boxes.xywh, boxes.area, boxes.crowd), strict=True)),
    )
    write_atomically(Path(path), content.getvalue())


def load_evaluation(path: str | Path) -> Evaluation:
    """Read an evaluation and compute its metrics again.

    Args:
        path: A file of `save_evaluation`. Nothing in it is executed.

    Raises:
        UserError: If it cannot be read.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > limit(MAX_BYTES):
                raise UserError(f"{path}: has arrays of more than {limit(MAX_BYTES)} bytes")
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in ("header", "detections", "counts", *_BOXES)}
        header = json.loads(arrays["header"].tobytes())
        results = CocoResults(header["category_ids"])
        ends = np.cumsum(arrays["counts"])
        for image_id, rows in zip(header["image_ids"], np.split(arrays["detections"], ends[:-1]), strict=True):
            results.add(image_id, rows)
        return score(_ground_truth(header, arrays), results, {})
    except UserError:
        raise
    except (OSError, ValueError, KeyError, IndexError, TypeError, RecursionError, zipfile.BadZipFile) as error:
        raise UserError(f"{path}: is not a saved evaluation ({type(error).__name__}: {error})") from None


def _ground_truth(header: dict[str, Any], arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    """The COCO dict of a file."""
    ids, images = header["category_ids"], header["all_images"]
    annotations = [
        {"image_id": images[image], "category_id": ids[label], "bbox": box, "area": area, "iscrowd": int(crowd)}
        for image, label, box, area, crowd in zip(*(arrays[name].tolist() for name in _BOXES), strict=True)
    ]
    categories = [{"id": given, "name": name} for given, name in zip(ids, header["names"], strict=True)]
    return {"images": [{"id": image} for image in images], "categories": categories, "annotations": annotations}
