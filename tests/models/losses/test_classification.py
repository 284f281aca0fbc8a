"""Class losses against the papers' formulas, one value at a time."""

import math

import pytest
import torch

from graftdet.models.losses.classification import CLASS_LOSSES


def bce(p, y):
    return -(y * math.log(p) + (1 - y) * math.log(1 - p))


def slow_varifocal(p, q):
    """Zhang et al., 2021, equation 2, alpha 0.75, gamma 2."""
    return q * bce(p, q) if q > 0 else -0.75 * p**2 * math.log(1 - p)


def slow_quality_focal(p, y):
    """Li et al., 2020, equation 5, beta 2."""
    return abs(y - p) ** 2 * bce(p, y)


SLOW = {"bce": bce, "varifocal": slow_varifocal, "quality_focal": slow_quality_focal}


@pytest.mark.parametrize("name", SLOW)
def test_values_and_gradients_equal_the_formula(name):
    """Gradients, too: the weights of hard examples are part of what is minimized."""
    for logit in (-4.0, -0.5, 0.3, 2.5):
        for quality in (0.0, 0.2, 0.9, 1.0):

            def slow(x, quality=quality):
                return SLOW[name](1 / (1 + math.exp(-x)), quality)

            x = torch.tensor([logit], requires_grad=True)
            got = CLASS_LOSSES[name](x, torch.tensor([quality]))
            got.sum().backward()
            assert got.item() == pytest.approx(slow(logit), rel=1e-4, abs=1e-7)
            assert x.grad.item() == pytest.approx((slow(logit + 1e-5) - slow(logit - 1e-5)) / 2e-5, rel=1e-3, abs=1e-5)


@pytest.mark.parametrize("name", SLOW)
def test_extreme_logits_stay_finite(name):
    x = torch.tensor([[-200.0, 200.0, 0.0, -200.0]]).half().requires_grad_()
    loss = CLASS_LOSSES[name](x, torch.tensor([[1.0, 0.0, 0.0, 0.0]]))
    loss.sum().backward()
    assert loss.dtype == torch.float32 and loss.isfinite().all() and x.grad.isfinite().all() and loss.shape == (1, 4)
    assert CLASS_LOSSES[name](x[:0], torch.zeros(0, 4)).shape == (0, 4)


@pytest.mark.parametrize("name", SLOW)
def test_minimum_is_reached_at_the_quality(name):
    quality = torch.full((1,), 0.7)
    best = CLASS_LOSSES[name](torch.logit(quality), quality)
    for logit in (-3.0, 0.0, 0.6, 1.1, 4.0):
        assert CLASS_LOSSES[name](torch.tensor([logit]), quality) > best
