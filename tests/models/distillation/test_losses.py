"""Distillation losses: each against a slow version."""

import numpy as np
import pytest
import torch

from graftdet.models.distillation.losses import box_loss, distribution_loss, map_loss, score_loss


def test_maps_are_compared_by_the_correlation_of_channels():
    generator = torch.Generator().manual_seed(0)
    student = [torch.randn(2, 3, 4, 5, generator=generator), torch.randn(2, 4, 2, 2, generator=generator)]
    teacher = [torch.randn(x.shape, generator=generator) for x in student]
    expected = []
    for s, t in zip(student, teacher):
        pairs = zip(s.transpose(0, 1).flatten(1).numpy(), t.transpose(0, 1).flatten(1).numpy())
        expected.append(np.mean([1 - np.corrcoef(a, b)[0, 1] for a, b in pairs]))
    assert map_loss(student, teacher).item() == pytest.approx(np.mean(expected), abs=1e-5)
    assert map_loss(student, [3 * x + 1 for x in student]).item() == pytest.approx(0, abs=1e-5)
    assert map_loss(student, [-x for x in student]).item() == pytest.approx(2, abs=1e-5)
    dead = [torch.zeros(1, 2, 3, 3, requires_grad=True)]
    map_loss(dead, [torch.ones(1, 2, 3, 3)]).backward()
    assert torch.isfinite(dead[0].grad).all()


def test_scores_diverge_as_binary_distributions_do():
    student, teacher = torch.tensor([[[0.2, 0.9], [0.5, 0.1]]]), torch.tensor([[[0.8, 0.9], [0.5, 0.7]]])
    expected = (0.8 * np.log(4) + 0.2 * np.log(0.2 / 0.8)) + (0.7 * np.log(7) + 0.3 * np.log(0.3 / 0.9))
    assert score_loss(student, teacher).item() == pytest.approx(expected / (0.9 + 0.7), abs=1e-5)
    assert score_loss(teacher, teacher).item() == pytest.approx(0, abs=1e-6)
    extreme = torch.tensor([[[0.0, 1.0]]])
    assert torch.isfinite(score_loss(extreme, 1 - extreme)) and score_loss(student, torch.zeros(1, 2, 2)).item() > 0


def test_distance_distributions_diverge_as_softened_distributions_do():
    generator = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(2, 1, 3, 4 * 5, generator=generator) * 4
    weights = torch.tensor([[0.5, 2.0, 0.0]])
    logits = [x.view(3, 4, 5).numpy().astype(float) / 10 for x in (student, teacher)]
    p, q = (np.exp(x) / np.exp(x).sum(-1, keepdims=True) for x in logits[::-1])
    each = (p * np.log(p / q)).sum(-1).mean(-1)
    expected = 100 * (each * [0.5, 2, 0]).sum() / 2.5
    assert distribution_loss(student, teacher, weights, 5).item() == pytest.approx(expected, rel=1e-4)
    assert distribution_loss(student, teacher, weights * 0, 5).item() == 0


def test_boxes_are_weighted():
    box = torch.tensor([[[0.0, 0, 10, 10], [0, 0, 10, 10]]])
    half = torch.tensor([[[0.0, 0, 10, 10], [0, 0, 5, 10]]])
    assert box_loss(box, half, torch.tensor([[3.0, 1.0]])).item() == pytest.approx(0.5 / 4)
    assert box_loss(box, half, torch.tensor([[0.0, 0.1]])).item() == pytest.approx(0.05)
