"""The criterion of heads without anchors: assign points to boxes, then class, box and distribution losses."""

import torch
from graftdet.models.losses.classification import CLASS_LOSSES
from graftdet.models.losses.distribution_focal import (
    boxes_to_distances,
    distances_to_boxes,
    distribution_focal_loss,
    expected_distances,
)
from graftdet.models.losses.iou import OVERLAPS
from graftdet.models.losses.targets import read_targets
from graftdet.utils.distributed import over_processes


def flatten_levels(raw, sides: int):
    """Raw maps, a list of (B, sides + nc, H, W) -> (B, N, sides) and (B, N, nc), level after level, row after row."""
    rows = torch.cat([y.permute(0, 2, 3, 1).flatten(1, 2) for y in raw], 1)  # (B, N, sides + nc)
    return rows[..., :sides], rows[..., sides:]


def level_points(sizes, strides, like):
    """Centres of all cells in pixels, (N, 2), and the stride of each, (N,), for levels of `sizes` (H, W); device and
    type are those of the tensor `like`."""
    points, of_points = [], []
    for (height, width), stride in zip(sizes, strides, strict=True):
        y = (torch.arange(height, device=like.device).to(like.dtype) + 0.5) * stride
        x = (torch.arange(width, device=like.device).to(like.dtype) + 0.5) * stride
        points.append(torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], -1).reshape(-1, 2))
        of_points.append(torch.full_like(points[-1][:, 0], stride))
    return torch.cat(points), torch.cat(of_points)


class DenseCriterion:
    """Class, box and distribution losses of the points that an assigner gives to each true box.

    Called with raw maps, a list of (B, 4 * bins + nc, H, W), and targets (M, 6): image, class, cx, cy, w, h normalised;
    gives {"box", "cls", "dfl"}: scalars, each a mean over positives times its gain (the class loss of all points counts
    into theirs), in several processes over those of all. The total is their sum times the batch size, which the trainer applies. Computed in float32.

    Args:
        assigner: see `graftdet.models.losses.assignment`. class_loss, overlap: words of `CLASS_LOSSES` and `OVERLAPS`.
        gains: of "box", "cls" and "dfl"; the losses that are left out are not asked for.
        weigh_by: "quality": a positive's box losses weigh as much as its class target, and the class loss is per unit of
            that (Feng et al., TOOD, 2021, section 3.3); "score": they weigh as much as its predicted score, and the
            class loss is per positive (Li et al., Generalized Focal Loss, 2020, section 4).
    """

    def __init__(self, nc, bins, strides, assigner, class_loss="bce", overlap="ciou", gains=None, weigh_by="quality"):
        self.nc, self.bins, self.strides, self.assign = nc, bins, strides, assigner
        self.class_loss, self.overlap = CLASS_LOSSES[class_loss], OVERLAPS[overlap]
        self.gains = gains or {"box": 1.0, "cls": 1.0, "dfl": 1.0}
        self.weigh_by = weigh_by

    def __call__(self, raw, targets):
        with torch.autocast(raw[0].device.type, enabled=False):
            return self._losses([y.float() for y in raw], targets.to(raw[0].device, torch.float32))

    def _losses(self, raw, targets):
        _, _, height, width = raw[0].shape
        sides, classes = flatten_levels(raw, 4 * self.bins)
        points, strides = level_points([y.shape[2:] for y in raw], self.strides, sides)
        true = read_targets(targets, round(height * self.strides[0]), round(width * self.strides[0]))
        with torch.no_grad():
            scores = classes.sigmoid()
            boxes = distances_to_boxes(points, expected_distances(sides, self.bins) * strides[:, None])
            found = self.assign(scores, boxes, points, strides, true)
        image, point, label = true.image[found.box], found.point, true.labels[found.box]  # (K,)

        wanted = torch.zeros_like(classes)
        wanted[image, point, label] = found.quality
        weight = class_weight = found.quality
        if self.weigh_by == "score":
            weight, class_weight = scores[image, point].amax(-1), torch.ones_like(found.quality)
        least = class_weight.new_tensor([1, 1e-3 if self.weigh_by == "score" else 1])
        units, weights = over_processes(torch.stack((class_weight.sum(), weight.sum())), least)
        losses = {"cls": self.class_loss(classes, wanted).sum() / units}
        if "box" in self.gains:
            box_loss, distribution_loss = self._box_losses(
                sides[image, point], points[point], strides[point, None], true.boxes[found.box]
            )
            share = weight / weights
            losses |= {"box": (box_loss * share).sum(), "dfl": (distribution_loss * share).sum()}
        return {name: losses[name] * gain for name, gain in self.gains.items()}

    def _box_losses(self, sides, points, strides, true_boxes):
        """Of K positives: side logits (K, 4 * bins), points (K, 2) and true boxes (K, 4) xyxy in pixels, strides (K, 1)
        -> overlap and distribution losses, each (K,). Without positives both are empty, and still lead back to every
        parameter: processes that train together wait for the gradients of all."""
        predicted = distances_to_boxes(points, expected_distances(sides, self.bins) * strides)
        distances = boxes_to_distances(points / strides, true_boxes / strides, self.bins)
        return 1 - self.overlap(predicted, true_boxes), distribution_focal_loss(sides, distances, self.bins)


class TwoBranchCriterion:
    """The losses of one-to-many and one-to-one branches side by side (Wang et al., YOLOv10, 2024, section 3.1).

    Called with a dict of raw lists; gives the losses of "one_to_many" by name and those of "one_to_one" as "o2o_<name>".
    `compete` gives from the raw list of "one_to_one", in float32, the one that its losses are about.
    """

    def __init__(self, one_to_many: DenseCriterion, one_to_one: DenseCriterion, compete):
        self.one_to_many, self.one_to_one, self.compete = one_to_many, one_to_one, compete

    def __call__(self, raw, targets):
        losses = self.one_to_many(raw["one_to_many"], targets)
        alone = self.one_to_one(self.compete([y.float() for y in raw["one_to_one"]]), targets)
        return losses | {f"o2o_{name}": loss for name, loss in alone.items()}
