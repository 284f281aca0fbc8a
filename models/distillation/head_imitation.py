"""Conversion between kinds of heads: a new head is fitted to the boxes and scores of the one that the weights have."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch

from graftdet.models.distillation.distiller import SCORE_WEIGHT, decode_per_cell
from graftdet.models.distillation.losses import box_loss, score_loss
from graftdet.models.graph.detection_model import DetectionModel
from graftdet.models.graph.shape_inference import evaluating
from graftdet.models.weights.class_outputs import match_classes
from graftdet.models.weights.new_row_init import recompute_batch_norms
from graftdet.utils.text import counted

NUM_STEPS = 200
LEARNING_RATE = 0.003
BATCH = 8


@dataclass
class HeadImitation:
    """How a head was initialized.

    Attributes:
        head: class of the new head.
        original: class of the head of the weights.
        classes: number of classes whose scores were fitted.
        boxes: loss of the boxes before and after, 0..2.
        scores: loss of the scores before and after; None without common classes.
    """

    head: str
    original: str
    classes: int
    boxes: tuple[float, float]
    scores: tuple[float, float] | None

    def __str__(self):
        text = f"head: {self.head} initialized to imitate {self.original} of the weights, loss of boxes "
        text += f"{self.boxes[0]:.2f} -> {self.boxes[1]:.2f}"
        if self.scores is None:
            return f"{text}; no class of the same name, so that class outputs start anew"
        return f"{text}, of the scores of {counted(self.classes, 'class')} {self.scores[0]:.2f} -> {self.scores[1]:.2f}"


def imitate_head(
    model: DetectionModel, original: DetectionModel, batches: Iterable[torch.Tensor]
) -> HeadImitation | None:
    """Fit the head of `model`, in place, to the boxes and scores that the head of `original` gives for the same images.

    Both are compared per cell, as in distillation: of several anchors per cell that with the best score counts, and
    each class takes the scores of the class of its name. Other classes and all other rows stay as they are. The global
    random state is restored.

    Args:
        model: a model whose other rows hold the weights of the original.
        original: the model that these come from, in eval mode.
        batches: images (B, C, H, W) in 0..1.

    Returns:
        What was fitted; None where the levels of both heads differ.
    """
    head, teacher = model.head, original.head
    if head.strides != teacher.strides:
        return None
    matches = match_classes(model.names, original.names)
    images = torch.cat(list(batches)).to(next(model.parameters()).device)
    with torch.no_grad(), evaluating(model):
        maps = model.head_inputs(images)
        boxes, scores = decode_per_cell(teacher, teacher.distillation_maps(_train_outputs(original, images)))
    weights, wanted = scores.amax(-1).square(), scores[..., list(matches.values())]

    def losses(which: torch.Tensor | slice) -> list[torch.Tensor]:
        raw = head.distillation_maps(head([x[which] for x in maps]))
        own_boxes, own_scores = decode_per_cell(head, raw)
        found = [box_loss(own_boxes, boxes[which], weights[which])]
        if matches:
            found.append(score_loss(own_scores[..., list(matches)], wanted[which]))
        return found

    training = head.training
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(0)
        head.train()
        with torch.no_grad():
            before = [loss.item() for loss in losses(slice(None))]
        parameters = [p for p in head.parameters() if p.requires_grad]
        optimizer = torch.optim.Adam(parameters, LEARNING_RATE)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, NUM_STEPS)
        for _ in range(NUM_STEPS):
            optimizer.zero_grad(set_to_none=True)
            box, *score = losses(torch.randperm(len(images))[:BATCH].to(images.device))
            (box + sum(score) * SCORE_WEIGHT).backward()
            optimizer.step()
            schedule.step()
        optimizer.zero_grad(set_to_none=True)
        with torch.no_grad():
            after = [loss.item() for loss in losses(slice(None))]
        recompute_batch_norms(head, maps)
    head.train(training)
    pairs = list(zip(before, after, strict=True))
    names = type(head).__name__, type(teacher).__name__
    return HeadImitation(*names, len(matches), pairs[0], pairs[1] if matches else None)


def _train_outputs(model: DetectionModel, images: torch.Tensor):
    """Raw outputs of all branches of the head, from rows in eval mode."""
    model.eval().head.training = True  # its own flag alone, not those of its batch norms
    try:
        return model.raw_outputs(images)
    finally:
        model.eval()
