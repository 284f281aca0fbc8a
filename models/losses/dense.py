"""The criterion of heads without anchors: assign points to boxes, then class, box and distribution losses."""

import torch

from .distribution import boxes_to_distances, distances_to_boxes, distribution_focal_loss, expected_distances
from .focal import CLASS_LOSSES
from .overlap import OVERLAPS
from .padded import pad_targets


def flatten_levels(raw, sides: int):
    """Raw maps, a list of (B, sides + nc, H, W) -> (B, N, sides) and (B, N, nc), level after level, row after row."""
    rows = torch.cat([y.flatten(2) for y in raw], 2).transpose(1, 2)
    return rows[..., :sides], rows[..., sides:]


def level_points(sizes, strides, like):
    """Centres of all cells in pixels, (N, 2), and the stride of each, (N,), for levels of `sizes` (H, W); device and
    type are those of the tensor `like`."""
    points, of_points = [], []
    for (height, width), stride in zip(sizes, strides, strict=True):
        y = (torch.arange(height, device=like.device, dtype=like.dtype) + 0.5) * stride
        x = (torch.arange(width, device=like.device, dtype=like.dtype) + 0.5) * stride
        points.append(torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], -1).reshape(-1, 2))
        of_points.append(torch.full_like(points[-1][:, 0], stride))
    return torch.cat(points), torch.cat(of_points)


class DenseCriterion:
    """Class, box and distribution losses of the points that an assigner gives to each true box.

    Called with raw maps, a list of (B, 4 * bins + nc, H, W), and targets (M, 6): image, class, cx, cy, w, h normalised;
    gives {"box", "cls", "dfl"}: scalars, each a mean over positives weighted by their quality, times its gain. The
    gradients' total is their sum times the batch size, which the trainer applies. Computed in float32.

    Args:
        assigner: an entry of `assignment.ASSIGNERS`. class_loss, overlap: words of `CLASS_LOSSES` and `OVERLAPS`.
        gains: of "box", "cls" and "dfl".
        weigh_by: "quality": box losses weigh as much as the class target; "score": as the predicted score (Li et al.,
            Generalized Focal Loss, 2020, section 4).
    """

    def __init__(self, nc, bins, strides, assigner, class_loss="bce", overlap="ciou", gains=None, weigh_by="quality"):
        self.nc, self.bins, self.strides, self.assign = nc, bins, strides, assigner
        self.class_loss, self.overlap = CLASS_LOSSES[class_loss], OVERLAPS[overlap]
        self.gains = gains or {"box": 1.0, "cls": 1.0, "dfl": 1.0}
        self.weigh_by_score = weigh_by == "score"

    def __call__(self, raw, targets):
        with torch.autocast(raw[0].device.type, enabled=False):
            return self._losses([y.float() for y in raw], targets.to(raw[0].device, torch.float32))

    def _losses(self, raw, targets):
        batch, _, height, width = raw[0].shape
        sides, classes = flatten_levels(raw, 4 * self.bins)
        points, strides = level_points([y.shape[2:] for y in raw], self.strides, sides)
        true = pad_targets(targets, batch, round(height * self.strides[0]), round(width * self.strides[0]))
        with torch.no_grad():
            scores = classes.sigmoid()
            boxes = distances_to_boxes(points, expected_distances(sides, self.bins) * strides[:, None])
            found = self.assign(scores, boxes, points, strides, true)
        image, point = found.positive.nonzero(as_tuple=True)  # (K,)
        target = found.target[image, point]
        quality = found.quality[image, point]

        wanted = torch.zeros_like(classes)
        wanted[image, point, true.labels[image, target]] = quality
        share = quality.sum().clamp(min=1)
        class_loss = self.class_loss(classes, wanted).sum() / share
        if not len(image):  # keep every parameter in the graph: processes wait for the gradients of all
            nothing = sides.sum() * 0
            return {"box": nothing, "cls": class_loss * self.gains["cls"], "dfl": nothing}

        sides, points, strides = sides[image, point], points[point], strides[point, None]
        true_boxes = true.boxes[image, target]
        if self.weigh_by_score:
            quality = scores[image, point].amax(-1)
            share = quality.sum().clamp(min=1e-3)
        predicted = distances_to_boxes(points, expected_distances(sides, self.bins) * strides)
        box_loss = ((1 - self.overlap(predicted, true_boxes)) * quality).sum() / share
        distances = boxes_to_distances(points / strides, true_boxes / strides, self.bins)
        distribution_loss = (distribution_focal_loss(sides, distances, self.bins) * quality).sum() / share
        return {
            "box": box_loss * self.gains["box"],
            "cls": class_loss * self.gains["cls"],
            "dfl": distribution_loss * self.gains["dfl"],
        }


class TwoBranchCriterion:
    """The losses of one-to-many and one-to-one branches side by side (Wang et al., YOLOv10, 2024, section 3.1).

    Called with a dict of raw lists; gives the losses of "one_to_many" by name and those of "one_to_one" as "o2o_<name>".
    """

    def __init__(self, one_to_many: DenseCriterion, one_to_one: DenseCriterion):
        self.one_to_many, self.one_to_one = one_to_many, one_to_one

    def __call__(self, raw, targets):
        losses = self.one_to_many(raw["one_to_many"], targets)
        alone = self.one_to_one(raw["one_to_one"], targets)
        return losses | {f"o2o_{name}": loss for name, loss in alone.items()}
