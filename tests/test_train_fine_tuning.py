"""train.py from initial weights: the recipe that is chosen, epoch 0, exact resume."""

import csv

import pytest
import torch
import yaml

from graftdet import train
from graftdet.utils.checkpoint import load_checkpoint


@pytest.fixture(scope="module")
def trained(workspace, train_arguments):
    """Weights of a run of 12 epochs on the dataset of `workspace`."""
    train.main(train_arguments("--name", "known", "--epochs", 12, "--set", "lr0=0.03"))
    return workspace / "runs" / "known" / "weights" / "best.pt"


def rows(folder):
    with open(folder / "results.csv", newline="") as file:
        return list(csv.DictReader(file))


def config(folder):
    return yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))


def test_the_weights_are_validated_as_epoch_0_where_class_names_match(run_train, trained, caplog):
    folder = run_train("same", "--weights", trained, "--epochs", 2)
    table = rows(folder)
    assert [row["epoch"] for row in table] == ["0", "1", "2"]
    assert table[0]["train/box"] == "" and float(table[0]["val/AP50-95"]) > 0
    assert table[0]["val/AP50-95"] == max(row["val/AP50-95"] for row in rows(trained.parent.parent))
    assert f"epoch 0/2: AP50-95 {float(table[0]['val/AP50-95']):.3f}" in caplog.text
    assert "recipe: finetune" in caplog.text and "--hyp default.yaml trains as from scratch" in caplog.text
    assert config(folder)["recipe"].startswith("finetune")


def test_initial_weights_stay_the_best_until_an_epoch_is_better(run_train, trained):
    """Training at an absurd rate: best.pt still holds what was brought."""
    folder = run_train("worse", "--weights", trained, "--epochs", 2, "--set", "lr0=5", "transferred_lr=1")
    table = rows(folder)
    assert float(table[0]["val/AP50-95"]) > max(float(row["val/AP50-95"]) for row in table[1:])
    best = load_checkpoint(folder / "weights" / "best.pt")
    assert best["epoch"] == 0
    old = load_checkpoint(trained)["ema"]
    assert all(torch.equal(value, old[name]) for name, value in best["ema"].items())


def test_other_classes_have_no_epoch_0(run_train, trained, workspace):
    data = yaml.safe_load((workspace / "data.yaml").read_text(encoding="utf-8"))
    (workspace / "one.yaml").write_text(yaml.safe_dump(data), encoding="utf-8")
    folder = run_train("single", "--weights", trained, "--epochs", 1, "--single-cls")
    assert [row["epoch"] for row in rows(folder)] == ["1"]
    assert config(folder)["recipe"] == "finetune.yaml"
    assert config(folder)["hyperparameters"]["transferred_lr"] < 1


@pytest.fixture
def falling(monkeypatch):
    """Lets AP fall in the second epoch with every recipe but the gentle one, whose rate of transferred rows is lower."""
    from graftdet.utils.training import run

    original = run.results_row

    def results_row(epoch, seconds, trained, metrics, *losses):
        values = {**metrics, "AP50-95": 0.5 / max(epoch, 1)} if metrics else metrics
        return original(epoch, seconds, trained, values, *losses)

    monkeypatch.setattr(run, "results_row", results_row)


def test_training_starts_again_with_a_gentle_recipe_where_ap_falls(run_train, trained, falling, caplog):
    folder = run_train("fell", "--weights", trained, "--epochs", 6, "--single-cls")
    assert "AP50-95 fell from 0.500 (epoch 1) to 0.250" in caplog.text
    assert "starting again with finetune-gentle.yaml" in caplog.text and "lower the learning rate" in caplog.text
    assert [row["epoch"] for row in rows(folder)] == list("123456") and folder.name == "fell"
    assert config(folder)["recipe"] == "finetune-gentle.yaml"
    gentle = run_train("gentle", "--weights", trained, "--epochs", 6, "--single-cls", "--hyp", "finetune-gentle.yaml")
    one, other = (load_checkpoint(path / "weights" / "last.pt")["ema"] for path in (folder, gentle))
    assert all(torch.equal(value, other[name]) for name, value in one.items())


def test_a_run_that_started_again_is_resumed_exactly(run_train, run_train_until, trained, falling):
    flags = ["--weights", trained, "--epochs", 6, "--single-cls"]
    whole = run_train("again whole", *flags)
    part = run_train_until(3, "again part", *flags)
    assert config(part)["recipe"] == "finetune-gentle.yaml"
    train.main(["--resume", str(part)])
    one, other = (load_checkpoint(path / "weights" / "last.pt")["ema"] for path in (whole, part))
    assert all(torch.equal(value, other[name]) for name, value in one.items())


def test_a_run_that_was_killed_when_it_started_again_is_resumed_exactly(run_train, trained, falling, monkeypatch):
    from graftdet.utils.training.run import Run

    flags = ["--weights", trained, "--epochs", 6, "--single-cls"]
    whole, initialize = run_train("start whole", *flags), Run.__init__

    class Killed(Exception):
        pass

    def start(run, *args):
        initialize(run, *args)
        if run.info["recipe"] == "finetune-gentle.yaml":
            raise Killed

    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(Run, "__init__", start)
        run_train("start part", *flags)
    part = whole.with_name("start part")
    assert load_checkpoint(part / "weights" / "last.pt")["epoch"] == 0 and len(rows(part)) == 0
    train.main(["--resume", str(part)])
    one, other = (load_checkpoint(path / "weights" / "last.pt")["ema"] for path in (whole, part))
    assert all(torch.equal(value, other[name]) for name, value in one.items())


def test_a_rate_that_is_given_is_kept_where_ap_falls(run_train, trained, falling, caplog):
    folder = run_train("given", "--weights", trained, "--epochs", 6, "--single-cls", "--set", "transferred_lr=0.04")
    assert "--set transferred_lr=0.008 (now 0.04)" in caplog.text and "starting again" not in caplog.text
    assert config(folder)["recipe"] == "finetune.yaml" and len(rows(folder)) == 6


def test_flags_win_over_the_chosen_recipe(run_train, trained):
    folder = run_train("flags win", "--weights", trained, "--epochs", 1, "--single-cls", "--set", "transferred_lr=0.5")
    assert config(folder)["hyperparameters"]["transferred_lr"] == 0.5
    folder = run_train("hyp wins", "--weights", trained, "--epochs", 1, "--hyp", "default.yaml")
    assert config(folder)["recipe"] == "default.yaml" and config(folder)["hyperparameters"]["lr0"] == 0.008


def test_interrupted_fine_tuning_is_resumed_exactly(run_train, run_train_until, trained):
    flags = ["--weights", trained, "--epochs", 4, "--single-cls", "--set", "freeze_bn=1"]
    whole = run_train("tuned whole", *flags)
    part = run_train_until(2, "tuned part", *flags)
    train.main(["--resume", str(part)])
    for name in ("best", "last"):
        one, other = (load_checkpoint(folder / "weights" / f"{name}.pt")["ema"] for folder in (whole, part))
        assert all(torch.equal(value, other[key]) for key, value in one.items()), name
    values = [[row["val/AP50-95"] for row in rows(folder)] for folder in (whole, part)]
    assert values[0] == values[1]
