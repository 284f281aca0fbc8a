"""Steps with a gradient scaler, as in float16 on CUDA. torch's scaler for the CPU does the same arithmetic."""

import torch

from graftdet.utils.hyperparameters import load_hyperparameters
from graftdet.utils.training.ema import ModelEMA
from graftdet.utils.training.optim import Stepper, make_optimizer
from graftdet.utils.training.schedule import Schedule

SCALE = 1024.0


def make_stepper(scaler=None, clip_norm=0.5):
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Conv2d(4, 2, 1))
    h = load_hyperparameters("yolov5.yaml", ["nominal_batch=0", "warmup_epochs=0"]).for_run(10, 10, 2)
    optimizer = make_optimizer(model, "SGD", h, 2)
    return model, Stepper(model, optimizer, Schedule(h, 10, 10, 2), ModelEMA(model), clip_norm, scaler)


def run(model, stepper, numbers, factor=1.0):
    for number in numbers:
        stepper.begin(number)
        images = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(number))
        assert stepper.backward(model(images).square().sum() * factor)
    return [tensor.clone() for tensor in model.state_dict().values()]


def scaler():
    return torch.amp.GradScaler("cpu", init_scale=SCALE)


def equal(first, second):
    return all(map(torch.equal, first, second))


def test_gradients_are_clipped_after_they_are_unscaled():
    assert equal(run(*make_stepper(), range(3)), run(*make_stepper(scaler()), range(3)))
    assert not equal(run(*make_stepper(), range(3)), run(*make_stepper(clip_norm=0), range(3)))  # clipping matters


def test_a_step_with_infinite_gradients_is_skipped():
    model, stepper = make_stepper(scaler())
    before = [parameter.clone() for parameter in model.parameters()]
    run(model, stepper, [0], factor=float("inf"))
    assert equal(before, model.parameters()) and stepper.scaler.get_scale() == SCALE / 2
    assert stepper.pending == 0 and all(parameter.grad is None for parameter in model.parameters())
    run(model, stepper, [1])
    assert not equal(before, model.parameters()) and all(p.isfinite().all() for p in model.parameters())


def test_the_scale_is_resumed():
    model, stepper = make_stepper(scaler())
    run(model, stepper, [0], factor=float("inf"))
    _, resumed = make_stepper(scaler())
    resumed.load_state_dict(stepper.state_dict())
    assert resumed.scaler.get_scale() == SCALE / 2
    _, without = make_stepper()
    without.load_state_dict(stepper.state_dict())  # a run that continues in float32
    assert not without.scaler.is_enabled()
    stepper.load_state_dict(make_stepper()[1].state_dict())  # a run that began in float32
    assert stepper.scaler.get_scale() == SCALE / 2
