"""Non-maximum suppression inside an exported graph, by the ONNX operation NonMaxSuppression."""

from typing import Any

import torch
from torch import Tensor

CANDIDATES = 4096  # boxes per image that enter, the best ones; it bounds the time at low thresholds


class _NonMaxSuppression(torch.autograd.Function):
    """Stands for the operation while tracing; it has no result in torch."""

    @staticmethod
    def forward(ctx: Any, boxes: Tensor, scores: Tensor, most: Tensor, iou: Tensor, conf: Tensor) -> Tensor:
        """One arbitrary (image, class, box), (1, 3)."""
        return torch.zeros(1, 3, dtype=torch.int64)

    @staticmethod
    def symbolic(g: Any, boxes: Any, scores: Any, most: Any, iou: Any, conf: Any) -> Any:
        """The ONNX operation: (selected, 3)."""
        return g.op("NonMaxSuppression", boxes, scores, most, iou, conf)


def select(
    boxes_xyxy: Tensor, scores: Tensor, conf: float, iou: float, max_det: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Trace the selection of detections, one class per box, suppressed within each class.

    Args:
        boxes_xyxy: (B, N, 4).
        scores: (B, N, nc).
        conf: lowest score.
        iou: of two boxes of a class that overlap by a larger IoU, only the better is returned.
        max_det: maximum number of detections per image, and per class.

    Returns:
        Boxes (B, M, 4), scores (B, M) in descending order and 0 from `count` on, classes (B, M) and count (B,), both
        int64. M is the smaller of `max_det`, N and `CANDIDATES`.
    """
    best, labels = scores.max(-1)  # (B, N)
    best, order = (part[:, :CANDIDATES] for part in best.sort(1, descending=True))  # slices adapt to fewer rows
    labels = labels.gather(1, order)  # (B, K)
    boxes = boxes_xyxy.gather(1, order[..., None].repeat(1, 1, 4))
    classes = torch.arange(scores.shape[2])[None, :, None]
    of_class = (labels[:, None] == classes).to(best.dtype) * best[:, None]  # (B, nc, K), 0 for other classes
    limits = (torch.tensor([max_det]), torch.tensor([iou]), torch.tensor([conf]))
    selected = _NonMaxSuppression.apply(boxes, of_class, *limits)  # (S, 3)
    is_selected = torch.zeros_like(best).index_put(
        (selected[:, 0], selected[:, 2]), torch.ones_like(selected[:, 0], dtype=best.dtype)
    )
    best, order = (part[:, :max_det] for part in (best * is_selected).sort(1, descending=True))
    boxes = boxes.gather(1, order[..., None].repeat(1, 1, 4))
    return boxes, best, labels.gather(1, order), (best > 0).sum(1)
