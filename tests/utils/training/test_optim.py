"""Parameter groups, the published schedule in numbers, accumulation across epochs."""

import math

import pytest
import torch
from torch import nn

from graftdet.utils.errors import UserError
from graftdet.utils.hyperparameters import Hyperparameters, accumulation
from graftdet.utils.training.ema import ModelEMA
from graftdet.utils.training.optim import Stepper, make_optimizer, parameter_groups
from graftdet.utils.training.schedule import Schedule


class Odd(nn.Module):
    """Parameters that no layer of torch has."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        self.bn = nn.BatchNorm2d(4)
        self.norm = nn.LayerNorm(4)
        self.attention = nn.MultiheadAttention(4, 1)
        self.scale = nn.Parameter(torch.ones(3))
        self.experts = nn.Parameter(torch.ones(2, 4))
        self.tied = self.conv


def test_only_weights_of_layers_decay():
    model = Odd()
    groups = parameter_groups(model)
    ids = {name: {id(p) for p in group} for name, group in groups.items()}
    assert ids["weights"] == {
        id(p)
        for p in (model.conv.weight, model.attention.in_proj_weight, model.attention.out_proj.weight, model.experts)
    }
    assert ids["scales"] == {id(model.bn.weight), id(model.norm.weight), id(model.scale)}
    assert ids["biases"] == {id(p) for name, p in model.named_parameters() if name.endswith("bias")}
    assert sum(map(len, groups.values())) == len(list(model.parameters()))


@pytest.mark.parametrize(("batch", "decay"), [(16, 5e-4), (64, 5e-4), (128, 1e-3), (48, 5e-4 * 48 / 64), (1, 5e-4)])
def test_decay_is_proportional_to_images_per_step(batch, decay):
    optimizer = make_optimizer(Odd(), "SGD", Hyperparameters(), batch)
    decays = {group["name"]: group["weight_decay"] for group in optimizer.param_groups}
    assert decays == {"biases": 0, "weights": pytest.approx(decay), "scales": 0}
    assert all(group["nesterov"] and group["momentum"] == 0.937 for group in optimizer.param_groups)


@pytest.mark.parametrize("name", ["SGD", "AdamW", "Muon"])
def test_transferred_parameters_learn_at_a_fraction_of_the_rate(name):
    """Through warm-up and decay, with the weight decay of their kind; at a fraction of 1 the groups are as without."""
    model = Odd()
    h = Hyperparameters(lr0=0.1, transferred_lr=0.25, lrf=0.1, warmup_epochs=0)
    optimizer = make_optimizer(model, name, h, 16, [model.conv.weight, model.bn.weight])
    Schedule(h, epochs=10, batches=1, batch_size=16).apply(optimizer, 5)
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    slow, fast = rates.pop(id(model.conv.weight)), rates.pop(id(model.bn.weight))
    assert slow == fast == pytest.approx(0.1 * 0.25 * 0.55)
    assert list(rates.values()) == pytest.approx([0.1 * 0.55] * len(rates))
    decays = {id(p): group["weight_decay"] > 0 for group in optimizer.param_groups for p in group["params"]}
    assert decays[id(model.conv.weight)] and not decays[id(model.bn.weight)] and decays[id(model.experts)]
    whole = make_optimizer(model, name, Hyperparameters(), 16, [model.conv.weight])
    assert len(whole.param_groups) == len(make_optimizer(model, name, Hyperparameters(), 16).param_groups)


def test_optimizers_by_name_and_unknown_names():
    adam = make_optimizer(Odd(), "adamw", Hyperparameters(), 16)
    assert isinstance(adam, torch.optim.AdamW) and adam.param_groups[0]["betas"] == (0.937, 0.999)
    with pytest.raises(UserError, match="did you mean 'Adam'"):
        make_optimizer(Odd(), "Adan", Hyperparameters(), 16)
    with pytest.raises(UserError, match="frozen"):
        make_optimizer(Odd().requires_grad_(False), "SGD", Hyperparameters(), 16)


def test_schedule_is_the_published_one():
    """13 batches an epoch, as 205 images in batches of 16: the warm-up takes 100 batches, being more than 39."""
    optimizer = make_optimizer(Odd(), "SGD", Hyperparameters(), 16)
    schedule = Schedule(Hyperparameters(), epochs=100, batches=13, batch_size=16)
    rates = lambda: {group["name"]: group["lr"] for group in optimizer.param_groups}  # noqa: E731

    assert schedule.apply(optimizer, 0) == 1
    assert rates() == {"biases": 0.1, "weights": 0, "scales": 0}
    assert optimizer.param_groups[0]["momentum"] == pytest.approx(0.8)

    assert schedule.apply(optimizer, 50) == 2  # 2.5 rounds to even, as the original's rounding does
    target = 0.01 * (1 - (50 // 13) / 100 * 0.99)
    assert rates()["weights"] == pytest.approx(target / 2) and rates()["biases"] == pytest.approx((0.1 + target) / 2)
    assert optimizer.param_groups[1]["momentum"] == pytest.approx((0.8 + 0.937) / 2)

    assert schedule.apply(optimizer, 100) == 4
    assert list(rates().values()) == pytest.approx([0.01 * (1 - 7 / 100 * 0.99)] * 3)
    assert schedule.apply(optimizer, 13 * 99) == 4
    assert rates()["weights"] == pytest.approx(0.01 * (1 - 0.99 * 0.99))
    assert optimizer.param_groups[0]["momentum"] == pytest.approx(0.937)


def test_cosine_and_no_warmup():
    optimizer = make_optimizer(Odd(), "SGD", Hyperparameters(), 64)
    schedule = Schedule(Hyperparameters(warmup_epochs=0, schedule="cosine"), epochs=10, batches=5, batch_size=64)
    schedule.apply(optimizer, 0)
    assert optimizer.param_groups[0]["lr"] == 0.01
    schedule.apply(optimizer, 25)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.01 * (1 + 0.01) / 2)
    assert schedule.factor(15) == pytest.approx((1 + math.cos(0.3 * math.pi)) / 2 * 0.99 + 0.01)


@pytest.mark.parametrize(("batch", "count"), [(1, 64), (16, 4), (20, 3), (24, 3), (64, 1), (200, 1)])
def test_accumulation(batch, count):
    assert accumulation(batch) == count


def test_accumulated_gradients_are_those_of_one_large_batch_and_cross_epochs():
    torch.manual_seed(0)
    images = torch.rand(8, 3)
    h = Hyperparameters(warmup_epochs=0, nominal_batch=4, clip_norm=0, weight_decay=0)

    def train(batch, batches_per_epoch):
        torch.manual_seed(1)
        model = nn.Linear(3, 1)
        schedule = Schedule(h, epochs=8, batches=batches_per_epoch, batch_size=batch)
        stepper = Stepper(model, make_optimizer(model, "SGD", h, batch), schedule, ModelEMA(model), h.clip_norm)
        schedule.factor = lambda epoch: 1.0  # the rate alone depends on the epoch
        for iteration in range(8 // batch):
            stepper.begin(iteration)
            stepper.backward((model(images[iteration * batch : (iteration + 1) * batch]) ** 2).sum())
        return model, stepper

    large, _ = train(4, 2)
    small, stepper = train(1, 3)  # the third epoch is cut short, the steps come after batches 4 and 8
    assert stepper.ema.updates == 2 and stepper.pending == 0
    torch.testing.assert_close(small.weight, large.weight)
    torch.testing.assert_close(small.bias, large.bias)


def test_gradient_is_clipped():
    model = nn.Linear(1, 1, bias=False)
    h = Hyperparameters(warmup_epochs=0, momentum=0, lr0=1.0, weight_decay=0, clip_norm=10)
    schedule = Schedule(h, epochs=1, batches=1, batch_size=64)
    stepper = Stepper(model, make_optimizer(model, "SGD", h, 64), schedule, ModelEMA(model), h.clip_norm)
    before = model.weight.item()
    stepper.begin(0)
    stepper.backward(1000 * model(torch.ones(1, 1)).sum())
    assert model.weight.item() == pytest.approx(before - 10, rel=1e-4)


def test_accumulated_gradients_are_part_of_the_state():
    h = Hyperparameters(warmup_epochs=0, nominal_batch=3)

    def make():
        torch.manual_seed(0)
        model = nn.Linear(3, 1)
        schedule = Schedule(h, epochs=8, batches=2, batch_size=1)
        return model, Stepper(model, make_optimizer(model, "SGD", h, 1), schedule, ModelEMA(model))

    images = torch.rand(6, 1, 3)

    def run_train(model, stepper, numbers):
        for number in numbers:
            stepper.begin(number)
            stepper.backward((model(images[number]) ** 2).sum())

    uninterrupted, stepper = make()
    run_train(uninterrupted, stepper, range(6))
    first, before = make()
    run_train(first, before, range(4))
    state = before.state_dict()
    assert state["pending"] == 1 and set(state["gradients"]) == {"weight", "bias"}
    second, after = make()
    second.load_state_dict(first.state_dict())
    after.load_state_dict(state)
    run_train(second, after, range(4, 6))
    assert torch.equal(second.weight, uninterrupted.weight) and torch.equal(second.bias, uninterrupted.bias)


@pytest.mark.parametrize(("name", "first"), [("SGD", 0.1), ("AdamW", 0.0)])
def test_only_sgd_warms_its_biases_from_above(name, first):
    model, h = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1)), Hyperparameters()
    optimizer = make_optimizer(model, name, h, 16)
    Schedule(h, epochs=10, batches=50, batch_size=16).apply(optimizer, 0)
    rates = {group["name"]: group["lr"] for group in optimizer.param_groups}
    assert rates == {"biases": first, "weights": 0.0}


@pytest.mark.parametrize(
    ("schedule", "factors"),
    [
        ("linear", [1, 0.775, 0.55, 0.325, 0.1]),
        ("cosine", [1, 1 - 0.9 * (1 - 0.5**0.5) / 2, 0.55, 1 - 0.9 * (1 + 0.5**0.5) / 2, 0.1]),
        ("flat_cosine", [1, 1, 1, 0.55, 0.1]),
    ],
)
def test_the_learning_rate_falls_along_the_schedule(schedule, factors):
    falling = Schedule(
        Hyperparameters(schedule=schedule, lr_update="batch", lrf=0.1), epochs=10, batches=4, batch_size=16
    )
    assert [falling.factor(iteration) for iteration in (0, 10, 20, 30, 40)] == pytest.approx(factors)


def test_every_batch_is_a_step_without_accumulation():
    h = Hyperparameters(optimizer="AdamW", nominal_batch=0, warmup_epochs=1, weight_decay=0.02)
    optimizer = make_optimizer(nn.Conv2d(1, 1, 1), h.optimizer, h, 16)
    schedule = Schedule(h, 10, 20, 16)
    assert {schedule.apply(optimizer, iteration) for iteration in range(0, 200, 7)} == {1}
    assert {group["weight_decay"] for group in optimizer.param_groups} == {0.0, 0.02}
