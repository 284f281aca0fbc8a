"""train_model and validate_model: what the scripts do, as functions with keyword arguments and results as data."""

import csv
import json

import pytest

import graftdet
from graftdet import train, val
from graftdet.utils.checkpoint import load_checkpoint
from graftdet.utils.errors import UserError


@pytest.fixture
def common(workspace):
    return {"data": workspace / "data.yaml", "img": 64, "device": "cpu", "workers": 0, "project": workspace / "runs"}


@pytest.fixture
def trained(workspace, common):
    model = {"cfg": workspace / "tiny.yaml", "weights": "none"}
    return graftdet.train_model(**model, batch=8, epochs=2, name="api", exist_ok=True, set={"mosaic": 0.5}, **common)


def test_the_result_equals_the_files_of_the_run(trained, workspace):
    assert trained.folder == workspace / "runs" / "api" and trained.epochs == 2 and trained.best_epoch in (1, 2)
    assert trained.best_weights == trained.folder / "weights" / "best.pt" and trained.last_weights.is_file()
    best = load_checkpoint(trained.best_weights)
    assert best["epoch"] == trained.best_epoch and best["hyperparameters"]["mosaic"] == 0.5
    with open(trained.folder / "results.csv", newline="") as file:
        row = list(csv.DictReader(file))[trained.best_epoch - 1]
    assert trained.metrics["AP50-95"] == pytest.approx(float(row["val/AP50-95"]), abs=1e-5)
    assert [entry["name"] for entry in trained.per_class] == best["names"]


def test_train_model_equals_the_command(trained, run_train, workspace):
    folder = run_train("command", "--epochs", 2, "--set", "mosaic=0.5")
    one, other = (load_checkpoint(path / "weights" / "last.pt")["ema"] for path in (trained.folder, folder))
    assert all((tensor == other[name]).all() for name, tensor in one.items())


def test_validate_model_returns_what_it_writes(trained, common):
    flags = {**common, "project": common["project"] / "val"}
    result = graftdet.validate_model(weights=trained.best_weights, split="train", **flags)
    metrics = json.loads((result.folder / "metrics.json").read_text(encoding="utf-8"))
    assert result.metrics["AP50-95"] == metrics["AP50-95"] and result.images == 24
    assert len(json.loads((result.folder / "predictions.json").read_text(encoding="utf-8"))) == len(result.predictions)
    arguments = ["--weights", trained.best_weights, "--split", "train"]
    arguments += [argument for key, value in flags.items() for argument in (f"--{key}", value)]
    assert val.main([str(argument) for argument in arguments]).metrics == result.metrics


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"epocs": 3}, "train_model: unknown argument 'epocs'; did you mean 'epochs'"),
        ({"epochs": 0}, "argument --epochs: expected a whole number of at least 1"),
        ({"data": "shape.yaml"}, "did you mean 'shapes.yaml'"),
        ({"set": {"lro": 1}}, "unknown hyperparameter 'lro'"),
        ({"resume": "nowhere"}, "--resume nowhere: no such run"),
        ({"search": "search.yaml"}, "run the command train.py --search"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_errors_of_training(flags, message):
    with pytest.raises(UserError) as error:
        train.train_model(**flags)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"weight": "x.pt"}, "validate_model: unknown argument 'weight'; did you mean 'weights'"),
        ({"weights": "no.pt"}, "no.pt: no such file"),
        ({"split": "tset"}, "invalid choice: 'tset'"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_errors_of_validation(flags, message):
    with pytest.raises(UserError) as error:
        val.validate_model(**flags)
    assert message in str(error.value)
