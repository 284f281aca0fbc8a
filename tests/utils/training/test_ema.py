"""The exponential moving average of weights against its formula."""

import copy
import math

import torch
from torch import nn

from graftdet.utils.training.ema import EpochAverage, ModelEMA


def small():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2))


def test_follows_the_formula():
    model = small()
    ema = ModelEMA(model, decay=0.9, tau=5)
    expected = {name: value.clone().double() for name, value in model.state_dict().items()}
    for update in range(1, 8):
        model.train()(torch.rand(3, 1, 4, 4))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += torch.rand_like(parameter)
        ema.update(model)
        decay = 0.9 * (1 - math.exp(-update / 5))
        for name, value in model.state_dict().items():
            expected[name] = decay * expected[name] + (1 - decay) * value.double()
    for name, value in ema.state_dict().items():
        if name.endswith("num_batches_tracked"):
            assert value == 7
        else:
            torch.testing.assert_close(value.double(), expected[name], atol=1e-6, rtol=1e-6)


def test_weights_that_layers_share_move_once():
    model = nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)])
    model[1].weight = model[0].weight
    ema, before = ModelEMA(model, decay=0.5, tau=1e-6), model[0].weight.detach().clone()
    with torch.no_grad():
        model[0].weight += 1
    ema.update(model)
    torch.testing.assert_close(ema.state_dict()["1.weight"], before + 0.5)


def test_is_a_frozen_copy_in_eval_mode():
    model = small().train()
    ema = ModelEMA(model)
    assert model.training and not ema.model.training
    assert all(p.requires_grad for p in model.parameters()) and not any(p.requires_grad for p in ema.model.parameters())
    before = copy.deepcopy(ema.state_dict())
    with torch.no_grad():
        model[0].weight += 1
    assert all(torch.equal(before[name], value) for name, value in ema.state_dict().items())


def test_restored_state_continues_identically():
    model = small()
    first = ModelEMA(model, tau=3)
    with torch.no_grad():
        model[0].weight += 1
    first.update(model)
    second = ModelEMA(small(), tau=3)
    second.load_state_dict(first.state_dict(), first.updates)
    for ema in (first, second):
        ema.update(model)
    assert all(torch.equal(first.state_dict()[name], value) for name, value in second.state_dict().items())


def test_average_spans_a_fraction_of_all_updates():
    """The weight of update u is 1 / (1 + fraction * u), at least 1 - decay: older updates hardly count."""
    model = nn.Linear(1, 1, bias=False)
    ema = ModelEMA(model, decay=0.9999, fraction=0.1)
    expected = model.weight.item()
    for update in range(1, 201):
        with torch.no_grad():
            model.weight.fill_(1.0 if update > 100 else 0.0)
        ema.update(model)
        expected += (model.weight.item() - expected) / (1 + 0.1 * update)
        assert abs(ema.model.weight.item() - expected) < 1e-5
    assert ema.model.weight.item() > 0.99  # the second half is five spans long
    bounded = ModelEMA(model, decay=0.5, fraction=0.01)
    bounded.updates = 10**6
    with torch.no_grad():
        model.weight.fill_(3.0)
    bounded.update(model)
    assert bounded.model.weight.item() == 2.0


def test_weights_of_the_consecutive_epochs_with_the_highest_mean_fitness_are_averaged():
    average = EpochAverage(2)
    fitness = [0.1, 0.5, 0.2, 0.45, 0.44, 0.1]  # epoch 2 is the best, epochs 4 and 5 are the best two
    states = [{"w": torch.tensor([float(epoch)]), "n": torch.tensor(epoch)} for epoch in range(1, 7)]
    for epoch, (value, state) in enumerate(zip(fitness[:4], states[:4], strict=True), 1):
        average.update(epoch, value, state)
    resumed = EpochAverage(2)
    resumed.load_state_dict(average.state_dict())
    for one in (average, resumed):
        for epoch in (5, 6):
            one.update(epoch, fitness[epoch - 1], states[epoch - 1])
        assert one.epochs == (4, 5) and one.best["w"] == 4.5 and one.best["n"] == 5
        assert math.isclose(one.fitness, 0.445)


def test_nothing_is_averaged_before_enough_epochs_or_with_a_span_of_zero():
    for span, epochs in ((3, 2), (0, 5)):
        average = EpochAverage(span)
        for epoch in range(epochs):
            average.update(epoch, 0.5, {"w": torch.ones(1)})
        assert average.best is None


def test_shared_replaced_and_temporary_tensors():
    """A weight that two layers share counts once, a replaced one is found, one that is not saved stays."""
    model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))
    model[1].weight = model[0].weight
    model.register_buffer("grid", torch.zeros(1), persistent=False)
    ema = ModelEMA(model, decay=0.5, fraction=1e9)
    with torch.no_grad():
        model[0].weight.fill_(2.0)
        ema.model[0].weight.fill_(1.0)
    model.grid = torch.ones(3)
    ema.update(model)
    assert torch.equal(ema.model[1].weight, torch.full((2, 2), 1.5)) and torch.equal(ema.model.grid, torch.zeros(1))
    model[0].weight = model[1].weight = nn.Parameter(torch.full((2, 2), 3.5))
    ema.update(model)
    assert torch.equal(ema.model[0].weight, torch.full((2, 2), 2.5))
