"""Box formats and overlaps, for numpy arrays and torch tensors alike.

`xyxy` is left, top, right, bottom; `cxcywh` is center x, center y, width, height. All boxes of a call have the same
unit, whichever it is.
"""

import math

import numpy as np

PUBLISHED_EPS = 1e-7
SMALL_AREA, MEDIUM_AREA = 32**2, 96**2  # upper limits of COCO's small and medium objects, square pixels


def is_tensor(array) -> bool:
    """Return whether `array` is a torch tensor, without importing torch."""
    return type(array).__module__.split(".")[0] == "torch" or hasattr(array, "requires_grad")


def xyxy_to_cxcywh(boxes_xyxy):
    """(..., 4) xyxy -> (..., 4) cxcywh of the same array type and unit. Integer arrays become float32."""
    boxes_xyxy = _as_float(boxes_xyxy)
    low, high = boxes_xyxy[..., :2], boxes_xyxy[..., 2:]
    return _join((low + high) / 2, high - low)


def cxcywh_to_xyxy(boxes_cxcywh):
    """(..., 4) cxcywh -> (..., 4) xyxy of the same array type and unit. Integer arrays become float32."""
    boxes_cxcywh = _as_float(boxes_cxcywh)
    center, half = boxes_cxcywh[..., :2], boxes_cxcywh[..., 2:] / 2
    return _join(center - half, center + half)


def box_area(boxes_xyxy):
    """(..., 4) xyxy -> (...) areas; an inverted box has area 0."""
    sides = (boxes_xyxy[..., 2:] - boxes_xyxy[..., :2]).clip(0)
    return sides[..., 0] * sides[..., 1]


def ciou(boxes_cxcywh, targets_cxcywh, eps: float = PUBLISHED_EPS):
    """Complete IoU of matching rows, torch only: (..., 4) and (..., 4) cxcywh -> (...), at most 1.

    IoU - (distance of the centers / diagonal of the enclosing box)^2 - alpha * v, where v compares the aspect ratios
    and alpha has no gradient (Zheng et al. 2020, "Enhancing Geometric Factors in Model Learning and Inference for
    Object Detection and Instance Segmentation", section 3). As in the published YOLOv5 recipe, `eps` is added to the
    heights. The format is cxcywh because heads predict sizes; as differences of corners they would lose precision.
    """
    import torch

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


def _as_float(boxes):
    if is_tensor(boxes):
        return boxes if boxes.is_floating_point() else boxes.float()
    boxes = np.asarray(boxes)
    return boxes if np.issubdtype(boxes.dtype, np.floating) else boxes.astype(np.float32)


def _join(first, second):
    if is_tensor(first):
        import torch

        return torch.cat((first, second), dim=-1)
    return np.concatenate((first, second), axis=-1)
