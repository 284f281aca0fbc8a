"""Measure a model on a data set: COCO AP, precision and recall, confusion, predictions, speed.

`evaluate` is what training calls after every epoch and validation calls at the end. It takes any callable that gives
decoded boxes and scores, and any loader of batches; it knows neither models nor data sets.
"""

import time
from collections import defaultdict
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np

from .coco_ap import coco_scores
from .errors import UserError
from .letterbox import unletterbox
from .metrics import ConfusionMatrix, Curves, match_detections, precision_recall_curves
from .nms import default_method, select_detections
from .report import Progress

__all__ = ["Evaluation", "coco_scores", "evaluate", "format_table", "print_table"]


@dataclass
class Evaluation:
    """What one run over a data set found.

    `metrics`: "AP50-95", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100" (see `coco_scores`) and, at IoU
    0.5 and the confidence of the best mean F1, "precision", "recall", "f1", "confidence". `per_class`: one dict a
    class with "name", "id", "images", "instances", "precision", "recall", "AP50", "AP50-95". `predictions`: COCO
    results. `speed`: milliseconds a picture of "preprocess", "inference", "nms".
    """

    metrics: dict[str, float]
    per_class: list[dict]
    predictions: list[dict]
    curves: Curves
    confusion: ConfusionMatrix
    speed: dict[str, float]
    images: int
    instances: int


def evaluate(
    model,
    loader,
    *,
    ground_truth: dict,
    category_ids,
    device="cpu",
    conf: float = 0.001,
    iou: float = 0.6,
    max_det: int = 300,
    half: bool = False,
    augment: bool = False,
    progress: bool = True,
    agnostic: bool = False,
    method: str | None = None,
) -> Evaluation:
    """Run `model` over `loader` and measure what it finds against `ground_truth`.

    `model`: callable (B, 3, H, W) float 0..1 RGB on `device` -> (boxes (B, N, 4) xyxy pixels of that input, scores
    (B, N, nc)), tensors or arrays; a torch module is put into eval mode for the time being. `loader`: batches as dicts
    with "images" (B, 3, H, W) uint8 RGB and the lists "image_ids", "gains", "pads", "shapes" of `letterbox`.
    `ground_truth`: COCO dict; `category_ids`: class index -> category id. `half` computes in float16 on CUDA and in
    bfloat16 elsewhere, without changing the model's weights. `augment` is test-time augmentation. `agnostic` and
    `method` are those of `select_detections`; without a `method` it is the one that the model needs (`default_method`).
    Raises `UserError` when `model` has another number of classes.
    """
    import torch

    from .tta import Augmented

    device = torch.device(device)
    tally = _Tally(_Truth(ground_truth, category_ids))
    was_training = getattr(model, "training", False)
    if was_training:
        model.eval()
    run = Augmented(model) if augment else model
    settings = {"conf": conf, "iou": iou, "max_det": max_det, "agnostic": agnostic, "method": method or default_method(run)}
    settings["multi_label"] = len(category_ids) > 1
    try:
        with torch.no_grad(), ExitStack() as stack:
            if half:
                dtype = torch.float16 if device.type == "cuda" else torch.bfloat16
                stack.enter_context(torch.autocast(device.type, dtype))
            bar = stack.enter_context(Progress(len(loader), "validation", quiet=not progress))
            for batch in loader:
                _measure(run, batch, tally, device, _float_type(model), settings)
                bar.step()
    finally:
        if was_training:
            model.train()
    return tally.evaluation(_without(ground_truth, _unreadable_ids(loader)))


def _unreadable_ids(loader) -> set:
    """The ids of the pictures that the loader's data set could not read: they are dropped, not counted as misses."""
    dataset = getattr(loader, "dataset", None)
    return {dataset.image_ids[index] for index in getattr(dataset, "unreadable", ())}


def _without(ground_truth: dict, image_ids: set) -> dict:
    """The ground truth less some pictures."""
    if not image_ids:
        return ground_truth
    images = [image for image in ground_truth["images"] if image["id"] not in image_ids]
    annotations = [a for a in ground_truth.get("annotations", []) if a["image_id"] not in image_ids]
    return {**ground_truth, "images": images, "annotations": annotations}


def _measure(run, batch: dict, tally: "_Tally", device, dtype, settings: dict) -> None:
    """One batch through the model `run`, suppression and back into the frames of the source pictures."""
    import torch

    clock = _Clock(device)
    images = torch.as_tensor(batch["images"]).to(device, non_blocking=True).to(dtype) / 255
    tally.seconds["preprocess"] += clock.lap()
    boxes, scores = run(images)
    tally.seconds["inference"] += clock.lap()
    tally.truth.check_classes(scores.shape[2])
    for index, image_id in enumerate(batch["image_ids"]):
        rows = select_detections(boxes[index], scores[index], **settings)
        shape, pad = batch["shapes"][index], batch["pads"][index]
        rows[:, :4] = unletterbox(rows[:, :4], batch["gains"][index], pad, shape)
        tally.add(image_id, rows)
    tally.seconds["nms"] += clock.lap()


class _Truth:
    """The ground truth of each picture as arrays, classes as indices."""

    def __init__(self, ground_truth: dict, category_ids):
        self.category_ids = [_plain(given) for given in category_ids]
        names = {category["id"]: str(category.get("name", category["id"])) for category in ground_truth["categories"]}
        self.names = [names.get(given, str(given)) for given in self.category_ids]
        index = {given: k for k, given in enumerate(self.category_ids)}
        lists = defaultdict(list)
        for annotation in ground_truth.get("annotations", []):
            if annotation["category_id"] in index:
                x, y, w, h = annotation["bbox"]
                crowd = bool(annotation.get("iscrowd"))
                lists[annotation["image_id"]].append((x, y, x + w, y + h, index[annotation["category_id"]], crowd))
        self.rows = {image: np.array(rows, np.float64).reshape(-1, 6) for image, rows in lists.items()}
        self.instances = np.zeros(len(self.category_ids), int)  # of each class, crowd regions not counted
        self.images = np.zeros(len(self.category_ids), int)  # with at least one of them
        for rows in self.rows.values():
            labels = rows[rows[:, 5] == 0, 4].astype(int)
            np.add.at(self.instances, labels, 1)
            self.images[np.unique(labels)] += 1

    def of(self, image_id) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Boxes (m, 4) xyxy, labels (m,), crowd (m,) of one picture."""
        rows = self.rows.get(image_id, np.zeros((0, 6)))
        return rows[:, :4], rows[:, 4].astype(int), rows[:, 5].astype(bool)

    def check_classes(self, nc: int) -> None:
        if nc != len(self.category_ids):
            raise UserError(f"the model has {nc} classes, the data set {len(self.category_ids)}: nothing to compare")


class _Tally:
    """What is collected picture by picture."""

    def __init__(self, truth: _Truth):
        self.truth = truth
        self.predictions, self.columns, self.images = [], [], 0
        self.confusion = ConfusionMatrix(len(truth.category_ids))
        self.seconds = {"preprocess": 0.0, "inference": 0.0, "nms": 0.0}

    def add(self, image_id, rows: np.ndarray) -> None:
        """One picture's detections: `rows` (n, 6) x1, y1, x2, y2, score, class in pixels of the source picture."""
        truth = self.truth.of(image_id)
        matches = match_detections(rows[:, :4], rows[:, 5].astype(int), *truth)
        self.columns.append(np.column_stack((matches, rows[:, 4], rows[:, 5])))
        self.confusion.update(rows, *truth)
        self.images += 1
        image_id = _plain(image_id)
        xywh = np.concatenate((rows[:, :2], rows[:, 2:4] - rows[:, :2]), 1).astype(np.float64).round(3).tolist()
        scores, labels = rows[:, 4].astype(np.float64).round(6).tolist(), rows[:, 5].astype(int).tolist()
        self.predictions += [
            {"image_id": image_id, "category_id": self.truth.category_ids[label], "bbox": box, "score": score}
            for box, score, label in zip(xywh, scores, labels)
        ]

    def evaluation(self, ground_truth: dict) -> Evaluation:
        """Everything together, against the ground truth of the pictures that could be read."""
        self.truth = _Truth(ground_truth, self.truth.category_ids)
        matches, scores, labels = np.concatenate([np.zeros((0, 3)), *self.columns]).T
        curves = precision_recall_curves(matches.astype(int), scores, labels.astype(int), self.truth.instances)
        metrics = coco_scores(ground_truth, self.predictions)
        coco_classes = {entry["id"]: entry for entry in metrics.pop("per_class")}
        for name in ("precision", "recall", "f1"):
            metrics[name] = float(curves.mean(name)[curves.best])
        metrics["confidence"] = float(curves.confidence[curves.best])
        undefined = {"AP50": float("nan"), "AP50-95": float("nan")}
        per_class = []
        for k, (name, given) in enumerate(zip(self.truth.names, self.truth.category_ids)):
            entry = {"name": name, "id": given, "images": int(self.truth.images[k])}
            entry["instances"] = int(self.truth.instances[k])
            for which in ("precision", "recall"):
                entry[which] = float(getattr(curves, which)[k, curves.best]) if entry["instances"] else float("nan")
            entry |= {key: coco_classes.get(given, undefined)[key] for key in undefined}
            per_class.append(entry)
        speed = {name: 1000 * seconds / max(self.images, 1) for name, seconds in self.seconds.items()}
        instances = int(self.truth.instances.sum())
        return Evaluation(metrics, per_class, self.predictions, curves, self.confusion, speed, self.images, instances)


def format_table(evaluation: Evaluation, names=None) -> str:
    """The table of an evaluation as text: a row for all classes together, then one a class that has true boxes.

    `names` overrides the class names of the ground truth.
    """
    rows = [("all", evaluation.images, evaluation.instances, evaluation.metrics)]
    for k, entry in enumerate(evaluation.per_class):
        if entry["instances"] and len(evaluation.per_class) > 1:
            rows.append((names[k] if names is not None else entry["name"], entry["images"], entry["instances"], entry))
    width = min(max(5, *(len(str(row[0])) for row in rows)), 28)
    lines = [f"{'class':<{width}} {'images':>8} {'instances':>10} {'P':>7} {'R':>7} {'AP50':>7} {'AP50-95':>8}"]
    for name, images, instances, values in rows:
        name = str(name) if len(str(name)) <= width else str(name)[: width - 2] + ".."
        scores = f"{values['precision']:7.3f} {values['recall']:7.3f} {values['AP50']:7.3f} {values['AP50-95']:8.3f}"
        lines.append(f"{name:<{width}} {images:>8} {instances:>10} {scores}")
    return "\n".join(lines)


def print_table(evaluation: Evaluation, names=None) -> None:
    """Print `format_table`, the detail by size and the speed."""
    print(format_table(evaluation, names))
    metrics, speed = evaluation.metrics, evaluation.speed
    print("  ".join(f"{key} {metrics[key]:.3f}" for key in ("AP75", "APs", "APm", "APl", "AR100")))
    print("speed a picture: " + ", ".join(f"{name} {value:.1f} ms" for name, value in speed.items()))


class _Clock:
    """Seconds between calls; waits for work that a device still has in hand."""

    def __init__(self, device):
        self.device = device
        self.last = time.perf_counter()

    def lap(self) -> float:
        import torch

        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        elif self.device.type == "mps":
            torch.mps.synchronize()
        now = time.perf_counter()
        seconds, self.last = now - self.last, now
        return seconds


def _float_type(model):
    """The type a model's weights have, float32 for what has none (an exported file)."""
    import torch

    parameters = getattr(model, "parameters", None)
    first = next(iter(parameters()), None) if callable(parameters) else None
    return first.dtype if first is not None and first.is_floating_point() else torch.float32


def _plain(identity):
    """An id as JSON knows it: numpy's integers become Python's."""
    return identity.item() if isinstance(identity, np.generic) else identity
