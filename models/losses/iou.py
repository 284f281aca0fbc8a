"""How well boxes overlap, as losses want it: IoU and its generalised, complete and scylla forms, of matching rows.

All functions take boxes (..., 4) xyxy in any one unit, the predicted ones first, that broadcast, compute in float32 and
return (...), 1 for equal boxes. The loss of each is 1 minus it.
"""

import torch
from graftdet.utils.boxes import ciou as _ciou_cxcywh
from graftdet.utils.boxes import xyxy_to_cxcywh
from graftdet.utils.registry import Registry

EPS = 1e-7

OVERLAPS = Registry("box loss")
"""name -> function of boxes (..., 4) and targets (..., 4), both xyxy, that broadcast -> (...), at most 1."""


def _parts(boxes, targets):
    """Both as float32; intersection, union (...) and the sides (..., 2) of the smallest box around both."""
    boxes, targets = boxes.float(), targets.float()
    low, high = torch.maximum(boxes[..., :2], targets[..., :2]), torch.minimum(boxes[..., 2:], targets[..., 2:])
    intersection = (high - low).clamp(min=0).prod(-1)
    union = (boxes[..., 2:] - boxes[..., :2]).prod(-1) + (targets[..., 2:] - targets[..., :2]).prod(-1) - intersection
    hull = torch.maximum(boxes[..., 2:], targets[..., 2:]) - torch.minimum(boxes[..., :2], targets[..., :2])
    return boxes, targets, intersection, union, hull


@OVERLAPS.register("iou")
def iou(boxes_xyxy, targets_xyxy):
    """Intersection over union."""
    _, _, intersection, union, _ = _parts(boxes_xyxy, targets_xyxy)
    return intersection / (union + EPS)


@OVERLAPS.register("giou")
def giou(boxes_xyxy, targets_xyxy):
    """IoU minus the share of the enclosing box that neither fills (Rezatofighi et al., 2019, algorithm 1)."""
    _, _, intersection, union, hull = _parts(boxes_xyxy, targets_xyxy)
    area = hull.prod(-1)
    return intersection / (union + EPS) - (area - union) / (area + EPS)


@OVERLAPS.register("ciou")
def ciou(boxes_xyxy, targets_xyxy):
    """IoU minus distance of centres and difference of aspect (Zheng et al., 2020, section 3; see `graftdet.utils.boxes.ciou`)."""
    return _ciou_cxcywh(xyxy_to_cxcywh(boxes_xyxy.float()), xyxy_to_cxcywh(targets_xyxy.float()))


@OVERLAPS.register("siou")
def siou(boxes_xyxy, targets_xyxy):
    """IoU minus half of distance and shape costs, the distance weighted by its angle (Gevorgyan, "SIoU Loss", 2022,
    equations 1 to 14, theta 4)."""
    boxes, targets, intersection, union, hull = _parts(boxes_xyxy, targets_xyxy)
    apart = (targets[..., :2] + targets[..., 2:] - boxes[..., :2] - boxes[..., 2:]) / 2  # (..., 2) between centres
    length = (apart**2).sum(-1).add(EPS).sqrt()
    # the paper's 1 - 2 sin^2(arcsin(x) - pi/4) is sin(2 arcsin(x)) = 2 x sqrt(1 - x^2)
    sine = (apart[..., 1].abs() / length).clamp(max=1 - EPS)
    angle = 2 * sine * (1 - sine**2).sqrt()
    rho = (apart / (hull + EPS)) ** 2
    distance = (1 - torch.exp(-(2 - angle)[..., None] * rho)).sum(-1)
    sides, wanted = boxes[..., 2:] - boxes[..., :2], targets[..., 2:] - targets[..., :2]
    omega = (sides - wanted).abs() / (torch.maximum(sides, wanted) + EPS)
    shape = ((1 - torch.exp(-omega)) ** 4).sum(-1)
    return intersection / (union + EPS) - (distance + shape) / 2
