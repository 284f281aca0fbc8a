"""Measure a model on a data set: COCO AP, precision and recall, confusion, predictions, speed.

`evaluate` is what training calls after every epoch and validation calls at the end. It takes any callable that gives
decoded boxes and scores, and any loader of batches; it knows neither models nor data sets.
"""

import time
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from itertools import zip_longest

import numpy as np
from graftdet.utils.errors import UserError
from graftdet.utils.evaluation.coco_ap import Truth, coco_scores
from graftdet.utils.evaluation.coco_results import Results
from graftdet.utils.evaluation.metrics import ConfusionMatrix, Curves, precision_recall_curves
from graftdet.utils.images.letterbox import unletterbox
from graftdet.utils.nms.suppression import default_method, select_detections
from graftdet.utils.pipeline import Pipeline
from graftdet.utils.progress import Progress

__all__ = ["Evaluation", "coco_scores", "evaluate"]

AHEAD = 3  # batches in memory: what comes next is read meanwhile


@dataclass
class Evaluation:
    """What one run over a data set found.

    `metrics`: "AP50-95", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100" (see `coco_scores`) and, at IoU
    0.5 and the confidence of the best mean F1, "precision", "recall", "f1", "confidence". `per_class`: one dict a
    class with "name", "id", "images", "instances", "precision", "recall", "AP50", "AP50-95". `results`: what was found.
    `speed`: milliseconds a picture of "preprocess", "inference", "nms".
    """

    metrics: dict[str, float]
    per_class: list[dict]
    results: Results
    curves: Curves
    confusion: ConfusionMatrix
    speed: dict[str, float]
    images: int
    instances: int

    @cached_property
    def predictions(self) -> list[dict]:
        """`results` as COCO results, made when they are first asked for."""
        return self.results.to_dicts()


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
    progress: bool = True,
    method: str | None = None,
    ranks=None,
) -> Evaluation | None:
    """Run `model` over `loader` and measure what it finds against `ground_truth`.

    `model`: callable (B, 3, H, W) float 0..1 RGB on `device` -> (boxes (B, N, 4) xyxy pixels of that input, scores
    (B, N, nc)), tensors or arrays; a torch module is put into eval mode for the time being. `loader`: batches as dicts
    with "images" (B, 3, H, W) uint8 RGB and the lists "image_ids", "gains", "pads", "shapes" of `letterbox`.
    `ground_truth`: COCO dict; `category_ids`: class index -> category id. `half` computes in float16 on CUDA and in
    bfloat16 elsewhere, without changing the model's weights. `method`
    is that of `select_detections`, by default the one that the model needs (`default_method`).
    Of several processes (`ranks`, see `graftdet.utils.distributed`) each runs the main one's weights over its part of the pictures;
    the main one gets the result, the others None. Raises `UserError` when `model` has another number of classes.
    """
    import torch

    device = torch.device(device)
    is_main = ranks is None or ranks.is_main
    if ranks:
        ranks.broadcast_state(model)
    found = []  # a list of (image id, rows) for each batch
    seconds = {"preprocess": 0.0, "inference": 0.0, "nms": 0.0}
    was_training = getattr(model, "training", False)
    if was_training:
        model.eval()
    settings = {"conf": conf, "iou": iou, "max_det": max_det, "method": method or default_method(model)}
    settings["multi_label"] = len(category_ids) > 1
    try:
        with torch.no_grad(), ExitStack() as stack:
            if half:
                dtype = torch.float16 if device.type == "cuda" else torch.bfloat16
                stack.enter_context(torch.autocast(device.type, dtype))
            bar = stack.enter_context(Progress(len(loader), "validation", quiet=not (progress and is_main)))
            # worker processes read ahead themselves, and must not be forked from a thread
            batches = (
                loader if getattr(loader, "workers", 0) else stack.enter_context(Pipeline(loader, [], capacity=AHEAD))
            )
            for batch in batches:
                found.append(_measure(model, batch, len(category_ids), seconds, device, _float_type(model), settings))
                bar.step()
    finally:
        if was_training:
            model.train()
    mine = found, seconds, _unreadable_ids(loader)
    parts = ranks.gather(mine) if ranks else [mine]
    if parts is None:
        return None
    return _score_together(parts, ground_truth, category_ids)


def _score_together(parts, ground_truth: dict, category_ids) -> Evaluation:
    """What the processes found, seconds they spent and ids of pictures they could not read, (found, seconds, ids) of each."""
    results = Results(category_ids)
    for batches in zip_longest(*[found for found, _, _ in parts], fillvalue=()):
        for pictures in zip_longest(*batches):  # the processes share each batch by turns
            for picture in filter(None, pictures):
                results.add(*picture)
    pictures = max(len(results.image_ids), 1)
    speed = {name: 1000 * sum(spent[name] for _, spent, _ in parts) / pictures for name in parts[0][1]}
    return score(_without(ground_truth, set().union(*(unreadable for _, _, unreadable in parts))), results, speed)


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


def _measure(model, batch: dict, nc: int, seconds: dict, device, dtype, settings: dict) -> list[tuple]:
    """One batch through the model `run`, suppression and back into the frames of the source pictures: the id of each and
    its detections (n, 6)."""
    import torch

    clock = _Clock(device)
    images = torch.as_tensor(batch["images"]).to(device, non_blocking=True).to(dtype) / 255
    seconds["preprocess"] += clock.lap()
    boxes, scores = model(images)
    seconds["inference"] += clock.lap()
    if scores.shape[2] != nc:
        raise UserError(f"the model has {scores.shape[2]} classes, the data set {nc}: nothing to compare")
    found = []
    for index, image_id in enumerate(batch["image_ids"]):
        rows = select_detections(boxes[index], scores[index], **settings)
        shape, pad = batch["shapes"][index], batch["pads"][index]
        rows[:, :4] = unletterbox(rows[:, :4], batch["gains"][index], pad, shape)
        found.append((image_id, rows))
    seconds["nms"] += clock.lap()
    return found


def score(ground_truth: dict, results: Results, speed: dict[str, float]) -> Evaluation:
    """Measure what was found against the COCO dict of the pictures that could be read."""
    truth = Truth(ground_truth)
    metrics, hits = truth.scores(results)
    nc, index = len(results.category_ids), {given: k for k, given in enumerate(results.category_ids)}
    classes = np.array(
        [index.get(given, -1) for given in truth.categories], int
    )  # class index of each category's number
    boxes = truth.boxes.take(np.flatnonzero(classes[truth.boxes.category] >= 0))
    labels = classes[boxes.category]
    instances = np.bincount(labels[~boxes.crowd], minlength=nc)  # of each class, crowd regions not counted
    together = np.unique(np.stack((labels, boxes.image))[:, ~boxes.crowd], axis=1)
    images = np.bincount(together[0], minlength=nc)  # with at least one of them

    rows = results.rows()
    _, scores, found = results.columns()
    curves = precision_recall_curves(hits, scores, found, instances)
    confusion = ConfusionMatrix(nc)
    xyxy = np.concatenate((boxes.xywh[:, :2], boxes.xywh[:, :2] + boxes.xywh[:, 2:]), 1)
    confusion.update(rows, xyxy, labels, boxes.crowd, truth.pictures_of(results), boxes.image)

    coco_classes = {entry["id"]: entry for entry in metrics.pop("per_class")}
    for name in ("precision", "recall", "f1"):
        metrics[name] = float(curves.mean(name)[curves.best])
    metrics["confidence"] = float(curves.confidence[curves.best])
    undefined = {"name": None, "AP50": float("nan"), "AP50-95": float("nan")}
    per_class = []
    for k, given in enumerate(results.category_ids):
        coco = coco_classes.get(given, undefined)
        entry = {
            "name": coco["name"] or str(given),
            "id": given,
            "images": int(images[k]),
            "instances": int(instances[k]),
        }
        for which in ("precision", "recall"):
            entry[which] = float(getattr(curves, which)[k, curves.best]) if instances[k] else float("nan")
        per_class.append({**entry, "AP50": coco["AP50"], "AP50-95": coco["AP50-95"]})
    pictures = len(results.image_ids)
    return Evaluation(metrics, per_class, results, curves, confusion, speed, pictures, int(instances.sum()))


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
