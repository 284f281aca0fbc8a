"""The training epoch with stand-ins for model and data, and what decides between epochs."""

import random
import re

import numpy as np
import pytest
import torch
from torch import nn

from graftdet.utils import checkpoint
from graftdet.utils.checkpoint import load_checkpoint, save_checkpoint
from graftdet.utils.device import select_device
from graftdet.utils.errors import UserError
from graftdet.utils.hyperparameters import Hyperparameters
from graftdet.utils.progress import duration
from graftdet.utils.training.ema import ModelEMA
from graftdet.utils.training.optim import Stepper, make_optimizer
from graftdet.utils.training.results import ResultsTable, results_row
from graftdet.utils.training.run_state import EarlyStopping, RunState, fitness
from graftdet.utils.training.schedule import Schedule
from graftdet.utils.training.trainer import (
    EpochResult,
    freeze_rows,
    sampling_weights,
    seed_everything,
    set_frozen_layers_to_eval,
    train_one_epoch,
    transferred_batch_norms,
)

CPU = torch.device("cpu")


class Batches:
    """Like `graftdet.data.loader`: 5 batches of 2 images, the last of one; what they hold depends on the epoch."""

    def __init__(self, poison=None):
        self.epoch, self.poison = 0, poison

    def __len__(self):
        return 5

    def __iter__(self):
        generator = torch.Generator().manual_seed(self.epoch)
        for number in range(5):
            count = 1 if number == 4 else 2
            images = torch.randint(0, 256, (count, 3, 8, 8), generator=generator, dtype=torch.uint8)
            targets = torch.rand(3, 6, generator=generator)
            if number == self.poison:
                targets[0, 5] = float("nan")
            yield {"images": images, "targets": targets, "paths": [f"{number}-{i}.jpg" for i in range(count)]}


def make(seed=0, nominal=4):
    seed_everything(seed)
    h = Hyperparameters(warmup_epochs=0, nominal_batch=nominal, lr0=0.05)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.3), nn.Conv2d(4, 2, 1))
    ema = ModelEMA(model, tau=10)
    schedule = Schedule(h, epochs=4, batches=5, batch_size=2)
    stepper = Stepper(model, make_optimizer(model, "SGD", h, 2), schedule, ema)
    return RunState(model, ema, stepper, EarlyStopping(5), np.zeros(2))


def criterion(raw, targets):
    return {"box": (raw.float() - targets[:, 5].mean()).square().mean(), "cls": raw.float().abs().mean()}


def train(state, epochs, batches=None, **options):
    batches = batches or Batches()
    results = []
    for epoch in epochs:
        batches.epoch = epoch
        seed_everything(0, epoch + 1)
        results.append(
            train_one_epoch(
                state.model, criterion, batches, state.stepper, epoch=epoch, batches_per_epoch=5, device=CPU, **options
            )
        )
        state.epoch += 1
    return results


def test_deferred_color_jitter_is_applied_before_the_model():
    state, seen = make(), []
    state.model.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].amax().item()))
    dark = [{**batch, "hsv_gains": torch.tensor([1, 1, 0.5]).repeat(len(batch["images"]), 1)} for batch in Batches()]
    train_one_epoch(
        state.model, criterion, [*dark[:2], *Batches()], state.stepper, epoch=0, batches_per_epoch=7, device=CPU
    )
    assert max(seen[:2]) <= 0.5 < 0.9 < min(seen[2:])


def test_losses_are_means_over_batches_and_the_step_sums_over_images():
    model = nn.Conv2d(3, 1, 1, bias=False)
    h = Hyperparameters(warmup_epochs=0, momentum=0, lr0=0.1, weight_decay=0, clip_norm=0, nominal_batch=1)
    stepper = Stepper(model, make_optimizer(model, "SGD", h, 1), Schedule(h, 1, 1, 1), ModelEMA(model), clip_norm=0)
    images = torch.full((3, 3, 2, 2), 255, dtype=torch.uint8)
    batch = {"images": images, "targets": torch.zeros(0, 6), "paths": ["a", "b", "c"]}
    before = model.weight.detach().clone()
    result = train_one_epoch(
        model,
        lambda raw, targets: {"mean": raw.mean()},
        [batch],
        stepper,
        epoch=0,
        batches_per_epoch=1,
        device=CPU,
        world_size=2,
    )
    assert result.losses["mean"] == pytest.approx(before.sum().item(), abs=1e-5)
    # the loss is a mean, its gradient by each weight 1; times 3 images, times 2 processes, times the learning rate
    torch.testing.assert_close(before - model.weight, torch.full_like(before, 0.1 * 3 * 2))
    assert result.lr == pytest.approx(0.1) and result.images_per_s > 0


def test_training_reduces_the_loss_and_is_reproducible():
    first, second = make(), make()
    a, b = train(first, range(4)), train(second, range(4))
    assert a[-1].losses["box"] < a[0].losses["box"]
    assert [r.losses for r in a] == [r.losses for r in b]
    assert all(torch.equal(x, y) for x, y in zip(first.model.parameters(), second.model.parameters()))


@pytest.mark.parametrize("nominal", [2, 4, 24])
def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path, nominal):
    """Dropout draws random numbers, gradients accumulate across epochs, EMA and momentum are restored."""
    uninterrupted = make(nominal=nominal)
    expected = train(uninterrupted, range(4))

    stopped = make(nominal=nominal)
    stopped.stopping.update(1, 0.25)
    stopped.class_ap = np.array([0.5, 0.25])
    stopped.elapsed = 12.5
    train(stopped, range(2))
    path = save_checkpoint(tmp_path / "last.pt", stopped.state_dict())

    resumed = make(seed=99, nominal=nominal)
    random.random(), np.random.rand(), torch.rand(7)
    resumed.load_state_dict(load_checkpoint(path))
    assert (resumed.epoch, resumed.elapsed, resumed.stopping.best, resumed.stopping.best_epoch) == (2, 12.5, 0.25, 1)
    assert resumed.class_ap.tolist() == [0.5, 0.25]
    rest = train(resumed, range(2, 4))
    assert [r.losses for r in rest] == [r.losses for r in expected[2:]]
    for a, b in ((uninterrupted.model, resumed.model), (uninterrupted.ema.model, resumed.ema.model)):
        assert all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values()))


def test_the_docstring_of_checkpoints_names_every_entry():
    named = set(re.findall(r"`(\w+)`", checkpoint.__doc__))
    about = {"format", "version", "yaml", "names", "nc", "options", "hyperparameters", "versions"} | {
        "dataset",
        "manifest",
    }
    assert named - {"finished", "helpers"} == about | set(make().state_dict())


def test_state_of_another_model_is_refused():
    state = make().state_dict()
    other = make()
    other.model[0] = nn.Conv2d(3, 5, 3)
    with pytest.raises(UserError, match="does not hold the state"):
        other.load_state_dict(state)
    with pytest.raises(UserError, match="does not hold the state"):
        make().load_state_dict({"model": state["model"]})


def test_loss_that_is_not_finite_names_the_images():
    with pytest.raises(UserError) as error:
        train(make(), [1], Batches(poison=2))
    assert (
        "epoch 2, batch 3" in str(error.value)
        and "2-0.jpg, 2-1.jpg" in str(error.value)
        and "box nan" in str(error.value)
    )


def test_a_batch_too_small_for_batch_norm_is_reported():
    model = nn.Sequential(nn.Conv2d(3, 1, 2), nn.BatchNorm2d(1))
    h = Hyperparameters()
    stepper = Stepper(model, make_optimizer(model, "SGD", h, 1), Schedule(h, 1, 1, 1), ModelEMA(model))
    batch = {"images": torch.zeros(1, 3, 2, 2, dtype=torch.uint8), "targets": torch.zeros(0, 6), "paths": ["a"]}
    with pytest.raises(UserError, match="one image of 2x2 .*--batch-size"):
        train_one_epoch(model, None, [batch], stepper, epoch=0, batches_per_epoch=1, device=CPU)


def test_an_empty_loader_is_an_error():
    with pytest.raises(UserError, match="no image"):
        state = make()
        train_one_epoch(state.model, criterion, [], state.stepper, epoch=0, batches_per_epoch=1, device=CPU)


def test_bfloat16_trains_and_the_criterion_sees_its_outputs():
    state = make()
    seen = []

    def watching(raw, targets):
        seen.append(raw.dtype)
        return criterion(raw, targets)

    train_one_epoch(
        state.model, watching, Batches(), state.stepper, epoch=0, batches_per_epoch=5, device=CPU, mixed=torch.bfloat16
    )
    assert set(seen) == {torch.bfloat16} and all(p.dtype == torch.float32 for p in state.model.parameters())


def test_frozen_rows_do_not_change():
    state = make()
    assert freeze_rows(state.model, [2]) == [0, 1]
    optimizer = make_optimizer(state.model, "SGD", Hyperparameters(), 2)
    state.stepper.optimizer = optimizer
    before = {name: value.clone() for name, value in state.model.state_dict().items()}
    train(state, range(2))
    for name, value in state.model.state_dict().items():
        assert torch.equal(value, before[name]) == (name[0] in "01"), name


def test_frozen_batch_norms_use_their_statistics_and_learn_their_scales():
    state = make()
    names = ["1.running_mean", "1.running_var", "0.weight"]
    frozen = transferred_batch_norms(state.model, names)
    assert frozen == [state.model[1]] and transferred_batch_norms(state.model, ["1.weight"]) == []
    before = {name: value.clone() for name, value in state.model.state_dict().items()}
    train(state, range(2), frozen=frozen)
    after = state.model.state_dict()
    assert all(torch.equal(after[f"1.{kind}"], before[f"1.{kind}"]) for kind in ("running_mean", "running_var"))
    assert not torch.equal(after["1.weight"], before["1.weight"])
    assert not state.model[1].training and state.model[2].training


def test_freeze_lists_and_errors():
    rows = nn.Sequential(*[nn.Conv2d(1, 1, 1) for _ in range(4)])
    assert freeze_rows(rows, []) == [] and freeze_rows(rows, [0]) == []
    assert freeze_rows(rows, [3, 1]) == [1, 3]
    assert [p.requires_grad for p in rows.parameters()] == [True] * 2 + [False] * 2 + [True] * 2 + [False] * 2
    set_frozen_layers_to_eval(rows.train())
    assert [row.training for row in rows] == [True, False, True, False]
    for wrong in ([5], [0, 4]):
        with pytest.raises(UserError, match="--freeze"):
            freeze_rows(rows, wrong)


def test_early_stopping():
    stopping = EarlyStopping(2)
    better = [stopping.update(epoch, value) for epoch, value in enumerate([0.0, 0.2, 0.1, 0.2], 1)]
    assert better == [True, True, False, False] and stopping.stop and (stopping.best, stopping.best_epoch) == (0.2, 2)
    again = EarlyStopping(2)
    again.load_state_dict(stopping.state_dict())
    assert again.stop and again.best_epoch == 2
    blind = EarlyStopping(2)  # without ground truth
    assert all(blind.update(epoch, None) for epoch in range(1, 9)) and not blind.stop and blind.best_epoch == 8
    patient = EarlyStopping(0)
    assert not any([patient.update(epoch, 0.0) and patient.stop for epoch in range(50)]) and not patient.stop
    assert fitness({"AP50": 0.8, "AP50-95": 0.4, "precision": 1.0}) == pytest.approx(0.44)


def test_early_stopping_may_wait_for_the_mean_of_several_epochs():
    values = [0.1, 0.6, 0.2, 0.4, 0.45, 0.46, 0.4, 0.4]  # the second one is good by chance
    stopping = EarlyStopping(2, smoothing=3)
    for epoch, value in enumerate(values[:4], 1):
        stopping.update(epoch, value)
    assert (stopping.best_epoch, stopping.stop) == (2, False)  # EarlyStopping(2) would stop
    again = EarlyStopping(2, smoothing=3)
    again.load_state_dict(stopping.state_dict())
    for one in (stopping, again):
        stops = []
        for epoch, value in enumerate(values[4:], 5):
            one.update(epoch, value)
            stops.append(one.stop)
        assert stops == [False, False, False, True] and one.best_mean_epoch == 6


def test_images_with_rare_classes_and_low_ap_are_sampled_more():
    labels = [np.array([0, 0]), np.array([1]), np.array([], int), np.array([0, 2])]
    weights = sampling_weights(labels, np.array([0.5, 0.0, 1.0]))
    assert weights.shape == (4,) and (weights > 0).all()
    # class 0: (1 - 0.5)^2 / 3 boxes, class 1: 1 / 1, class 2 is found: 0
    assert np.allclose(weights - weights[2], [2 * 0.25 / 3, 1, 0, 0.25 / 3])


def test_seeds_differ_by_epoch_and_rank_and_repeat():
    def draw(*arguments):
        seed_everything(*arguments)
        return random.random(), np.random.rand(), torch.rand(1).item()

    assert draw(1, 2, 3) == draw(1, 2, 3)
    assert len({draw(*arguments) for arguments in ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1))}) == 4


def test_results_table(tmp_path):
    path = tmp_path / "results.csv"
    table = ResultsTable(path)
    trained = EpochResult({"box": 0.1, "obj": 0.25}, 31.4159265, 0.01)
    table.add(results_row(1, 2.0, trained, None))
    table.add(results_row(2, 4.0, trained, {"AP50-95": 0.123456789, "AP50": 0.5, "precision": 0.5, "recall": 1.0}))
    lines = path.read_text().splitlines()
    assert (
        lines[0] == "epoch,time,lr,train/box,train/obj,train/images_per_s,val/AP50-95,val/AP50,val/precision,val/recall"
    )
    assert lines[1] == "1,2,0.01,0.1,0.25,31.4159,,,,"
    assert lines[2] == "2,4,0.01,0.1,0.25,31.4159,0.123457,0.5,0.5,1"
    resumed = ResultsTable(path, completed_epochs=1)
    assert path.read_text().splitlines() == lines[:2]
    resumed.add(results_row(2, 5.0, trained, None))
    assert path.read_text().splitlines()[2].startswith("2,5,")
    ResultsTable(path)
    assert path.read_text() == ""
    assert (duration(59.9), duration(61), duration(3661)) == ("0:59", "1:01", "1:01:01")


def test_a_table_without_validation_losses_is_continued_with_them(tmp_path):
    path = tmp_path / "results.csv"
    trained = EpochResult({"box": 0.1}, 31.0, 0.01)
    ResultsTable(path).add(results_row(1, 2.0, trained, None))
    resumed = ResultsTable(path, completed_epochs=1)
    resumed.add(results_row(2, 4.0, trained, None, {"box": 0.5}))
    resumed.add(results_row(3, 6.0, trained, None))
    lines = path.read_text().splitlines()
    assert lines[0].endswith(",val/recall,val/box")
    assert [line.rsplit(",", 1)[1] for line in lines[1:]] == ["", "0.5", ""] and lines[1].startswith("1,2,0.01,0.1,")


@pytest.mark.parametrize("name", ["cuda:99", "0,1", "tpu", "cuda:x", "-1"])
def test_devices_that_do_not_exist(name):
    with pytest.raises(UserError, match="--device"):
        select_device(name)
