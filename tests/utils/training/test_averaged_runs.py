"""train.py at the end of a run: averaged weights of the best epochs, the best weights after early stopping."""

import torch

from graftdet import train
from graftdet.utils.checkpoint import load_checkpoint
from graftdet.utils.training import run as run_module


def weights(folder, name):
    return load_checkpoint(folder / "weights" / name)["ema"]


def equal(one, other):
    return all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def test_averaged_weights_become_the_best_if_they_are(run_train, run_train_until, one_thread, capsys, monkeypatch):
    monkeypatch.setattr(run_module, "fitness", lambda metrics: 0.5)  # all epochs are equal
    flags = ["--epochs", 3, "--save-period", 1, "--set", "swa_epochs=2"]
    folder = run_train("averaged", *flags)
    assert "averaged weights of epochs 1 to 2: AP50-95 0." in capsys.readouterr().out
    epochs = [weights(folder, f"epoch{epoch}.pt") for epoch in (1, 2)]
    for name in ("best.pt", "last.pt"):
        for key, tensor in weights(folder, name).items():
            expected = (epochs[0][key] + epochs[1][key]) / 2 if tensor.is_floating_point() else epochs[1][key]
            torch.testing.assert_close(tensor, expected)
        assert "average" not in load_checkpoint(folder / "weights" / name)

    halfway = run_train_until(1, "averaged halfway", *flags)
    train.main(["--resume", str(halfway)])
    assert equal(weights(halfway, "best.pt"), weights(folder, "best.pt"))


def test_averaged_weights_that_are_worse_change_nothing(run_train, monkeypatch):
    values = iter([0.5, 0.4, 0.3])
    monkeypatch.setattr(run_module, "fitness", lambda metrics: next(values))
    folder = run_train("worse average", "--epochs", 2, "--save-period", 1, "--set", "swa_epochs=2")
    assert equal(weights(folder, "best.pt"), weights(folder, "epoch1.pt"))
    assert equal(weights(folder, "last.pt"), weights(folder, "epoch2.pt"))


def test_after_early_stopping_by_the_mean_the_best_weights_are_the_last_ones(run_train, monkeypatch):
    values = iter([0.5, 0.1, 0.1, 0.1])
    monkeypatch.setattr(run_module, "fitness", lambda metrics: next(values))
    folder = run_train("stopped", "--epochs", 9, "--patience", 2, "--save-period", 1, "--set", "patience_smoothing=2")
    assert not (folder / "weights" / "epoch4.pt").exists()
    assert equal(weights(folder, "last.pt"), weights(folder, "epoch1.pt"))
