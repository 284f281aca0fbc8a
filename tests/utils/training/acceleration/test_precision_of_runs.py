"""Runs of train.py in the precision that timing chose: recorded, and resumed exactly."""

import pytest
import torch
import yaml

from graftdet import train
from graftdet.utils.checkpoint import load_checkpoint
from graftdet.utils.training.acceleration import step_choice
from graftdet.utils.training.acceleration.step_timing import StepVariant

pytestmark = pytest.mark.usefixtures("one_thread")
CHOSEN = {"device": "cpu", "training": "bfloat16 contiguous", "validation": "bfloat16"}


@pytest.fixture
def fastest_is(tmp_path, monkeypatch):
    """`fastest_is(name)`: timing finds this variant to be the fastest; nothing is remembered from before."""
    monkeypatch.setattr(step_choice, "MIN_STEPS", 1)

    def patch(name):
        monkeypatch.setenv("GRAFTDET_CACHE", str(tmp_path / name))
        times = {StepVariant(): 1.0} | {StepVariant.parse(name): 0.5}
        validation = {StepVariant(): 1.0} | {StepVariant(StepVariant.parse(name).precision): 0.5}
        monkeypatch.setattr(step_choice, "time_steps", lambda *_: {"training": times, "validation": validation})

    return patch


def weights(folder):
    return load_checkpoint(folder / "weights" / "last.pt")["ema"]


def test_a_run_is_resumed_exactly_in_the_precision_that_it_began_with(fastest_is, run_train, run_train_until, caplog):
    fastest_is("bfloat16 contiguous")
    whole = run_train("whole in bfloat16", "--epochs", 3)
    part = run_train_until(1, "part in bfloat16", "--epochs", 3)
    assert yaml.safe_load((part / "config.yaml").read_text(encoding="utf-8"))["precision"] == CHOSEN
    assert load_checkpoint(part / "weights" / "last.pt")["precision"] == CHOSEN
    fastest_is("float32 channels last")  # as on a machine that is busy now
    train.main(["--resume", str(part)])
    expected = weights(whole)
    assert all(torch.equal(tensor, expected[name]) for name, tensor in weights(part).items())
    assert load_checkpoint(part / "weights" / "last.pt")["precision"] == CHOSEN

    in_float32 = weights(run_train("float32", "--epochs", 3))
    assert not all(torch.equal(tensor, expected[name]) for name, tensor in in_float32.items())


def test_only_validation_between_epochs_is_in_bfloat16(fastest_is, run_train, monkeypatch):
    seen = []
    evaluate = train.make_validation

    def recorded(*arguments):
        validate = evaluate(*arguments)
        return lambda model, half=False, **more: seen.append(half) or validate(model, half=half, **more)

    monkeypatch.setattr(train, "make_validation", recorded)
    fastest_is("bfloat16 channels last")
    run_train("validated in bfloat16", "--epochs", 2)
    assert seen == [True, True, False]  # the scores of the best weights are those of val.py
    seen.clear()
    run_train("validated in float32", "--epochs", 2, "--amp", "on")
    assert seen == [False, False, False]
