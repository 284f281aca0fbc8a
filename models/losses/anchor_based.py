"""The criterion of anchor-based YOLOv5 models, after its published recipe."""

import torch
import torch.nn.functional as F
from graftdet.utils.boxes import ciou
from graftdet.utils.distributed import over_processes

BALANCE = {3: (4.0, 1.0, 0.4), 4: (4.0, 1.0, 0.25, 0.06)}
BALANCE_MANY = (4.0, 1.0, 0.25, 0.06, 0.02)  # the last one for all further levels


class AnchorAssigner:
    """Which anchors of which cells learn a box: those of similar shape, in its cell and the two nearest cells.

    An anchor matches when neither its width nor its height differs from the box by `ratio` or more, either way.
    """

    def __init__(self, ratio: float = 4.0):
        self.ratio = ratio

    def __call__(self, targets, anchors, height: int, width: int):
        """Assign on one level.

        Args:
            targets: (M, 6) image, class, cx, cy, w, h normalised.
            anchors: (A, 2) in units of the stride.

        Returns:
            indices: image, anchor, row, column, each (K,); boxes (K, 4): x, y from the cell's corner and w, h in units
            of the stride; labels (K,); anchors (K, 2).
        """
        size = targets.new_tensor([width, height])
        xy, wh = targets[:, 2:4] * size, targets[:, 4:6] * size  # (M, 2) in cells
        ratio = wh[None] / anchors[:, None]  # (A, M, 2)
        matched = torch.max(ratio, 1 / ratio).amax(-1) < self.ratio
        anchor, target = matched.nonzero(as_tuple=True)  # (K,)
        xy, inverse = xy[target], size - xy[target]
        near_low = ((xy % 1 < 0.5) & (xy > 1)).T  # left, up: the box lies in the first half of its cell
        near_high = ((inverse % 1 < 0.5) & (inverse > 1)).T  # right, down
        chosen = torch.stack((torch.ones_like(near_low[0]), *near_low, *near_high))  # (5, K)
        shifts = targets.new_tensor([[0, 0], [-1, 0], [0, -1], [1, 0], [0, 1]])
        shift, match = chosen.nonzero(as_tuple=True)
        anchor, target = anchor[match], target[match]
        # half a cell to a neighbour's side lands inside that neighbour; the box's own cell needs no shift
        cell = (xy[match] + 0.5 * shifts[shift]).long()
        box = torch.cat((xy[match] - cell, wh[target]), 1)
        column, row = cell[:, 0].clamp(0, width - 1), cell[:, 1].clamp(0, height - 1)
        labels = targets[target, 1].long()
        return (targets[target, 0].long(), anchor, row, column), box, labels, anchors[anchor]


class AnchorCriterion:
    """Box (CIoU), objectness and class losses, each the mean over its elements times its gain.

    Called with raw maps, a list of (B, A, H, W, 5 + nc), and targets (M, 6): image, class, cx, cy, w, h normalised;
    gives {"box", "obj", "cls"}: scalars. The published total is their sum times the batch size, which the trainer
    applies; in several processes the means are over all of them. Everything is computed in float32 (Zheng et al., 2020,
    for CIoU; recipe: gains, matching).
    """

    def __init__(self, nc, anchors, box=0.05, cls=0.5, obj=1.0, cls_pw=1.0, obj_pw=1.0, anchor_t=4.0, fl_gamma=0.0,
                 label_smoothing=0.0):  # fmt: skip
        self.nc = nc
        self.anchors = anchors  # (levels, A, 2) in units of the stride
        self.gains = {"box": box, "obj": obj, "cls": cls}
        self.cls_weight, self.obj_weight, self.focal_gamma = cls_pw, obj_pw, fl_gamma
        self.positive, self.negative = 1 - 0.5 * label_smoothing, 0.5 * label_smoothing
        self.assign = AnchorAssigner(anchor_t)
        self.balance = BALANCE.get(len(anchors), BALANCE_MANY + BALANCE_MANY[-1:] * (len(anchors) - 5))

    @classmethod
    def for_head(cls, head, hyperparameters, image_size: int):
        """Gains scaled as the recipe says: by 3 / levels, by classes / 80 and by (size / 640)^2."""
        h, levels = hyperparameters, 3 / len(head.strides)
        return cls(
            head.nc, head.anchors, h.box * levels, h.cls * head.nc / 80 * levels,
            h.obj * (image_size / 640) ** 2 * levels, h.cls_pw, h.obj_pw, h.anchor_t, h.fl_gamma, h.label_smoothing,
        )  # fmt: skip

    def __call__(self, raw, targets):
        device = raw[0].device
        targets = targets.to(device=device, dtype=torch.float32)
        box_loss = torch.zeros((), device=device)
        class_loss = torch.zeros((), device=device)
        objectness_loss = torch.zeros((), device=device)
        with torch.autocast(device.type, enabled=False):
            assigned = [
                self.assign(targets, anchors.to(device), *y.shape[2:4])
                for y, anchors in zip(raw, self.anchors, strict=True)
            ]
            positives = targets.new_tensor([len(labels) for _, _, labels, _ in assigned])
            # of the positives of all processes; 1 where there is one
            shares = positives / over_processes(positives, least=1e-9)
            for level, (y, (indices, boxes, labels, matched)) in enumerate(zip(raw, assigned, strict=True)):
                y = y.float()
                objectness = torch.zeros_like(y[..., 4])
                if len(labels):
                    predicted = y[indices]  # (K, 5 + nc)
                    xy = predicted[:, 0:2].sigmoid() * 2 - 0.5
                    wh = (predicted[:, 2:4].sigmoid() * 2) ** 2 * matched
                    iou = ciou(torch.cat((xy, wh), 1), boxes)
                    box_loss = box_loss + (1 - iou).mean() * shares[level]
                    objectness[indices] = iou.detach().clamp(0).to(objectness.dtype)
                    if self.nc > 1:
                        wanted = torch.full_like(predicted[:, 5:], self.negative)
                        wanted[torch.arange(len(labels), device=device), labels] = self.positive
                        class_loss = class_loss + self._bce(predicted[:, 5:], wanted, self.cls_weight) * shares[level]
                objectness_loss = (
                    objectness_loss + self._bce(y[..., 4], objectness, self.obj_weight) * self.balance[level]
                )
        return {
            "box": box_loss * self.gains["box"],
            "obj": objectness_loss * self.gains["obj"],
            "cls": class_loss * self.gains["cls"],
        }

    def _bce(self, logits, wanted, positive_weight):
        """Mean binary cross entropy, focal where gamma is above 0 (Lin et al., Focal Loss, 2017, with alpha 0.25)."""
        weight = None if positive_weight == 1 else logits.new_tensor(positive_weight)
        if not self.focal_gamma:
            return F.binary_cross_entropy_with_logits(logits, wanted, pos_weight=weight)
        loss = F.binary_cross_entropy_with_logits(logits, wanted, pos_weight=weight, reduction="none")
        probability = logits.sigmoid()
        hit = wanted * probability + (1 - wanted) * (1 - probability)
        alpha = wanted * 0.25 + (1 - wanted) * 0.75
        return (loss * alpha * (1 - hit) ** self.focal_gamma).mean()
