"""Callbacks and loggers: what each is called with, TensorBoard read back, trackers that are not installed."""

import importlib
import sys
import types

import numpy as np
import pytest

import graftdet
from graftdet.utils.errors import UserError
from graftdet.utils.images.io import write_image
from graftdet.utils.training.flags import LOGGERS as NAMES
from graftdet.utils.training.loggers.trackers import LOGGERS, make_loggers
from graftdet.utils.training.results import TrainResult

INFO = {"options": {"seed": 3}, "hyperparameters": {"lr0": 0.01}, "versions": {"torch": "2"}, "yaml": "nc: 3"}
ROWS = [{"epoch": 1, "lr": 0.1, "val/AP50-95": None}, {"epoch": 2, "lr": 0.05, "val/AP50-95": 0.25}]


def log_run(logger, folder):
    logger.on_start(folder, INFO)
    for row in ROWS:
        logger.on_epoch_end(row)
    write_image(folder / "val_batch0_pred.jpg", np.full((20, 30, 3), 90, np.uint8))
    logger.on_end(TrainResult(folder, folder, folder, 2, 2, {"AP50-95": 0.25}, []))


class Recorder(types.ModuleType):
    """A package whose functions record their calls."""

    def __init__(self, name):
        super().__init__(name)
        self.calls = []

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *args, **kwargs: self.calls.append((name, args, kwargs)) or name


@pytest.fixture
def package(monkeypatch):
    def replace(name):
        monkeypatch.setitem(sys.modules, name, Recorder(name))
        return sys.modules[name].calls

    return replace


def test_names_of_the_flag_are_the_registered_ones():
    assert set(NAMES) == set(LOGGERS)


def test_each_logger_is_made_once_and_csv_needs_nothing():
    assert [type(one).__name__ for one in make_loggers(["csv", "csv"])] == ["CsvLogger"]


@pytest.mark.parametrize("name", ["tensorboard", "mlflow", "wandb", "trackio"])
def test_a_package_that_is_not_installed_names_its_extra(name, monkeypatch):
    monkeypatch.setitem(sys.modules, name, None)  # importing it raises
    with pytest.raises(UserError, match=rf"--logger {name}: .* is not installed; pip install 'graftdet\[{name}\]'"):
        make_loggers([name])


@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_trackers_with_projects(name, package, tmp_path, monkeypatch):
    monkeypatch.delenv("WANDB_MODE", raising=False)
    calls = package(name)
    folder = tmp_path / "train" / "exp"
    folder.mkdir(parents=True)
    log_run(make_loggers([name])[0], folder)
    assert [call for call, _, _ in calls] == ["init", "log", "log", "Image", "log", "finish"]
    settings = calls[0][2]
    assert (settings["project"], settings["name"]) == ("train", "exp") and settings["config"][
        "hyperparameters/lr0"
    ] == 0.01
    assert name != "wandb" or (settings["mode"], settings["dir"]) == ("offline", str(folder))
    assert calls[1][1:] == (({"lr": 0.1},), {"step": 1}) and calls[2][1:] == (
        ({"lr": 0.05, "val/AP50-95": 0.25},),
        {"step": 2},
    )


def test_mlflow_writes_a_local_database_unless_a_server_is_named(package, tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    calls = package("mlflow")
    folder = tmp_path / "train" / "exp"
    folder.mkdir(parents=True)
    log_run(make_loggers(["mlflow"])[0], folder)
    assert calls[0] == ("set_tracking_uri", (f"sqlite:///{(tmp_path / 'train' / 'mlflow.db').as_posix()}",), {})
    assert calls[1][0] == "get_experiment_by_name" and calls[2][:2] == ("set_experiment", ("train",))
    assert [call for call, _, _ in calls[-3:]] == ["log_metrics", "log_artifact", "end_run"]
    calls.clear()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "somewhere")
    make_loggers(["mlflow"])[0].on_start(folder, INFO)
    assert calls[0][0] == "set_experiment"


def test_tensorboard_is_read_back(tmp_path):
    pytest.importorskip("tensorboard")
    log_run(make_loggers(["tensorboard"])[0], tmp_path)
    accumulator = importlib.import_module("tensorboard.backend.event_processing.event_accumulator")
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert set(events.Tags()["scalars"]) == {"lr", "val/AP50-95"} and events.Tags()["images"] == ["val_batch0_pred"]
    assert [(one.step, round(one.value, 6)) for one in events.Scalars("lr")] == [(1, 0.1), (2, 0.05)]
    assert [(one.step, one.value) for one in events.Scalars("val/AP50-95")] == [(2, 0.25)]
    text = events.Tensors("settings/text_summary")[0].tensor_proto.string_val[0].decode()
    assert "hyperparameters/lr0: 0.01" in text


def test_callbacks_of_train_model_are_called_after_each_epoch_and_at_the_end(workspace):
    class Recording(graftdet.Callback):
        def __init__(self):
            self.rows, self.calls = [], []

        def on_start(self, folder, info):
            self.calls.append(("start", folder.name, info["options"]["epochs"], "callbacks" in info["options"]))

        def on_epoch_end(self, row):
            assert (workspace / "runs" / "called" / "weights" / "last.pt").is_file()
            self.rows.append(row)

        def on_end(self, result):
            assert (result.folder / "results.csv").is_file() and not (result.folder / "report.html").exists()
            self.calls.append(("end", result.epochs))

    logged = Recording()
    one = Recording()
    flags = {"data": workspace / "data.yaml", "img": 64, "device": "cpu", "workers": 0, "project": workspace / "runs"}
    flags |= {
        "cfg": workspace / "tiny.yaml",
        "weights": "none",
        "batch": 8,
        "epochs": 2,
        "name": "called",
        "plots": ["none"],
    }
    graftdet.train_model(callbacks=[one, logged], logger=["csv"], exist_ok=True, **flags)
    assert one.calls == logged.calls == [("start", "called", 2, False), ("end", 2)]
    assert [row["epoch"] for row in one.rows] == [1, 2] and one.rows[1]["val/AP50-95"] is not None
    assert {"train/box", "val/box", "lr"} <= set(one.rows[0])
