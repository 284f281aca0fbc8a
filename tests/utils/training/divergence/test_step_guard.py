"""Steps whose loss or gradients are not finite: skipped as if their batch had not been there."""

import numpy as np
import pytest
import torch
from torch import nn

from graftdet.utils.hyperparameters import Hyperparameters
from graftdet.utils.training.divergence.loss_meter import NonFiniteLoss
from graftdet.utils.training.divergence.step_guard import MAX_SKIPS, NonFiniteGradients, StepGuard
from graftdet.utils.training.ema import ModelEMA
from graftdet.utils.training.optim import Stepper, make_optimizer
from graftdet.utils.training.run_state import EarlyStopping, RunState
from graftdet.utils.training.schedule import Schedule
from graftdet.utils.training.trainer import train_one_epoch

CPU = torch.device("cpu")
POISON = 255


class HugeGradient(torch.autograd.Function):
    """The identity; its gradient is infinite where an image is `POISON`."""

    @staticmethod
    def forward(ctx, x, poisoned):
        ctx.poisoned = poisoned
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient * float("inf") if ctx.poisoned else gradient, None


def make(action, nominal=2, kind="loss"):
    torch.manual_seed(0)
    h = Hyperparameters(warmup_epochs=0, nominal_batch=nominal, lr0=0.05)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1))
    ema = ModelEMA(model, tau=10)
    guard = StepGuard(action)
    stepper = Stepper(model, make_optimizer(model, "SGD", h, 2), Schedule(h, 9, 6, 2), ema, guard=guard)

    def criterion(raw, targets):
        poisoned = bool(targets[:, 5].max() > 1)
        factor = float("nan") if poisoned and kind == "loss" else 1.0
        return {"box": HugeGradient.apply(raw, poisoned and kind == "gradients").square().mean() * factor}

    return RunState(model, ema, stepper, EarlyStopping(5), np.zeros(2)), criterion


def batches(poisoned=(), count=6):
    generator = torch.Generator().manual_seed(0)
    for number in range(count):
        images = torch.randint(0, 200, (2, 3, 8, 8), generator=generator, dtype=torch.uint8)
        targets = torch.full((1, 6), 2.0 if number in poisoned else 0.5)
        yield {"images": images, "targets": targets, "paths": [f"{number}-{i}.jpg" for i in range(2)]}


def train(made, batches):
    state, criterion = made
    return train_one_epoch(
        state.model, criterion, list(batches), state.stepper, epoch=0, batches_per_epoch=6, device=CPU
    )


def equal(first, second):
    first, second = first.state_dict(), second.state_dict()
    states = [(first[key], second[key]) for key in ("model", "ema")]
    momenta = [
        {str(key): value["momentum_buffer"] for key, value in one["optimizer"]["optimizer"]["state"].items()}
        for one in (first, second)
    ]
    same_gradients = first["optimizer"]["pending"] == second["optimizer"]["pending"] and all(
        torch.equal(value, second["optimizer"]["gradients"][name])
        for name, value in first["optimizer"]["gradients"].items()
    )
    return same_gradients and all(
        one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)
        for one, other in [*states, momenta]
    )


@pytest.mark.parametrize("kind", ["loss", "gradients"])
@pytest.mark.parametrize("poisoned", [(5,), (0, 1), (2, 4)])
def test_a_skipped_batch_changes_nothing(kind, poisoned, caplog):
    skipping, without = make("skip", kind=kind), make("stop", kind=kind)
    result = train(skipping, batches(poisoned))
    good = [batch for number, batch in enumerate(batches()) if number not in poisoned]
    reference = train(without, good)
    # the rate of an epoch is constant here, so that the numbers of the batches do not matter
    assert equal(skipping[0], without[0])
    assert skipping[0].ema.updates == 6 - len(poisoned) and skipping[0].stepper.guard.skipped == len(poisoned)
    if kind == "loss":
        assert result.losses == reference.losses
    text = caplog.text
    assert f"batch {poisoned[0] + 1}:" in text and f"{poisoned[0]}-0.jpg, {poisoned[0]}-1.jpg" in text
    assert ("box nan" in text) == (kind == "loss") and ("gradients are not finite (" in text) == (kind == "gradients")


def test_gradients_accumulated_before_a_loss_that_is_not_finite_stay():
    skipping, without = make("skip", nominal=6), make("stop", nominal=6)
    train(skipping, batches((1, 5)))  # steps after batches 0, 2, 3
    train(without, [batch for number, batch in enumerate(batches()) if number not in (1, 5)])
    assert skipping[0].ema.updates == 1 and skipping[0].stepper.pending == 1 and equal(skipping[0], without[0])


def test_gradients_that_are_not_finite_take_those_before_them_along():
    skipping, without = make("skip", nominal=4, kind="gradients"), make("stop", nominal=4, kind="gradients")
    train(skipping, batches((1,)))  # 0 is lost with 1
    assert skipping[0].ema.updates == 2 and skipping[0].stepper.pending == 0
    train(without, [batch for number, batch in enumerate(batches()) if number > 1])
    names = [name for name, _ in skipping[0].model.named_parameters()]  # batch 0 counts in the running statistics
    states = [made[0].model.state_dict() for made in (skipping, without)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in names)


def test_batches_in_a_row_are_limited_over_epochs_and_a_good_one_counts_anew():
    made = make("skip")
    for _ in range(MAX_SKIPS // 5):
        train(made, batches((1, 2, 3, 4, 5)))
    assert made[0].stepper.guard.consecutive == 5
    restored = make("skip")
    restored[0].load_state_dict(made[0].state_dict())
    assert restored[0].stepper.guard.state_dict() == {"skipped": MAX_SKIPS, "consecutive": 5, "rollbacks": 0}
    with pytest.raises(NonFiniteLoss, match="every batch of the epoch was skipped"):
        train(restored, batches((0, 1, 2, 3), count=4))
    with pytest.raises(NonFiniteLoss, match="10 batches in a row were skipped; epoch 1, batch 2: .*images: 1-0.jpg"):
        train(restored, batches((0, 1, 2, 3)))


@pytest.mark.parametrize("action", ["stop", "rollback"])
def test_other_actions_raise(action):
    with pytest.raises(NonFiniteLoss, match="epoch 1, batch 3: .*box nan"):
        train(make(action), batches((2,)))


def test_rollback_finds_gradients_before_they_reach_the_weights():
    made = make("rollback", kind="gradients")
    with pytest.raises(NonFiniteGradients, match="batch 3: gradients are not finite .*images: 2-0.jpg, 2-1.jpg"):
        train(made, batches((2,)))
    assert all(parameter.isfinite().all() for parameter in made[0].model.parameters())


def test_overflow_is_left_to_an_enabled_scaler():
    state, criterion = make("skip", kind="gradients")
    state.stepper.scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    before = [parameter.clone() for parameter in state.model.parameters()]
    train((state, criterion), batches((0,), count=1))
    assert state.stepper.guard.skipped == 0 and state.stepper.scaler.get_scale() == 512
    assert all(map(torch.equal, before, state.model.parameters()))


def test_a_skip_leaves_the_scale_alone():
    state, criterion = make("skip")
    state.stepper.scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=2)
    train((state, criterion), batches((0, 1, 3), count=4))
    assert state.stepper.guard.skipped == 3 and state.stepper.scaler.state_dict()["_growth_tracker"] == 1


def test_rollbacks_lower_every_rate():
    state, _ = make("rollback")
    state.stepper.begin(0)
    before = [group["lr"] for group in state.stepper.optimizer.param_groups]
    state.stepper.guard.rollbacks = 2
    state.stepper.begin(0)
    assert [group["lr"] for group in state.stepper.optimizer.param_groups] == [rate / 4 for rate in before]
