"""The criterion of YOLOX: IoU loss, objectness and classes of the cells that SimOTA selects."""

import torch
import torch.nn.functional as F

from graftdet.models.losses.assigners.simota import YOLOXAssigner
from graftdet.models.losses.criterion import DenseCriterion
from graftdet.models.losses.iou import iou
from graftdet.models.losses.points import flatten_levels, level_points
from graftdet.models.losses.targets import unpack_targets
from graftdet.utils.boxes import cxcywh_to_xyxy
from graftdet.utils.distributed import average_over_processes


def decode_boxes(outputs: torch.Tensor, points: torch.Tensor, strides: torch.Tensor) -> torch.Tensor:
    """Decode box outputs: xy = (y + cell) stride, wh = exp(y) stride, where the cell is that of its corner.

    Args:
        outputs: (..., 4) x, y, w, h.
        points: (..., 2) x, y of the cells' centers in pixels.
        strides: (...,) pixels per cell.

    Returns:
        Boxes (..., 4) cxcywh in pixels.
    """
    strides = strides[..., None]
    return torch.cat(((outputs[..., :2] - 0.5) * strides + points, outputs[..., 2:].exp() * strides), -1)


class YOLOXCriterion(DenseCriterion):
    """Box, objectness and class losses, each the sum over a batch per positive, times its gain.

    The box loss is 1 - IoU^2. Objectness is trained on all cells, 1 for positives; the classes of positives on the IoU
    for their own class, 0 for all others. Called with raw outputs, a list of (B, 5 + nc, H, W), and targets (M, 6);
    returns {"box", "obj", "cls"}.

    Args:
        nc: number of classes.
        strides: pixels per cell, one per level.
        gains: of "box", "obj" and "cls"; None: 5, 1, 1, as published.

    Source:
        Ge et al., YOLOX, 2021, sections 2.1 and 2.2, without the L1 loss of the last epochs.
    """

    def __init__(self, nc: int, strides: list[float], gains: dict[str, float] | None = None):
        self.nc, self.strides, self.assign = nc, strides, YOLOXAssigner()
        super().__init__(gains or {"box": 5.0, "obj": 1.0, "cls": 1.0})

    def _losses(self, raw: list[torch.Tensor], targets: torch.Tensor) -> dict[str, torch.Tensor]:
        _, _, height, width = raw[0].shape
        outputs, classes = flatten_levels(raw, 5)
        objectness = outputs[..., 4]
        points, strides = level_points([(y.shape[2], y.shape[3]) for y in raw], self.strides, outputs)
        truth = unpack_targets(targets, round(height * self.strides[0]), round(width * self.strides[0]))
        boxes = cxcywh_to_xyxy(decode_boxes(outputs[..., :4], points, strides))
        with torch.no_grad():
            scores = (classes.sigmoid() * objectness.sigmoid()[..., None]).sqrt()
            found = self.assign(scores, boxes.detach(), points, strides, truth)
        image, point, label = truth.image[found.box], found.point, truth.labels[found.box]  # (K,)
        predicted = classes[image, point]
        wanted_classes = torch.zeros_like(predicted)
        wanted_classes[torch.arange(len(label), device=label.device), label] = found.quality
        wanted_objectness = torch.zeros_like(objectness)
        wanted_objectness[image, point] = 1
        losses = {
            "box": 1 - iou(boxes[image, point], truth.boxes[found.box]).square(),
            "obj": F.binary_cross_entropy_with_logits(objectness, wanted_objectness, reduction="none"),
            "cls": F.binary_cross_entropy_with_logits(predicted, wanted_classes, reduction="none"),
        }
        positives = average_over_processes(objectness.new_tensor(len(label)), minimum=1)
        return {name: loss.sum() / positives * self.gains[name] for name, loss in losses.items()}
