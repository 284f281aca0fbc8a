"""The criterion of anchor-based heads, as in the published YOLOv5 recipe."""

import torch
import torch.nn.functional as F

from graftdet.models.losses.assigners.anchor_ratio import AnchorRatioAssigner
from graftdet.models.losses.criterion import Criterion
from graftdet.models.losses.iou import ciou_cxcywh
from graftdet.utils.distributed import average_over_processes
from graftdet.utils.hyperparameters import Hyperparameters

BALANCE = {3: (4.0, 1.0, 0.4), 4: (4.0, 1.0, 0.25, 0.06)}
BALANCE_MANY = (4.0, 1.0, 0.25, 0.06, 0.02)  # the last one for all further levels


class AnchorBasedCriterion(Criterion):
    """Box (CIoU), objectness and class losses, each the mean over its elements times its gain.

    CIoU: Zheng et al., Enhancing Geometric Factors, 2020, section 3. The target of objectness is the IoU of the
    predicted box. Called with raw outputs, a list of (B, A, H, W, 5 + nc), and targets (M, 6); returns {"box", "obj",
    "cls"}.

    Args:
        nc: number of classes.
        anchors: (levels, A, 2) width, height in units of each level's stride.
        box, cls, obj: gains.
        cls_pw, obj_pw: weights of positives in the class and objectness losses.
        anchor_t: the largest ratio between the sides of a box and its anchor.
        fl_gamma: gamma of the focal loss; 0: plain cross entropy.
        label_smoothing: targets of the classes are 1 - 0.5 and 0.5 times this.
        reach: how far a box center may be from a neighboring cell that is assigned to it, in cells.
    """

    def __init__(
        self,
        nc: int,
        anchors: torch.Tensor,
        box: float = 0.05,
        cls: float = 0.5,
        obj: float = 1.0,
        cls_pw: float = 1.0,
        obj_pw: float = 1.0,
        anchor_t: float = 4.0,
        fl_gamma: float = 0.0,
        label_smoothing: float = 0.0,
        reach: float = 0.5,
    ):
        self.nc = nc
        self.anchors = anchors
        self.gains = {"box": box, "obj": obj, "cls": cls}
        self.cls_weight, self.obj_weight, self.focal_gamma = cls_pw, obj_pw, fl_gamma
        self.positive, self.negative = 1 - 0.5 * label_smoothing, 0.5 * label_smoothing
        self.assign = AnchorRatioAssigner(anchor_t, reach)
        self.balance = BALANCE.get(len(anchors), BALANCE_MANY + BALANCE_MANY[-1:] * (len(anchors) - 5))

    @classmethod
    def from_hyperparameters(
        cls, nc: int, anchors: torch.Tensor, hyperparameters: Hyperparameters, image_size: int, reach: float = 0.5
    ) -> "AnchorBasedCriterion":
        """Build the criterion with gains scaled by 3 / levels, number of classes and image size.

        Args:
            nc: number of classes; the class gain is multiplied by nc / 80.
            anchors: (levels, A, 2) width, height in units of each level's stride.
            hyperparameters: the training recipe.
            image_size: longer side of the training images in pixels; the objectness gain is multiplied by
                (image_size / 640)^2.
            reach: see the class.
        """
        h, scale = hyperparameters, 3 / len(anchors)
        return cls(
            nc,
            anchors,
            box=h.box * scale,
            cls=h.cls * nc / 80 * scale,
            obj=h.obj * (image_size / 640) ** 2 * scale,
            cls_pw=h.cls_pw,
            obj_pw=h.obj_pw,
            anchor_t=h.anchor_t,
            fl_gamma=h.fl_gamma,
            label_smoothing=h.label_smoothing,
            reach=reach,
        )

    @property
    def box_gain(self) -> float:
        """The gain of the CIoU loss."""
        return self.gains["box"]

    def __call__(self, raw: list[torch.Tensor], targets: torch.Tensor) -> dict[str, torch.Tensor]:
        """Compute {"box", "obj", "cls"}; see `Criterion`."""
        device = raw[0].device
        targets = targets.to(device=device, dtype=torch.float32)
        losses = {name: torch.zeros((), device=device) for name in self.gains}
        with torch.autocast(device.type, enabled=False):
            assigned = [
                self.assign(targets, anchors.to(device), *y.shape[2:4])
                for y, anchors in zip(raw, self.anchors, strict=True)
            ]
            positives = targets.new_tensor([len(labels) for _, _, labels, _ in assigned])
            # the fraction of the positives of all processes; 1 in a single process
            fractions = positives / average_over_processes(positives, minimum=1e-9)
            for y, match, fraction, balance in zip(raw, assigned, fractions, self.balance, strict=False):
                box, objectness, classes = self._level_losses(y.float(), *match)
                losses["box"] = losses["box"] + box * fraction
                losses["obj"] = losses["obj"] + objectness * balance
                losses["cls"] = losses["cls"] + classes * fraction
        return {name: loss * self.gains[name] for name, loss in losses.items()}

    def _level_losses(self, y, indices, boxes, labels, anchors):
        """Box, objectness and class losses of raw outputs (B, A, H, W, 5 + nc) of one level and its K positives."""
        objectness, box_loss, class_loss = torch.zeros_like(y[..., 4]), 0.0, 0.0
        if len(labels):
            predicted = y[indices]  # (K, 5 + nc)
            xy = predicted[:, 0:2].sigmoid() * 2 - 0.5
            wh = (predicted[:, 2:4].sigmoid() * 2) ** 2 * anchors
            iou = ciou_cxcywh(torch.cat((xy, wh), 1), boxes)
            box_loss = (1 - iou).mean()
            objectness[indices] = iou.detach().clamp(0).to(objectness.dtype)
            if self.nc > 1:
                wanted = torch.full_like(predicted[:, 5:], self.negative)
                wanted[torch.arange(len(labels), device=y.device), labels] = self.positive
                class_loss = self._bce(predicted[:, 5:], wanted, self.cls_weight)
        return box_loss, self._bce(y[..., 4], objectness, self.obj_weight), class_loss

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


class AuxiliaryLevelsCriterion(Criterion):
    """The losses of main levels, and those of auxiliary levels with a lower weight and more cells per box.

    Called with a list of raw outputs, of the main levels, then of as many auxiliary ones; returns the losses of the
    main levels by name and those of the auxiliary ones as "aux_<name>". The latter are assigned coarsely: all four
    neighbors of a box's cell instead of the two nearest.

    Args:
        main: the criterion of the main levels.
        auxiliary: the criterion of the auxiliary levels.
        weight: factor of the auxiliary losses.

    Source:
        Wang et al., YOLOv7, 2022, section 4.2 (coarse for auxiliary and fine for lead loss), figure 5; weight 0.25.
        There the assignment depends on the predictions of the main levels, too, here on shapes and cells only.
    """

    def __init__(self, main: AnchorBasedCriterion, auxiliary: AnchorBasedCriterion, weight: float = 0.25):
        self.main, self.auxiliary, self.weight = main, auxiliary, weight

    @property
    def box_gain(self) -> float:
        """The gain of the CIoU loss of the main levels."""
        return self.main.box_gain

    def __call__(self, raw: list[torch.Tensor], targets: torch.Tensor) -> dict[str, torch.Tensor]:
        """Compute the losses of all levels; see `Criterion`."""
        count = len(raw) // 2
        auxiliary = self.auxiliary(raw[count:], targets)
        return self.main(raw[:count], targets) | {f"aux_{n}": loss * self.weight for n, loss in auxiliary.items()}
