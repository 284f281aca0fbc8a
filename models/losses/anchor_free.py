"""The criteria of anchor-free heads: assign targets to points, then class, box and distribution losses."""

from collections.abc import Callable

import torch

from graftdet.models.losses.assigners.assignment import Assigner
from graftdet.models.losses.classification import CLASS_LOSSES
from graftdet.models.losses.criterion import Criterion, DenseCriterion
from graftdet.models.losses.distribution_focal import distribution_focal_loss, expected_distances
from graftdet.models.losses.iou import IOU_FUNCTIONS
from graftdet.models.losses.points import boxes_to_distances, distances_to_boxes, flatten_levels, level_points
from graftdet.models.losses.targets import unpack_targets
from graftdet.utils.distributed import average_over_processes


class AnchorFreeCriterion(DenseCriterion):
    """Class, box and distribution focal losses of the points that an assigner selects for each ground-truth box.

    Called with raw outputs, a list of (B, 4 * reg_max + nc, H, W), and targets (M, 6); returns {"box", "cls", "dfl"},
    each a mean over positives times its gain; the class loss of all points counts into the mean.

    Args:
        nc: number of classes.
        reg_max: number of distribution bins per distance; None: the outputs (B, 4 + nc, H, W) are the distances, and
            there is no "dfl".
        strides: pixels per cell, one per level.
        assigner: see `graftdet.models.losses.assigners.assignment`.
        class_loss: a name in `CLASS_LOSSES`.
        iou_loss: a name in `IOU_FUNCTIONS`; the box loss is 1 minus it.
        gains: of "box", "cls" and "dfl"; without "box" only the class loss is computed. Default: 1 each.
        weight_by: "quality": a positive's box losses are weighted by its class target, and the class loss is per unit
            of that (Feng et al., TOOD, 2021, section 3.3); "score": they are weighted by its predicted score, and the
            class loss is per positive (Li et al., Generalized Focal Loss, 2020, section 4).
        point_offset: position of the points within their cells, see `level_points`.
    """

    def __init__(
        self,
        nc: int,
        reg_max: int | None,
        strides: list[float],
        assigner: Assigner,
        class_loss: str = "bce",
        iou_loss: str = "ciou",
        gains: dict[str, float] | None = None,
        weight_by: str = "quality",
        point_offset: float = 0.5,
    ):
        self.nc, self.reg_max, self.strides, self.assign = nc, reg_max, strides, assigner
        self.class_loss, self.iou = CLASS_LOSSES[class_loss], IOU_FUNCTIONS[iou_loss]
        super().__init__(gains or {"box": 1.0, "cls": 1.0, "dfl": 1.0})
        self.weight_by, self.point_offset = weight_by, point_offset

    def _losses(self, raw: list[torch.Tensor], targets: torch.Tensor) -> dict[str, torch.Tensor]:
        _, _, height, width = raw[0].shape
        distances, classes = flatten_levels(raw, 4 * (self.reg_max or 1))
        sizes = [(y.shape[2], y.shape[3]) for y in raw]
        points, strides = level_points(sizes, self.strides, distances, self.point_offset)
        truth = unpack_targets(targets, round(height * self.strides[0]), round(width * self.strides[0]))
        with torch.no_grad():
            scores = classes.sigmoid()
            boxes = distances_to_boxes(points, expected_distances(distances, self.reg_max) * strides[:, None])
            found = self.assign(scores, boxes, points, strides, truth)
        image, point, label = truth.image[found.box], found.point, truth.labels[found.box]  # (K,)

        wanted = torch.zeros_like(classes)
        wanted[image, point, label] = found.quality
        weight = class_weight = found.quality
        if self.weight_by == "score":
            weight, class_weight = scores[image, point].amax(-1), torch.ones_like(found.quality)
        least = class_weight.new_tensor([1, 1e-3 if self.weight_by == "score" else 1])
        class_norm, box_norm = average_over_processes(torch.stack((class_weight.sum(), weight.sum())), least)
        losses = {"cls": self.class_loss(classes, wanted).sum() / class_norm}
        if "box" in self.gains:
            box_loss, distribution_loss = self._box_losses(
                distances[image, point], points[point], strides[point, None], truth.boxes[found.box]
            )
            weight = weight / box_norm
            losses["box"] = (box_loss * weight).sum()
            if distribution_loss is not None:
                losses["dfl"] = (distribution_loss * weight).sum()
        return {name: losses[name] * gain for name, gain in self.gains.items()}

    def _box_losses(self, logits, points, strides, targets):
        """IoU and distribution focal losses of K positives, each (K,); None for the second without distributions.

        Distance logits (K, 4 * reg_max), points (K, 2) and targets (K, 4) xyxy in pixels, strides (K, 1). Without
        positives both are empty, and still connected to every parameter: processes that train together wait for the
        gradients of all.
        """
        predicted = distances_to_boxes(points, expected_distances(logits, self.reg_max) * strides)
        iou_loss = 1 - self.iou(predicted, targets)
        if self.reg_max is None:
            return iou_loss, None
        wanted = boxes_to_distances(points / strides, targets / strides, self.reg_max)
        return iou_loss, distribution_focal_loss(logits, wanted, self.reg_max)


class TwoBranchCriterion(Criterion):
    """The losses of one-to-many and one-to-one branches side by side (Wang et al., YOLOv10, 2024, section 3.1).

    Called with a dict of raw lists; returns the losses of "one_to_many" by name, those of "one_to_one" as
    "o2o_<name>", and the class loss of "foreground" where there is one.

    With a `shift` s the weight moves linearly from one-to-many, whose many positives give a dense signal, to
    one-to-one, which inference uses: their factors are 1 + s and 1 - s in the first epoch, 1 - s and 1 + s in the last
    one.

    Args:
        one_to_many: the criterion of the branch with many positives per object.
        one_to_one: the criterion of the branch with a single positive per object.
        suppress: applied to the raw list of "one_to_one", in float32, before its losses are computed.
        foreground: the criterion of objects of any class; None where the head has no such branch.
        shift: 0..1.
    """

    def __init__(
        self,
        one_to_many: AnchorFreeCriterion,
        one_to_one: AnchorFreeCriterion,
        suppress: Callable[[list[torch.Tensor]], list[torch.Tensor]],
        foreground: AnchorFreeCriterion | None = None,
        shift: float = 0.0,
    ):
        self.one_to_many, self.one_to_one, self.suppress = one_to_many, one_to_one, suppress
        self.foreground, self.shift, self.factors = foreground, shift, (1.0, 1.0)

    @property
    def box_gain(self) -> float:
        """The gain of the IoU loss of the one-to-many branch."""
        return self.one_to_many.box_gain

    def begin_epoch(self, epoch: int, epochs: int) -> None:
        """Move the weight between the branches; see `Criterion`."""
        moved = self.shift * (1 - 2 * epoch / max(epochs - 1, 1))
        self.factors = 1 + moved, 1 - moved

    def __call__(self, raw: dict[str, list[torch.Tensor]], targets: torch.Tensor) -> dict[str, torch.Tensor]:
        """Compute the losses of all branches; see `Criterion`."""
        many, one = self.factors
        losses = {name: loss * many for name, loss in self.one_to_many(raw["one_to_many"], targets).items()}
        one_to_one = self.one_to_one(self.suppress([y.float() for y in raw["one_to_one"]]), targets)
        losses |= {f"o2o_{name}": loss * one for name, loss in one_to_one.items()}
        if self.foreground:
            objects = targets.clone()
            objects[:, 1] = 0  # one class
            losses["foreground"] = self.foreground(raw["foreground"], objects)["cls"]
        return losses
