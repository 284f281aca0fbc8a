"""Muon: orthogonal steps for matrices, AdamW for the rest."""

import copy
import math

import pytest
import torch
from torch import nn

from graftdet.utils.hyperparameters import Hyperparameters
from graftdet.utils.training import muon
from graftdet.utils.training.muon import Muon, orthogonalize
from graftdet.utils.training.optim import make_optimizer, parameter_groups


@pytest.mark.parametrize("shape", [(16, 16), (8, 72), (72, 8), (1, 40)])
def test_singular_values_are_close_to_one(shape):
    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(3, *shape, generator=generator) * 1e-3
    result = torch.stack(orthogonalize(matrix.unbind()))
    values = torch.linalg.svdvals(result)
    assert result.shape == matrix.shape and values.min() > 0.5 and values.max() < 1.3
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)  # the directions stay
    assert (torch.linalg.diagonal(u.mT @ result @ v.mT) > 0.5).all()


@pytest.mark.parametrize("shape", [(8, 16), (8, 72), (72, 8), (1, 40), (32, 288)])
@pytest.mark.parametrize("spread", [1, 1e2, 1e5])
def test_gathering_the_factors_changes_nothing_but_rounding(shape, spread):
    """Against the iteration as published, in float64, for singular values from 1 down to 1 / spread."""
    generator = torch.Generator().manual_seed(0)
    u, _, v = torch.linalg.svd(torch.randn(2, *shape, generator=generator, dtype=torch.float64), full_matrices=False)
    matrices = u * torch.logspace(0, -math.log10(spread), min(shape), dtype=torch.float64) @ v
    expected = matrices / matrices.flatten(-2).norm(dim=-1)[:, None, None]
    for _ in range(5):
        gram = expected @ expected.mT
        expected = 3.4445 * expected + (-4.7750 * gram + 2.0315 * gram @ gram) @ expected
    result = torch.stack(orthogonalize(matrices.float().unbind()))
    assert (result - expected).norm() < 1e-3 * expected.norm()
    torch.testing.assert_close(torch.stack(orthogonalize(matrices.unbind())), expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("shape", [(64, 64), (64, 576), (576, 64), (128, 1152)])
@pytest.mark.parametrize("spread", [1e1, 1e4])
def test_products_in_bfloat16_give_nearly_the_same_directions(shape, spread):
    generator = torch.Generator().manual_seed(0)
    u, _, v = torch.linalg.svd(torch.randn(2, *shape, generator=generator), full_matrices=False)
    matrices = u * torch.logspace(0, -math.log10(spread), min(shape)) @ v
    expected, result = (
        torch.stack(orthogonalize(matrices.unbind(), product_type=one)).flatten(1) for one in (None, torch.bfloat16)
    )
    assert result.dtype == torch.float32 and not torch.equal(result, expected)
    assert torch.nn.functional.cosine_similarity(result, expected).min() > 0.98


@pytest.mark.parametrize("product_type", [None, torch.bfloat16])
def test_zero_stays_zero(product_type):
    for result in orthogonalize([torch.zeros(4, 16), torch.zeros(64, 64), torch.zeros(64, 128)], 5, product_type):
        assert result.abs().max() == 0


@pytest.mark.parametrize("product_type", [None, torch.bfloat16])
def test_matrices_computed_together_equal_those_computed_alone(product_type):
    """Of one shorter side, tall and wide, square and long; and in their order."""
    generator = torch.Generator().manual_seed(0)
    shapes = [(64, 64), (64, 576), (8, 72), (256, 64), (64, 576), (8, 8), (64, 100)]
    matrices = [torch.randn(shape, generator=generator) for shape in shapes]
    together = orthogonalize(matrices, product_type=product_type)
    for matrix, result in zip(matrices, together, strict=True):
        (alone,) = orthogonalize([matrix], product_type=product_type)
        assert result.shape == matrix.shape
        torch.testing.assert_close(result, alone, atol=1e-5 if product_type is None else 2e-2, rtol=0)


def test_small_matrices_are_not_rounded():
    matrix = torch.randn(32, 288, generator=torch.Generator().manual_seed(0))
    assert torch.equal(orthogonalize([matrix], product_type=torch.bfloat16)[0], orthogonalize([matrix])[0])


def test_memory_format_changes_the_update_by_rounding_only():
    torch.manual_seed(0)
    plain = nn.Conv2d(4, 6, 3, bias=False)
    last = copy.deepcopy(plain).to(memory_format=torch.channels_last)
    gradient = torch.randn(6, 4, 3, 3)
    for layer in (plain, last):
        layer.weight.grad = gradient.clone(memory_format=torch.preserve_format)
        Muon([{"params": [layer.weight], "orthogonal": True}], lr=0.1).step()
    assert last.weight.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(last.weight, plain.weight, atol=1e-6, rtol=1e-5)


def test_the_optimizer_uses_its_type_of_products(monkeypatch):
    seen = []
    monkeypatch.setattr(muon, "orthogonalize", lambda x, product_type: seen.append(product_type) or x)
    layer = nn.Conv2d(4, 6, 3, bias=False)
    optimizer = Muon([{"params": [layer.weight], "orthogonal": True}], lr=0.1)
    layer(torch.rand(1, 4, 5, 5)).sum().backward()
    optimizer.step()
    optimizer.product_type = torch.bfloat16
    optimizer.step()
    assert seen == [None, torch.bfloat16] and copy.deepcopy(optimizer).product_type is None  # no part of the state


def slow_step(weight, gradient, momentum, lr, decay, beta):
    """One step of one tensor, after the papers."""
    momentum = beta * momentum + (1 - beta) * gradient
    ahead = beta * momentum + (1 - beta) * gradient
    matrix = ahead.reshape(len(ahead), -1)
    update = orthogonalize([matrix])[0].reshape(weight.shape) * 0.2 * max(matrix.shape) ** 0.5
    return weight * (1 - lr * decay) - lr * update, momentum


def test_matrices_equal_the_slow_reference_and_other_parameters_adamw():
    torch.manual_seed(0)
    layers = [nn.Conv2d(4, 6, 3, bias=False), nn.Conv2d(4, 6, 3, bias=False), nn.Conv2d(6, 3, 1)]
    others = copy.deepcopy(layers)
    groups = [
        {"params": [layers[0].weight, layers[1].weight], "orthogonal": True, "weight_decay": 0.1},
        {"params": list(layers[2].parameters()), "weight_decay": 0.05},
    ]
    optimizer = Muon(groups, lr=0.01, betas=(0.9, 0.99))
    adamw = torch.optim.AdamW(others[2].parameters(), lr=0.01, betas=(0.9, 0.99), weight_decay=0.05)
    momenta = [torch.zeros_like(layer.weight) for layer in others[:2]]
    for _ in range(4):
        for layer, other in zip(layers, others, strict=True):
            for p, q in zip(layer.parameters(), other.parameters(), strict=True):
                p.grad = torch.randn_like(p)
                q.grad = p.grad.clone()
        optimizer.step()
        adamw.step()
        for index, other in enumerate(others[:2]):
            other.weight.data, momenta[index] = slow_step(
                other.weight.data, other.weight.grad, momenta[index], 0.01, 0.1, 0.9
            )
        for layer, other in zip(layers, others, strict=True):
            for p, q in zip(layer.parameters(), other.parameters(), strict=True):
                torch.testing.assert_close(p, q, atol=1e-6, rtol=1e-5)


def test_is_resumed_from_its_state():
    torch.manual_seed(0)
    h = Hyperparameters(optimizer="Muon", nominal_batch=1)

    def make():
        torch.manual_seed(1)
        model = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1))
        return model, make_optimizer(model, "Muon", h, 1)

    def learn(model, optimizer, seeds):
        for seed in seeds:
            optimizer.zero_grad()
            model(torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(seed))).square().mean().backward()
            optimizer.step()

    straight, one = make()
    learn(straight, one, range(4))
    stopped, two = make()
    learn(stopped, two, range(2))
    resumed, three = make()
    resumed.load_state_dict(stopped.state_dict())
    three.load_state_dict(copy.deepcopy(two.state_dict()))
    learn(resumed, three, range(2, 4))
    for a, b in zip(straight.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(a, b)


def test_matrices_mix_channels():
    """Neither depth-wise weights nor those of outputs, which have a bias, are orthogonalised."""
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, bias=False),
        nn.BatchNorm2d(8),
        nn.Conv2d(8, 8, 3, groups=8, bias=False),
        nn.Conv2d(8, 5, 1),
    )
    groups = parameter_groups(model, matrices=True)
    assert groups["matrices"] == [model[0].weight]
    assert {id(p) for p in groups["weights"]} == {id(model[2].weight), id(model[3].weight)}
    assert "matrices" not in parameter_groups(model)


def test_other_tables_of_numbers_are_no_matrices():
    class Experts(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(4, 8, 3, 3, 3))
            self.places = nn.Embedding(5, 8)

    groups = parameter_groups(Experts(), matrices=True)
    assert not groups["matrices"] and len(groups["weights"]) == 2
