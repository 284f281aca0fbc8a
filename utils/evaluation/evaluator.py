"""Evaluate a model on a dataset: COCO AP, precision and recall, confusion matrix, detections, speed.

`evaluate` is called after every epoch of training and by val.py. It takes any callable that returns decoded boxes and
scores, and any loader of batches; no model or dataset is defined here.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import numpy as np

from graftdet.utils.boxes import xywh_to_xyxy
from graftdet.utils.errors import UserError
from graftdet.utils.evaluation.coco_ap import GroundTruth, coco_scores
from graftdet.utils.evaluation.coco_results import CocoResults
from graftdet.utils.evaluation.metrics import ConfusionMatrix, Curves, precision_recall_curves
from graftdet.utils.images.letterbox import unletterbox
from graftdet.utils.nms.suppression import default_method, select_detections
from graftdet.utils.pipeline import Pipeline
from graftdet.utils.progress import Progress
from graftdet.utils.text import counted
from graftdet.utils.threads import adapt_threads

if TYPE_CHECKING:
    import torch

__all__ = ["Evaluation", "coco_scores", "evaluate"]

PREFETCHED = 3  # batches in memory


@dataclass
class Evaluation:
    """Result of an evaluation.

    Attributes:
        metrics: "AP50-95", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100" (see `coco_scores`) and, at IoU
            0.5 and the confidence with the highest mean F1, "precision", "recall", "f1", "confidence".
        per_class: One dict per class: "name", "id", "images", "instances", "precision", "recall", "AP50", "AP50-95".
        results: All detections.
        curves: Precision and recall over confidence.
        confusion: Confusion matrix.
        speed: Milliseconds per image of "preprocess", "inference" and "nms".
        images: Number of images.
        instances: Number of ground-truth boxes.
        truth: The ground truth.
        hits: TRUE_POSITIVE, FALSE_POSITIVE or IGNORED (n,) int8 at IoU 0.5 of each row of `results`.
        losses: Mean of each loss over the images, where they were computed.
    """

    metrics: dict[str, float]
    per_class: list[dict[str, Any]]
    results: CocoResults
    curves: Curves
    confusion: ConfusionMatrix
    speed: dict[str, float]
    images: int
    instances: int
    truth: GroundTruth = field(repr=False)
    hits: np.ndarray = field(repr=False)
    losses: dict[str, float] = field(default_factory=dict)

    @cached_property
    def predictions(self) -> list[dict[str, Any]]:
        """`results` as COCO results."""
        return self.results.to_dicts()


def evaluate(
    model: Any,
    loader: Any,
    *,
    ground_truth: dict[str, Any],
    category_ids: Sequence[Any],
    device: "str | torch.device" = "cpu",
    conf: float = 0.001,
    iou: float = 0.6,
    max_det: int = 300,
    half: bool = False,
    progress: bool = True,
    method: str | None = None,
    ranks: Any = None,
    losses: Callable[..., tuple[tuple, dict[str, Any]]] | None = None,
    on_batch: Callable[[int, dict[str, Any], list[np.ndarray]], None] | None = None,
    detect: Callable[[dict[str, Any]], list[np.ndarray]] | None = None,
) -> Evaluation | None:
    """Run `model` over `loader` and compare its detections with `ground_truth`.

    Args:
        model: Maps images (B, 3, H, W) float 0..1 RGB on `device` to boxes (B, N, 4) xyxy in pixels of that input and
            scores (B, N, nc), tensors or arrays. A torch module is set to eval mode meanwhile.
        loader: Batches as dicts with "images" (B, 3, H, W) uint8 RGB and lists "image_ids", "gains", "pads", "shapes"
            (see `letterbox`).
        ground_truth: COCO dict.
        category_ids: Category id of each class index.
        device: Device of the model.
        conf: Minimum score.
        iou: IoU threshold of NMS.
        max_det: Maximum detections per image.
        half: Compute in float16 on CUDA, in bfloat16 elsewhere, without changing the weights.
        progress: Show progress.
        method: Method of `select_detections`; None: the one that the model needs (`default_method`).
        ranks: `graftdet.utils.distributed.Ranks` of several processes. Each runs the weights of the main process on its
            part of the images.
        losses: Called with the model, images and targets (M, 6) of a batch instead of the model; returns what the model
            returns, and losses by name.
        on_batch: Called in the main process with the number of each batch, the batch, and the detections (n, 6) of each
            image in pixels of the original image, score, class index.
        detect: Called with each batch instead of `model` and NMS; returns the detections (n, 6) of each image, xyxy in
            pixels of its shape, score, class. The batches need "image_ids" and what `detect` reads.

    Returns:
        The evaluation; None in processes other than the main one.

    Raises:
        UserError: If `model` has another number of classes.
    """
    import torch

    device = torch.device(device)
    if ranks:
        ranks.broadcast_state(model)
    seconds = {"preprocess": 0.0, "inference": 0.0, "nms": 0.0}
    was_training = getattr(model, "training", False)
    if was_training:
        model.eval()
    settings = {"conf": conf, "iou": iou, "max_det": max_det, "method": method or default_method(model)}
    settings["multi_label"] = len(category_ids) > 1
    is_main = ranks is None or ranks.is_main
    try:
        with torch.no_grad(), ExitStack() as stack:
            if half:
                dtype = torch.float16 if device.type == "cuda" else torch.bfloat16
                stack.enter_context(torch.autocast(device.type, dtype))
            bar = stack.enter_context(Progress(len(loader), "validation", quiet=not (progress and is_main)))
            detections = []  # a list of (image id, rows) for each batch
            totals: dict[str, float] = {}  # of each loss over the images
            for number, batch in enumerate(stack.enter_context(_prefetched(loader))):
                adapt_threads()
                if detect is None:
                    found, values = _detect(model, batch, len(category_ids), seconds, device, settings, losses)
                else:
                    timer = _Timer(device)
                    found, values = list(zip(batch["image_ids"], detect(batch), strict=True)), {}
                    seconds["inference"] += timer.lap()
                detections.append(found)
                for name, value in values.items():
                    totals[name] = totals.get(name, 0.0) + float(value) * len(found)
                if on_batch and is_main:
                    on_batch(number, batch, [rows for _, rows in found])
                bar.step()
    finally:
        if was_training:
            model.train()
    own = detections, seconds, _unreadable_ids(loader), totals
    parts = ranks.gather(own) if ranks else [own]
    if parts is None:
        return None
    return _score_parts(parts, ground_truth, category_ids)


def _prefetched(loader: Any) -> Any:
    """A context manager that gives the batches of a loader, prefetched by a thread if there are no workers."""
    if getattr(loader, "workers", 0):  # workers prefetch themselves and must not be forked from a thread
        return nullcontext(loader)
    return Pipeline(loader, [], capacity=PREFETCHED)


def _score_parts(parts: list[tuple], ground_truth: dict[str, Any], category_ids: Sequence[Any]) -> Evaluation:
    """Combine the (detections, seconds, ids of unreadable images, sums of losses) of all processes."""
    results = CocoResults(category_ids)
    for batches in zip_longest(*[part[0] for part in parts], fillvalue=()):
        for images in zip_longest(*batches):  # the images of a batch are distributed in turn
            for image in filter(None, images):
                results.add(*image)
    num_images = max(len(results.image_ids), 1)
    speed = {name: 1000 * sum(part[1][name] for part in parts) / num_images for name in parts[0][1]}
    evaluation = score(_without(ground_truth, set().union(*(part[2] for part in parts))), results, speed)
    sums = [part[3] for part in parts]
    evaluation.losses = {name: sum(one.get(name, 0.0) for one in sums) / num_images for name in sums[0]}
    return evaluation


def _unreadable_ids(loader: Any) -> set:
    """The ids of images that the loader's dataset could not read; they are skipped, not counted as missed."""
    dataset = getattr(loader, "dataset", None)
    return {dataset.image_ids[index] for index in getattr(dataset, "unreadable", ())}


def _without(ground_truth: dict[str, Any], image_ids: set) -> dict[str, Any]:
    """The ground truth without some images."""
    if not image_ids:
        return ground_truth
    images = [image for image in ground_truth["images"] if image["id"] not in image_ids]
    annotations = [a for a in ground_truth.get("annotations", []) if a["image_id"] not in image_ids]
    return {**ground_truth, "images": images, "annotations": annotations}


def _detect(
    model: Any, batch: dict[str, Any], nc: int, seconds: dict[str, float], device: Any, settings: dict, losses: Any
) -> tuple[list[tuple], dict[str, Any]]:
    """Run one batch.

    Returns:
        The id of each image and its detections (n, 6) in pixels of the original image; losses by name.
    """
    import torch

    timer = _Timer(device)
    images = torch.as_tensor(batch["images"]).to(device, non_blocking=True).to(_float_type(model)) / 255
    seconds["preprocess"] += timer.lap()
    if losses:
        (boxes, scores), values = losses(model, images, batch["targets"].to(device, non_blocking=True))
    else:
        (boxes, scores), values = model(images), {}
    seconds["inference"] += timer.lap()
    if scores.shape[2] != nc:
        raise UserError(f"the model has {counted(scores.shape[2], 'class')}, the dataset has {nc}")
    detections = []
    for index, image_id in enumerate(batch["image_ids"]):
        rows = select_detections(boxes[index], scores[index], **settings)
        shape, pad = batch["shapes"][index], batch["pads"][index]
        rows[:, :4] = unletterbox(rows[:, :4], batch["gains"][index], pad, shape)
        detections.append((image_id, rows))
    seconds["nms"] += timer.lap()
    return detections, values


def score(ground_truth: dict[str, Any], results: CocoResults, speed: dict[str, float]) -> Evaluation:
    """Compare detections with the COCO dict of the images that could be read."""
    truth = GroundTruth(ground_truth)
    metrics, hits = truth.scores(results)
    nc, index = len(results.category_ids), {given: k for k, given in enumerate(results.category_ids)}
    classes = np.array([index.get(given, -1) for given in truth.categories], int)  # class index of each category
    boxes = truth.boxes.take(np.flatnonzero(classes[truth.boxes.category] >= 0))
    labels = classes[boxes.category]
    instances = np.bincount(labels[~boxes.crowd], minlength=nc)  # of each class, without crowd regions
    pairs = np.unique(np.stack((labels, boxes.image))[:, ~boxes.crowd], axis=1)
    images = np.bincount(pairs[0], minlength=nc)  # with at least one of them

    rows = results.rows()
    _, scores, detected_labels = results.columns()
    curves = precision_recall_curves(hits, scores, detected_labels, instances)
    confusion = ConfusionMatrix(nc)
    confusion.update(rows, xywh_to_xyxy(boxes.xywh), labels, boxes.crowd, truth.image_indices(results), boxes.image)

    coco_classes = {entry["id"]: entry for entry in metrics.pop("per_class")}
    for name in ("precision", "recall", "f1"):
        values = curves.at_best(name)[instances > 0]
        metrics[name] = float(values.mean()) if len(values) else 0.0
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
            entry[which] = float(curves.at_best(which)[k]) if instances[k] else float("nan")
        per_class.append({**entry, "AP50": coco["AP50"], "AP50-95": coco["AP50-95"]})
    images = len(results.image_ids)
    total = int(instances.sum())
    return Evaluation(metrics, per_class, results, curves, confusion, speed, images, total, truth, hits)


class _Timer:
    """Measures the time between calls; waits for pending work of the device."""

    def __init__(self, device: "torch.device"):
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


def _float_type(model: Any) -> Any:
    """The type of a model's weights, float32 without weights (an exported file)."""
    import torch

    parameters = getattr(model, "parameters", None)
    first = next(iter(parameters()), None) if callable(parameters) else None
    return first.dtype if first is not None and first.is_floating_point() else torch.float32
