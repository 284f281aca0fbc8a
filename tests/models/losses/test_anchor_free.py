"""The criterion of anchor-free heads: against loops over images and positives, and invariances."""

import pytest
import torch

from graftdet.models.losses.anchor_free import AnchorFreeCriterion
from graftdet.models.losses.assigners.simota import SimOTAAssigner
from graftdet.models.losses.assigners.task_aligned import TaskAlignedAssigner
from graftdet.models.losses.classification import CLASS_LOSSES
from graftdet.models.losses.distribution_focal import distribution_focal_loss, expected_distances
from graftdet.models.losses.iou import IOU_FUNCTIONS
from graftdet.models.losses.points import flatten_levels, level_points
from graftdet.models.losses.targets import unpack_targets

NC, REG_MAX, STRIDES = 3, 8, (8, 16, 32)
GAINS = {"box": 7.5, "cls": 0.5, "dfl": 1.5}
SETTINGS = {
    "tal": (TaskAlignedAssigner, "bce", "ciou", "quality"),
    "simota": (SimOTAAssigner, "varifocal", "giou", "score"),
    "mixed": (SimOTAAssigner, "quality_focal", "siou", "quality"),
}


def make(kind, nc=NC, strides=STRIDES):
    assigner, class_loss, iou_loss, weight_by = SETTINGS[kind]
    return AnchorFreeCriterion(nc, REG_MAX, strides, assigner(), class_loss, iou_loss, GAINS, weight_by)


def raw_maps(batch, size=(64, 96), nc=NC, strides=STRIDES, seed=0):
    make_one = torch.Generator().manual_seed(seed)
    maps = [torch.randn(batch, 4 * REG_MAX + nc, size[0] // s, size[1] // s, generator=make_one) * 2 for s in strides]
    return [y.requires_grad_() for y in maps]


def targets_of(scene, counts, size=(64, 96), nc=NC, seed=1):
    return scene(seed, counts, nc, size).targets


def slow(criterion, kind, raw, targets):
    """The losses image by image and positive by positive, given the assignment."""
    _, class_loss, iou_loss, weight_by = SETTINGS[kind]
    logits, classes = flatten_levels([y.detach() for y in raw], 4 * REG_MAX)
    points, strides = level_points([y.shape[2:] for y in raw], criterion.strides, logits)
    truth = unpack_targets(targets, raw[0].shape[2] * 8, raw[0].shape[3] * 8)
    distances = expected_distances(logits, REG_MAX) * strides[:, None]
    boxes = torch.cat((points - distances[..., :2], points + distances[..., 2:]), -1)
    matches = criterion.assign(classes.sigmoid(), boxes, points, strides, truth)
    wanted, total = torch.zeros_like(classes), {"box": 0.0, "cls": 0.0, "dfl": 0.0}
    weights = class_weights = 0.0
    for box, point, quality in zip(matches.box.tolist(), matches.point.tolist(), matches.quality.tolist()):
        image, stride = truth.image[box], strides[point]
        wanted[image, point, truth.labels[box]] = quality
        weight = classes[image, point].sigmoid().max().item() if weight_by == "score" else quality
        weights, class_weights = weights + weight, class_weights + (1 if weight_by == "score" else quality)
        total["box"] += weight * (1 - IOU_FUNCTIONS[iou_loss](boxes[image, point], truth.boxes[box]).item())
        (x, y), (x1, y1, x2, y2) = points[point].tolist(), truth.boxes[box].tolist()
        away = torch.tensor([[x - x1, y - y1, x2 - x, y2 - y]]) / stride
        total["dfl"] += (
            weight * distribution_focal_loss(logits[image, point][None], away.clamp(0, REG_MAX - 1.01), REG_MAX).item()
        )
    for image in range(len(classes)):
        for point in range(len(points)):
            total["cls"] += CLASS_LOSSES[class_loss](classes[image, point], wanted[image, point]).sum().item()
    norms = {"box": weights, "dfl": weights, "cls": max(class_weights, 1)}
    return {name: total[name] / norms[name] * GAINS[name] for name in total}


@pytest.mark.parametrize("kind", SETTINGS)
def test_losses_equal_a_reference_with_loops(scene, kind):
    raw, targets, criterion = raw_maps(3), targets_of(scene, (6, 0, 9)), make(kind)
    losses = criterion(raw, targets)
    for name, expected in slow(criterion, kind, raw, targets).items():
        assert losses[name].item() == pytest.approx(expected, rel=1e-4), name


@pytest.mark.parametrize("kind", SETTINGS)
def test_order_of_targets_does_not_matter(scene, kind):
    raw, targets = raw_maps(3), targets_of(scene, (6, 0, 9))
    shuffled = targets[torch.randperm(len(targets), generator=torch.Generator().manual_seed(2))]
    for name, loss in make(kind)(raw, targets).items():
        assert make(kind)(raw, shuffled)[name].item() == pytest.approx(loss.item(), rel=1e-5)


@pytest.mark.parametrize("kind", SETTINGS)
def test_images_of_a_batch_are_independent(scene, kind):
    """The positives of an image are the same alone and in a batch, however crowded the other images are."""
    drawn, assigner = scene(4, (3, 40, 0, 8)), make(kind).assign
    together = drawn.assigned(assigner)
    seen = 0
    for image in range(4):
        alone = scene(4, (3, 40, 0, 8))
        own = alone.truth.image == image
        first = int((alone.truth.image < image).sum())
        alone.truth = unpack_targets(alone.targets[own] * torch.tensor([0.0, 1, 1, 1, 1, 1]), 96, 128)
        alone.scores, alone.boxes = alone.scores[image : image + 1], alone.boxes[image : image + 1]
        for (_, point), (box, quality) in alone.assigned(assigner).items():
            assert together[image, point] == (box + first, pytest.approx(quality, rel=1e-5))
            seen += 1
    assert seen == len(together)


@pytest.mark.parametrize("kind", SETTINGS)
@pytest.mark.parametrize(
    "targets", [torch.zeros(0, 6), torch.tensor([[0, 1, 4.0, 4.0, 0.1, 0.1]])], ids=["none", "outside"]
)
def test_without_positives_every_map_has_a_gradient(kind, targets):
    raw = raw_maps(2)
    losses = make(kind)(raw, targets)
    assert losses["box"] == 0 and losses["dfl"] == 0 and losses["cls"] > 0
    sum(losses.values()).backward()
    assert all(y.grad is not None and y.grad.isfinite().all() for y in raw)
    assert losses["box"].requires_grad and losses["dfl"].requires_grad


@pytest.mark.parametrize("kind", SETTINGS)
@pytest.mark.parametrize(
    ("nc", "strides", "size", "counts"),
    [(1, (8,), (32, 32), (3,)), (80, (8, 16, 32, 64), (128, 64), (5, 2)), (2, (8, 16), (32, 64), (400, 1600))],
)
def test_losses_are_finite_for_any_number_of_classes_levels_and_boxes(scene, kind, nc, strides, size, counts):
    """One class and many, one level and four, one image, two thousand boxes: finite losses and gradients."""
    raw = raw_maps(len(counts), size, nc, strides)
    losses = make(kind, nc, strides)(raw, targets_of(scene, counts, size, nc))
    sum(losses.values()).backward()
    assert all(loss.isfinite() and loss > 0 for loss in losses.values())
    assert all(y.grad.isfinite().all() for y in raw)


@pytest.mark.parametrize("kind", SETTINGS)
def test_targets_and_weights_are_detached_as_in_the_papers(scene, kind):
    """Class targets are constant to the distances, weights of box losses are constant to the scores."""
    raw = raw_maps(2)
    losses = make(kind)(raw, targets_of(scene, (6, 3)))
    for name in ("box", "dfl"):
        for grad in torch.autograd.grad(losses[name], raw, retain_graph=True):
            assert not grad[:, 4 * REG_MAX :].any()
    grads = torch.autograd.grad(losses["cls"], raw)
    assert not any(grad[:, : 4 * REG_MAX].any() for grad in grads) and any(grad.any() for grad in grads)


@pytest.mark.parametrize("kind", SETTINGS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_is_computed_in_float32(scene, kind, dtype):
    raw = [y.detach().to(dtype) for y in raw_maps(2)]
    targets = targets_of(scene, (6, 3))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = make(kind)(raw, targets)
    full = make(kind)([y.float() for y in raw], targets)
    for name, loss in low.items():
        assert loss.dtype == torch.float32 and loss.item() == full[name].item()


def test_channels_last_maps_give_the_same_losses(scene):
    raw, targets = raw_maps(2), targets_of(scene, (6, 3))
    other = [y.detach().contiguous(memory_format=torch.channels_last) for y in raw]
    for name, loss in make("tal")(raw, targets).items():
        assert make("tal")(other, targets)[name].item() == pytest.approx(loss.item(), rel=1e-6)
