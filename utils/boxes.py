"""Box formats and areas, for numpy arrays and torch tensors alike.

`xyxy` is left, top, right, bottom; `xywh` is left, top, width, height; `cxcywh` is center x, center y, width, height.
All boxes of a call have the same unit, whichever it is.
"""

from typing import Any

import numpy as np

SMALL_AREA, MEDIUM_AREA = 32**2, 96**2  # upper limits of COCO's small and medium objects, square pixels


def is_tensor(array: Any) -> bool:
    """Return whether `array` is a torch tensor, without importing torch."""
    return type(array).__module__.split(".")[0] == "torch" or hasattr(array, "requires_grad")


def xyxy_to_cxcywh(boxes_xyxy: Any) -> Any:
    """(..., 4) xyxy -> (..., 4) cxcywh of the same array type and unit. Integer arrays become float32."""
    boxes_xyxy = _as_float(boxes_xyxy)
    low, high = boxes_xyxy[..., :2], boxes_xyxy[..., 2:]
    return _join((low + high) / 2, high - low)


def cxcywh_to_xyxy(boxes_cxcywh: Any) -> Any:
    """(..., 4) cxcywh -> (..., 4) xyxy of the same array type and unit. Integer arrays become float32."""
    boxes_cxcywh = _as_float(boxes_cxcywh)
    center, half = boxes_cxcywh[..., :2], boxes_cxcywh[..., 2:] / 2
    return _join(center - half, center + half)


def xyxy_to_xywh(boxes_xyxy: Any) -> Any:
    """(..., 4) xyxy -> (..., 4) xywh of the same array type and unit."""
    return _join(boxes_xyxy[..., :2], boxes_xyxy[..., 2:] - boxes_xyxy[..., :2])


def xywh_to_xyxy(boxes_xywh: Any) -> Any:
    """(..., 4) xywh -> (..., 4) xyxy of the same array type and unit."""
    return _join(boxes_xywh[..., :2], boxes_xywh[..., :2] + boxes_xywh[..., 2:])


def box_area(boxes_xyxy: Any) -> Any:
    """(..., 4) xyxy -> (...) areas; an inverted box has area 0."""
    sides = (boxes_xyxy[..., 2:] - boxes_xyxy[..., :2]).clip(0)
    return sides[..., 0] * sides[..., 1]


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
