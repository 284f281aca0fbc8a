"""How the steps of a run compute: options, devices, records, and timed steps that leave no trace."""

import copy
import logging

import pytest
import torch
from torch import nn

from graftdet.models import ModelSpec
from graftdet.models.graph.detection_model import DetectionModel
from graftdet.utils import distributed
from graftdet.utils.hyperparameters import load_hyperparameters
from graftdet.utils.training.acceleration import step_choice
from graftdet.utils.training.acceleration.preparation import prepare_for_training
from graftdet.utils.training.acceleration.step_choice import (
    StepChoice,
    TimedSteps,
    Work,
    choose_steps,
    describe,
    time_steps,
)
from graftdet.utils.training.acceleration.step_timing import StepVariant, fastest, variants_for
from graftdet.utils.training.optim import make_optimizer

CPU, CUDA, MPS = map(torch.device, ("cpu", "cuda", "mps"))
LAST = torch.channels_last
LAST_FLOAT32, CONTIGUOUS_FLOAT32, LAST_BFLOAT16, CONTIGUOUS_BFLOAT16 = variants_for("channels last")
BFLOAT16_TIMES = {
    "training": {LAST_FLOAT32: 0.03, CONTIGUOUS_FLOAT32: 0.04, LAST_BFLOAT16: 0.02},
    "validation": {LAST_FLOAT32: 0.01, LAST_BFLOAT16: 0.0099},
}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GRAFTDET_CACHE", str(tmp_path))


@pytest.fixture(autouse=True)
def load(monkeypatch):
    """Replaces the load from other processes; its item is the fraction of the cores that they use."""
    loads = [0.0]
    monkeypatch.setattr(step_choice, "load_since", lambda before: loads[0])
    return loads


@pytest.fixture
def work(tiny_yaml):
    torch.manual_seed(0)
    model = DetectionModel(ModelSpec.from_text(tiny_yaml, "tiny.yaml")).train()
    assert prepare_for_training(model, CPU, (3, 64, 64), model.model) == LAST
    recipe = load_hyperparameters("default.yaml").for_run(10, 10, 4)
    optimizer = make_optimizer(model, recipe.optimizer, recipe, 4)
    return Work(model, model, model.criterion(recipe, 64), optimizer, (4, 3, 64, 64), 100, CPU)


@pytest.fixture
def times(monkeypatch):
    """Replaces the timed steps: returns a list of their results, one per call."""
    results = []
    monkeypatch.setattr(step_choice, "time_steps", lambda work, memory_format: results.pop(0))
    return results


@pytest.mark.parametrize(
    ("option", "device", "precision", "has_scaler"),
    [
        ("off", CPU, "float32", False),
        ("on", CPU, "bfloat16", False),
        ("off", CUDA, "float32", False),
        ("on", CUDA, "float16", True),
        ("auto", CUDA, "float16", True),
        ("on", MPS, "float16", False),
        ("auto", MPS, "float32", False),
    ],
)
def test_options_and_other_devices_need_no_timing(option, device, precision, has_scaler, work, times, monkeypatch):
    monkeypatch.setattr(torch.amp, "GradScaler", lambda device: device)
    choice = choose_steps(option, Work(**{**vars(work), "device": device}), LAST)
    assert choice == StepChoice(device.type, StepVariant(precision, "channels last"), "float32")
    assert choice.scaler() == ("cuda" if has_scaler else None)


def test_auto_takes_the_fastest_and_remembers_the_times(work, times, caplog):
    times.append(BFLOAT16_TIMES)
    with caplog.at_level(logging.INFO):
        choice = choose_steps("auto", work, LAST)
        assert choose_steps("auto", work, LAST) == choice  # `times` is empty: these are remembered
    assert choice == StepChoice("cpu", LAST_BFLOAT16, "float32")
    first, second = caplog.messages
    assert (
        "precision: bfloat16 channels last, 50.0 images/s (float32 channels last 33.3, float32 contiguous 25.0)"
        in first
    )
    assert second == first + "; as measured in an earlier run"
    times.append({part: {LAST_FLOAT32: 1.0, LAST_BFLOAT16: 0.8} for part in ("training", "validation")})
    other = Work(**{**vars(work), "images_shape": (8, 3, 64, 64)})
    assert choose_steps("auto", other, LAST).validation == "bfloat16" and not times


def test_times_taken_under_load_are_taken_again_by_the_next_run(work, times, load, caplog):
    load[0] = 0.4
    times += [BFLOAT16_TIMES, {part: {LAST_FLOAT32: 0.1, LAST_BFLOAT16: 0.1} for part in BFLOAT16_TIMES}]
    with caplog.at_level(logging.INFO):
        assert choose_steps("auto", work, LAST).training == LAST_BFLOAT16
        load[0] = 0.0
        assert choose_steps("auto", work, LAST).training == LAST_FLOAT32 and not times
        choose_steps("auto", work, LAST)
    busy, idle, remembered = caplog.messages
    assert busy.endswith("; timed while other processes used 40% of the cores, so the next run times again")
    assert "timed while" not in idle and remembered == idle + "; as measured in an earlier run"


def test_a_short_run_is_not_timed(work, times, caplog):
    with caplog.at_level(logging.INFO):
        choice = choose_steps("auto", Work(**{**vars(work), "steps": 12}), torch.contiguous_format)
    assert choice.training == CONTIGUOUS_FLOAT32 and "a run of 12 steps is too short" in caplog.text


@pytest.mark.parametrize("option", ["auto", "on", "off"])
def test_a_resumed_run_computes_as_it_began(option, work, times):
    record = StepChoice("cpu", CONTIGUOUS_BFLOAT16, "bfloat16").to_record()
    assert choose_steps(option, work, LAST, record) == StepChoice("cpu", CONTIGUOUS_BFLOAT16, "bfloat16")
    for other in (
        None,
        5,
        {},
        {**record, "device": "cuda"},
        {**record, "training": "float8"},
        {**record, "validation": "x"},
    ):
        times[:] = [None]  # no step ran
        precision = "bfloat16" if option == "on" else "float32"
        assert choose_steps(option, work, LAST, other) == StepChoice("cpu", StepVariant(precision, "channels last"))


def test_a_choice_is_applied_to_model_and_optimizer(work):
    strides = [parameter.stride() for parameter in work.model.parameters()]
    StepChoice("cpu", LAST_FLOAT32).apply(work)
    assert [p.stride() for p in work.model.parameters()] == strides and work.optimizer.product_type is None
    StepChoice("cpu", CONTIGUOUS_BFLOAT16).apply(work)
    assert all(parameter.is_contiguous() for parameter in work.model.parameters())
    assert work.optimizer.product_type == torch.bfloat16


def test_timed_steps_change_nothing(work):
    model, optimizer = work.model, work.optimizer
    loss = sum(work.criterion(model(torch.rand(4, 3, 64, 64)), torch.zeros(0, 6)).values())
    loss.backward()
    optimizer.step()  # so that there is a state of the optimizer, and gradients
    before = copy.deepcopy((model.state_dict(), optimizer.state_dict()))
    gradients = [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]
    strides = [parameter.stride() for parameter in model.parameters()]
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    times = time_steps(work, "channels last")
    assert torch.equal(torch.rand(2), expected) and model.training
    assert all(torch.equal(value, before[0][name]) for name, value in model.state_dict().items())
    after = optimizer.state_dict()
    assert after["param_groups"] == before[1]["param_groups"] and after["state"].keys() == before[1]["state"].keys()
    for index, state in after["state"].items():
        assert all(torch.equal(torch.as_tensor(value), torch.as_tensor(before[1]["state"][index][name])) for name, value in state.items())  # fmt: skip
    assert all(map(torch.equal, gradients, [p.grad for p in model.parameters() if p.grad is not None]))
    assert [parameter.stride() for parameter in model.parameters()] == strides
    assert LAST_FLOAT32 in times["training"]
    assert {one.memory_format for one in times["validation"]} == {fastest(times["training"]).memory_format}
    assert all(taken > 0 for part in times.values() for taken in part.values())


def test_losses_of_timed_steps_are_those_of_the_same_weights(work):
    steps = TimedSteps(work, [LAST_FLOAT32])
    steps.train(LAST_FLOAT32, 2)
    copied = steps._copies["channels last"][0].parameters()
    assert all(map(torch.equal, copied, work.model.parameters()))


def test_timed_steps_do_not_wait_for_other_processes(work, monkeypatch):
    seen = []
    monkeypatch.setattr(distributed.dist, "is_initialized", lambda: True)

    def criterion(outputs, targets):
        seen.append(distributed._in_group())
        return work.criterion(outputs, targets)

    time_steps(Work(**{**vars(work), "criterion": criterion}), "channels last")
    assert set(seen) == {False} and distributed._in_group()


def test_times_depend_on_the_kind_of_training(work):
    class OtherLoss:
        pass

    assert Work(**{**vars(work), "criterion": OtherLoss()}).key() != work.key() == Work(**vars(work)).key()


class OnlyFloat32(nn.Module):
    def forward(self, x):
        assert x.dtype == torch.float32, "no kernel"
        return x * 1.0


class WrongInBfloat16(nn.Module):
    def forward(self, x):
        return x * (1.0 if x.dtype == torch.float32 else torch.nan)


@pytest.mark.parametrize("block", [OnlyFloat32, WrongInBfloat16])
def test_a_block_without_bfloat16_trains_in_float32(block, work, monkeypatch):
    monkeypatch.setattr(step_choice, "HOPELESS", 1e9)
    work.model.model[1] = nn.Sequential(work.model.model[1], block())
    times = time_steps(work, "channels last")
    assert {variant.precision for part in times.values() for variant in part} == {"float32"}


def fails(outputs, targets):
    raise ValueError("no loss")


def infinite(outputs, targets):
    return {"box": sum(output.sum() for output in outputs) * torch.inf}


@pytest.mark.parametrize("criterion", [fails, infinite])
def test_a_run_that_cannot_train_is_left_to_the_training(criterion, work):
    assert time_steps(Work(**{**vars(work), "criterion": criterion}), "channels last") is None
    assert choose_steps("auto", Work(**{**vars(work), "criterion": criterion}), LAST).training == LAST_FLOAT32


def test_much_slower_variants_are_not_timed_with_the_whole_batch(work, monkeypatch):
    now, calls = [0.0], []

    def step(steps, variant, count):
        calls.append((variant.precision, count))
        steps.losses[variant] = 1.0
        now[0] += 0.01 * (3.0 if variant.precision == "bfloat16" else 1.0)

    monkeypatch.setattr(step_choice.TimedSteps, "train", step)
    monkeypatch.setattr(step_choice.TimedSteps, "validate", step)
    monkeypatch.setattr(step_choice, "cpu_clock", lambda: lambda: now[0])
    times = time_steps(work, "channels last")
    assert list(times["training"]) == [LAST_FLOAT32, CONTIGUOUS_FLOAT32]
    assert ("bfloat16", 2) in calls and ("bfloat16", 4) not in calls and ("float32", 4) in calls


def test_slow_steps_are_timed_on_fewer_images(work, monkeypatch):
    counts = []
    train = step_choice.TimedSteps.train
    monkeypatch.setattr(
        step_choice.TimedSteps,
        "train",
        lambda steps, variant, count: counts.append(count) or train(steps, variant, count),
    )
    clock = iter(range(100_000))  # every step takes a second
    monkeypatch.setattr(step_choice, "cpu_clock", lambda: lambda: next(clock))
    time_steps(Work(**{**vars(work), "images_shape": (16, 3, 32, 32)}), "channels last")
    assert set(counts) == {2} and describe({LAST_FLOAT32: 0.5}) == "float32 channels last, 2.0 images/s"
