"""IoU of matching boxes and its generalized, complete and SCYLLA variants; the loss of each is 1 minus it.

The functions of `IOU_FUNCTIONS` take boxes (..., 4) xyxy in one unit, predictions first, that broadcast; they compute
in float32 and return (...), at most 1, which equal boxes reach.
"""

import math

import torch

from graftdet.utils.boxes import xyxy_to_cxcywh
from graftdet.utils.registry import Registry

EPS = 1e-7

IOU_FUNCTIONS = Registry("IoU")
"""name -> function of boxes (..., 4) and targets (..., 4), both xyxy, that broadcast -> (...), at most 1."""


def _parts(boxes, targets):
    """Both as float32; intersection, union (...) and the sides (..., 2) of the smallest box that encloses both."""
    boxes, targets = boxes.float(), targets.float()
    low, high = torch.maximum(boxes[..., :2], targets[..., :2]), torch.minimum(boxes[..., 2:], targets[..., 2:])
    intersection = (high - low).clamp(min=0).prod(-1)
    union = (boxes[..., 2:] - boxes[..., :2]).prod(-1) + (targets[..., 2:] - targets[..., :2]).prod(-1) - intersection
    hull = torch.maximum(boxes[..., 2:], targets[..., 2:]) - torch.minimum(boxes[..., :2], targets[..., :2])
    return boxes, targets, intersection, union, hull


@IOU_FUNCTIONS.register("iou")
def iou(boxes_xyxy: torch.Tensor, targets_xyxy: torch.Tensor) -> torch.Tensor:
    """Intersection over union."""
    _, _, intersection, union, _ = _parts(boxes_xyxy, targets_xyxy)
    return intersection / (union + EPS)


@IOU_FUNCTIONS.register("giou")
def giou(boxes_xyxy: torch.Tensor, targets_xyxy: torch.Tensor) -> torch.Tensor:
    """IoU minus the fraction of the enclosing box outside the union (Rezatofighi et al., GIoU, 2019, algorithm 1)."""
    _, _, intersection, union, hull = _parts(boxes_xyxy, targets_xyxy)
    area = hull.prod(-1)
    return intersection / (union + EPS) - (area - union) / (area + EPS)


@IOU_FUNCTIONS.register("ciou")
def ciou(boxes_xyxy: torch.Tensor, targets_xyxy: torch.Tensor) -> torch.Tensor:
    """IoU minus the distance of centers and the difference of aspect ratios (Zheng et al., Enhancing Geometric Factors,
    2020, section 3; see `ciou_cxcywh`).
    """
    return ciou_cxcywh(xyxy_to_cxcywh(boxes_xyxy.float()), xyxy_to_cxcywh(targets_xyxy.float()))


def ciou_cxcywh(boxes_cxcywh: torch.Tensor, targets_cxcywh: torch.Tensor, eps: float = EPS) -> torch.Tensor:
    """Complete IoU of matching rows: (..., 4) and (..., 4) cxcywh -> (...), at most 1.

    IoU - (distance of the centers / diagonal of the enclosing box)^2 - alpha * v, where v compares the aspect ratios
    and alpha has no gradient (Zheng et al. 2020, "Enhancing Geometric Factors in Model Learning and Inference for
    Object Detection and Instance Segmentation", section 3). As in the published YOLOv5 recipe, `eps` is added to the
    heights. The format is cxcywh because heads predict sizes; as differences of corners they would lose precision.
    """
    x1, y1, w1, h1 = boxes_cxcywh.unbind(-1)
    x2, y2, w2, h2 = targets_cxcywh.unbind(-1)
    left1, right1, left2, right2 = x1 - w1 / 2, x1 + w1 / 2, x2 - w2 / 2, x2 + w2 / 2
    top1, bottom1, top2, bottom2 = y1 - h1 / 2, y1 + h1 / 2, y2 - h2 / 2, y2 + h2 / 2
    h1, h2 = h1 + eps, h2 + eps

    width = (right1.minimum(right2) - left1.maximum(left2)).clamp(min=0)
    height = (bottom1.minimum(bottom2) - top1.maximum(top2)).clamp(min=0)
    intersection = width * height
    iou = intersection / (w1 * h1 + w2 * h2 - intersection + eps)

    hull_width = right1.maximum(right2) - left1.minimum(left2)
    hull_height = bottom1.maximum(bottom2) - top1.minimum(top2)
    distance = ((x2 - x1) ** 2 + (y2 - y1) ** 2) / (hull_width**2 + hull_height**2 + eps)
    v = (4 / math.pi**2) * (torch.atan(w2 / h2) - torch.atan(w1 / h1)) ** 2
    with torch.no_grad():
        alpha = v / (v - iou + (1 + eps))
    return iou - distance - alpha * v


@IOU_FUNCTIONS.register("siou")
def siou(boxes_xyxy: torch.Tensor, targets_xyxy: torch.Tensor) -> torch.Tensor:
    """IoU minus half of the distance and shape costs, the distance weighted by its angle (Gevorgyan, SIoU Loss, 2022,
    equations 1 to 14, theta 4).
    """
    boxes, targets, intersection, union, hull = _parts(boxes_xyxy, targets_xyxy)
    offset = (targets[..., :2] + targets[..., 2:] - boxes[..., :2] - boxes[..., 2:]) / 2  # (..., 2) between centers
    length = (offset**2).sum(-1).add(EPS).sqrt()
    # the paper's 1 - 2 sin^2(arcsin(x) - pi/4) is sin(2 arcsin(x)) = 2 x sqrt(1 - x^2)
    sine = (offset[..., 1].abs() / length).clamp(max=1 - EPS)
    angle = 2 * sine * (1 - sine**2).sqrt()
    rho = (offset / (hull + EPS)) ** 2
    distance = (1 - torch.exp(-(2 - angle)[..., None] * rho)).sum(-1)
    sides, wanted = boxes[..., 2:] - boxes[..., :2], targets[..., 2:] - targets[..., :2]
    omega = (sides - wanted).abs() / (torch.maximum(sides, wanted) + EPS)
    shape = ((1 - torch.exp(-omega)) ** 4).sum(-1)
    return intersection / (union + EPS) - (distance + shape) / 2
