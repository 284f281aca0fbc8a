"""IoU of matching boxes and its generalized, complete and SCYLLA variants; the loss of each is 1 minus it.

All functions take boxes (..., 4) xyxy in any one unit, predictions first, that broadcast; they compute in float32 and
return (...), at most 1, which equal boxes reach.
"""

import torch
from graftdet.utils.boxes import ciou as _ciou_cxcywh
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
    2020, section 3; see `graftdet.utils.boxes.ciou`)."""
    return _ciou_cxcywh(xyxy_to_cxcywh(boxes_xyxy.float()), xyxy_to_cxcywh(targets_xyxy.float()))


@IOU_FUNCTIONS.register("siou")
def siou(boxes_xyxy: torch.Tensor, targets_xyxy: torch.Tensor) -> torch.Tensor:
    """IoU minus half of the distance and shape costs, the distance weighted by its angle (Gevorgyan, SIoU Loss, 2022,
    equations 1 to 14, theta 4)."""
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
