"""Loggers of `--logger`: each is a callback that passes the results on to an experiment tracker.

Nothing is sent anywhere by default: TensorBoard and trackio write local files, MLflow and Weights & Biases do so unless
their own environment variables name a server or a mode. A package is imported when its logger is made.
"""

import os
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graftdet.utils.errors import UserError
from graftdet.utils.images.io import read_image
from graftdet.utils.registry import Registry
from graftdet.utils.training.loggers.callback import Callback

if TYPE_CHECKING:
    from graftdet.utils.training.results import TrainResult

IMAGES = ("val_batch0_labels.jpg", "val_batch0_pred.jpg", "confusion_matrix.png", "PR_curve.png")  # of the run's folder
GROUPS = ("options", "hyperparameters", "versions")
LOGGERS = Registry("logger")


def make_loggers(names: list[str]) -> list[Callback]:
    """Return the loggers of these names, each once.

    Raises:
        UserError: If the package of one is not installed.
    """
    return [LOGGERS[name]() for name in dict.fromkeys(names)]


def _import(name: str, extra: str) -> Any:
    """The module of a tracker."""
    try:
        return import_module(name)
    except ImportError as error:
        package = (error.name or name).partition(".")[0]
        raise UserError(
            f"--logger {extra}: package '{package}' is not installed; pip install 'graftdet[{extra}]'"
        ) from None


def _parameters(info: Mapping[str, Any]) -> dict[str, Any]:
    """Options, hyperparameters and versions as one flat mapping."""
    return {f"{group}/{name}": value for group in GROUPS for name, value in (info.get(group) or {}).items()}


def _scalars(row: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in row.items() if name != "epoch" and value is not None}


def _images(folder: Path) -> dict[str, Path]:
    return {path.stem: path for path in (folder / name for name in IMAGES) if path.is_file()}


@LOGGERS.register("csv")
class CsvLogger(Callback):
    """results.csv, which every run writes: nothing more to do."""


@LOGGERS.register("tensorboard")
class TensorBoardLogger(Callback):
    """Event files in FOLDER/tensorboard: scalars, images at the end, settings and the model YAML as text."""

    def __init__(self) -> None:
        _import("tensorboard", "tensorboard")
        self._writer_class = import_module("torch.utils.tensorboard").SummaryWriter

    def on_start(self, folder: Path, info: Mapping[str, Any]) -> None:
        """Open the event file."""
        self.folder = folder
        self.writer = self._writer_class(str(folder / "tensorboard"))
        lines = [f"    {name}: {value}" for name, value in _parameters(info).items()]  # indented: code in Markdown
        self.writer.add_text("settings", "\n".join(lines))
        self.writer.add_text("model", "\n".join(f"    {line}" for line in str(info.get("yaml", "")).splitlines()))

    def on_epoch_end(self, row: Mapping[str, Any]) -> None:
        """Add the scalars of an epoch."""
        for name, value in _scalars(row).items():
            self.writer.add_scalar(name, value, row["epoch"])
        self.writer.flush()

    def on_end(self, result: "TrainResult") -> None:
        """Add images and close the file."""
        for name, path in _images(self.folder).items():
            self.writer.add_image(name, read_image(path)[..., ::-1].copy(), result.epochs, dataformats="HWC")
        self.writer.close()


@LOGGERS.register("mlflow")
class MlflowLogger(Callback):
    """A run of MLflow in a file database beside the run's folder, or on the server of MLFLOW_TRACKING_URI."""

    def __init__(self) -> None:
        self.mlflow = _import("mlflow", "mlflow")

    def on_start(self, folder: Path, info: Mapping[str, Any]) -> None:
        """Start a run."""
        self.folder = folder
        parent = folder.parent.resolve()
        experiment = parent.name or "graftdet"
        if not os.environ.get("MLFLOW_TRACKING_URI"):
            self.mlflow.set_tracking_uri(f"sqlite:///{(parent / 'mlflow.db').as_posix()}")
            if self.mlflow.get_experiment_by_name(experiment) is None:  # else files go to the current directory
                self.mlflow.create_experiment(experiment, artifact_location=(parent / "mlflow").as_uri())
        self.mlflow.set_experiment(experiment)
        self.mlflow.start_run(run_name=folder.name)
        self.mlflow.log_params({name: str(value)[:500] for name, value in _parameters(info).items()})

    def on_epoch_end(self, row: Mapping[str, Any]) -> None:
        """Add the scalars of an epoch."""
        self.mlflow.log_metrics(_scalars(row), step=row["epoch"])

    def on_end(self, result: "TrainResult") -> None:
        """Add images and end the run."""
        for path in _images(self.folder).values():
            self.mlflow.log_artifact(str(path))
        self.mlflow.end_run()


class _ProjectLogger(Callback):
    """Trackers with the interface of Weights & Biases: init, log, finish."""

    package = ""

    def __init__(self) -> None:
        self.tracker = _import(self.package, self.package)

    def on_start(self, folder: Path, info: Mapping[str, Any]) -> None:
        """Start a run."""
        self.folder = folder
        project = folder.parent.name or "graftdet"
        self.tracker.init(project=project, name=folder.name, config=_parameters(info), **self.options())

    def options(self) -> dict[str, Any]:
        """Further arguments of `init`."""
        return {}

    def on_epoch_end(self, row: Mapping[str, Any]) -> None:
        """Add the scalars of an epoch."""
        self.tracker.log(_scalars(row), step=row["epoch"])

    def on_end(self, result: "TrainResult") -> None:
        """Add images and finish the run."""
        images = {name: self.tracker.Image(str(path)) for name, path in _images(self.folder).items()}
        if images:
            self.tracker.log(images, step=result.epochs)
        self.tracker.finish()


@LOGGERS.register("wandb")
class WandbLogger(_ProjectLogger):
    """A run of Weights & Biases, offline in the run's folder unless WANDB_MODE says otherwise."""

    package = "wandb"

    def options(self) -> dict[str, Any]:
        """Folder and mode."""
        return {"dir": str(self.folder), "mode": os.environ.get("WANDB_MODE", "offline")}


@LOGGERS.register("trackio")
class TrackioLogger(_ProjectLogger):
    """A run of trackio, in its local database."""

    package = "trackio"
