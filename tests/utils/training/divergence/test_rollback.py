"""`--on-nan` of train.py: what a run does, saves and reports when a loss is not finite."""

import csv

import pytest
import torch

from graftdet.utils.checkpoint import load_checkpoint, save_checkpoint
from graftdet.utils.training.divergence.loss_meter import LossMeter, NonFiniteLoss
from graftdet.utils.training.run import Run

FLAGS = ("--epochs", 3, "--hyp", "yolov5.yaml", "--set", "warmup_iterations=4", "warmup_epochs=1")


class Killed(BaseException):
    """Ends a run as a signal does."""


@pytest.fixture
def poison(monkeypatch):
    """`poison(epoch, batch, times)`: the loss of a batch is not finite the first `times` times."""
    add = LossMeter.add

    def call(epoch, batch, times=1):
        left = [times]

        def poisoned(meter, losses, paths, number):
            if (meter.epoch, number) == (epoch, batch) and left[0]:
                left[0] -= 1
                losses = {name: loss * float("nan") for name, loss in losses.items()}
            add(meter, losses, paths, number)

        monkeypatch.setattr(LossMeter, "add", poisoned)

    return call


def outcome(folder):
    with open(folder / "results.csv", newline="") as file:
        rows = [
            {key: value for key, value in row.items() if key not in ("time", "train/images_per_s")}
            for row in csv.DictReader(file)
        ]
    return rows, load_checkpoint(folder / "weights" / "last.pt")["ema"]


def assert_equal(folder, other):
    (rows, weights), (other_rows, other_weights) = outcome(folder), outcome(other)
    assert rows == other_rows
    assert weights.keys() == other_weights.keys() and all(map(torch.equal, weights.values(), other_weights.values()))


@pytest.mark.usefixtures("one_thread")
def test_a_run_returns_to_its_last_epoch_and_is_resumed_exactly(run_train, poison, workspace, monkeypatch, capsys):
    poison(1, 1)
    whole = run_train("rolled", *FLAGS, "--on-nan", "rollback")
    captured = capsys.readouterr()
    text = captured.out + captured.err
    last = whole / "weights" / "last.pt"
    assert f"returning to {last} (epoch 1) with 0.5 times the learning rate of the recipe (rollback 1 of 3)" in text
    assert "epoch 2, batch 2: the loss is not finite (box nan" in text and ".jpg" in text
    rows = outcome(whole)[0]
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]

    poison(1, 1)
    return_to_state = Run.return_to_state

    def kill(run):
        return_to_state(run)
        raise Killed

    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(Run, "return_to_state", kill)
        run_train("killed", *FLAGS, "--on-nan", "rollback")
    from graftdet import train

    train.main(["--resume", str(workspace / "runs" / "killed")])
    assert_equal(whole, workspace / "runs" / "killed")


@pytest.mark.usefixtures("one_thread")
def test_a_rollback_to_the_start_equals_a_run_with_half_the_rate(run_train, poison):
    poison(0, 2)
    rolled = run_train("from the start", *FLAGS, "--on-nan", "rollback")
    half = run_train("half", *FLAGS, "lr0=0.005", "warmup_bias_lr=0.05")
    assert_equal(rolled, half)


def test_rollbacks_are_bounded(run_train, poison, workspace):
    poison(1, 0, times=9)
    with pytest.raises(
        NonFiniteLoss, match=r"the run was rolled back 3 times; last good checkpoint: .*last.pt \(epoch 1"
    ):
        run_train("bounded", *FLAGS, "--on-nan", "rollback")
    guard = load_checkpoint(workspace / "runs" / "bounded" / "weights" / "last.pt")["optimizer"]["guard"]
    assert guard == {"skipped": 0, "consecutive": 0, "rollbacks": 3}


def test_a_stopped_run_names_its_checkpoint_and_is_resumed_with_another_action(run_train, poison, workspace, capsys):
    from graftdet import train

    poison(1, 1, times=2)
    folder = workspace / "runs" / "stopped"
    with pytest.raises(NonFiniteLoss) as raised:
        run_train("stopped", *FLAGS)
    advice = (
        f"last good checkpoint: {folder / 'weights' / 'last.pt'} (epoch 1); resume from it: --resume {folder} --on-nan"
    )
    assert advice in str(raised.value) and "epoch 2, batch 2" in str(raised.value)
    train.main(["--resume", str(folder), "--on-nan", "skip"])
    captured = capsys.readouterr()
    assert "skipped (1 in a row, at most 10): epoch 2, batch 2" in captured.out + captured.err
    assert [row["epoch"] for row in outcome(folder)[0]] == ["1", "2", "3"]


def test_without_a_completed_epoch_there_is_no_checkpoint(run_train, poison):
    poison(0, 0)
    with pytest.raises(NonFiniteLoss, match="; no epoch was completed before$"):
        run_train("at once", *FLAGS)


def test_checkpoints_with_weights_that_are_not_finite_are_not_returned_to(run_train, poison, workspace, monkeypatch):
    finish_epoch = Run.finish_epoch

    def spoil(run, *results):
        finish_epoch(run, *results)
        if run.state.epoch == 2:
            content = load_checkpoint(run.last)
            next(iter(content["model"].values())).fill_(float("nan"))
            save_checkpoint(run.last, content)

    monkeypatch.setattr(Run, "finish_epoch", spoil)
    poison(2, 0, times=9)
    with pytest.raises(NonFiniteLoss, match=r"last good checkpoint: .*last.previous.pt \(epoch 1\)"):
        run_train("spoiled", *FLAGS)
