"""The criterion of BlazeFace's head: several boxes per cell, all from its center."""

import torch
from torch.nn.functional import smooth_l1_loss

from graftdet.models.losses.assigners.simota import SimOTAAssigner
from graftdet.models.losses.classification import CLASS_LOSSES
from graftdet.models.losses.criterion import DenseCriterion
from graftdet.models.losses.points import level_points
from graftdet.models.losses.targets import unpack_targets
from graftdet.utils.boxes import cxcywh_to_xyxy, xyxy_to_cxcywh
from graftdet.utils.distributed import average_over_processes


def flatten_cells(
    raw: list[torch.Tensor], strides: list[float]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Flatten raw outputs: level after level, the first box of all cells, the second, and so on.

    Args:
        raw: (B, A, H, W, 4 + nc) tensors, one per level, with its own A.
        strides: pixels per cell, one per level.

    Returns:
        Boxes (B, N, 4) cxcywh in pixels, class outputs (B, N, nc), centers of the cells (N, 2) in pixels, and the
        stride of each, (N,).
    """
    rows, points, strides_of_points = [], [], []
    for y, stride in zip(raw, strides, strict=True):
        rows.append(y.flatten(1, 3))  # (B, A H W, 4 + nc)
        centers, pixels = level_points([(y.shape[2], y.shape[3])], [stride], y)
        points.append(centers.repeat(y.shape[1], 1))
        strides_of_points.append(pixels.repeat(y.shape[1]))
    outputs, centers = torch.cat(rows, 1), torch.cat(points)
    boxes = torch.cat((outputs[..., :2] + centers, outputs[..., 2:4]), -1)
    return boxes, outputs[..., 4:], centers, torch.cat(strides_of_points)


class BlazeFaceCriterion(DenseCriterion):
    """Varifocal loss of the classes, smooth L1 loss of center and size in strides, assigned by SimOTA.

    Called with raw outputs, a list of (B, A, H, W, 4 + nc), and targets (M, 6); returns {"box", "cls"}, each a mean
    over positives times its gain.

    Args:
        strides: pixels per cell, one per level.
        gains: of "box" and "cls"; None: 1 each.

    Source:
        Bazarevsky et al., BlazeFace, 2019, does not describe its losses; smooth L1 as in Liu et al., SSD, 2016, section
        2.2, assignment as in Ge et al., YOLOX, 2021.
    """

    def __init__(self, strides: list[float], gains: dict[str, float] | None = None):
        self.strides, self.assign = strides, SimOTAAssigner()
        self.class_loss = CLASS_LOSSES["varifocal"]
        super().__init__(gains or {"box": 1.0, "cls": 1.0})

    def _losses(self, raw: list[torch.Tensor], targets: torch.Tensor) -> dict[str, torch.Tensor]:
        height, width = (round(side * self.strides[0]) for side in raw[0].shape[2:4])
        boxes, classes, points, strides = flatten_cells(raw, self.strides)
        truth = unpack_targets(targets, height, width)
        with torch.no_grad():
            not_empty = torch.cat((boxes[..., :2], boxes[..., 2:].clamp(min=1)), -1)
            found = self.assign(classes.sigmoid(), cxcywh_to_xyxy(not_empty), points, strides, truth)
        image, point, label = truth.image[found.box], found.point, truth.labels[found.box]  # (K,)
        wanted = torch.zeros_like(classes)
        wanted[image, point, label] = found.quality
        positives = average_over_processes(wanted.new_tensor(len(point)), minimum=1)
        scale = strides[point, None]
        distance = smooth_l1_loss(
            boxes[image, point] / scale, xyxy_to_cxcywh(truth.boxes[found.box]) / scale, reduction="sum"
        )
        losses = {"box": distance / positives, "cls": self.class_loss(classes, wanted).sum() / positives}
        return {name: losses[name] * gain for name, gain in self.gains.items()}
