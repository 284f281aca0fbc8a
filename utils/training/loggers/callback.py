"""The interface of callbacks: `train_model(..., callbacks=[...])`, and of the loggers of `--logger`."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from graftdet.utils.training.results import TrainResult


class Callback:
    """Is called in the main process of a training run; subclasses override what they need.

    What a callback raises ends the run as any other error: it can be resumed.

    Example:
        >>> class PrintAP(Callback):
        ...     def on_epoch_end(self, row):
        ...         print(row["epoch"], row["val/AP50-95"])
        >>> train_model(cfg="graft-n.yaml", data="mine.yaml", callbacks=[PrintAP()])
    """

    def on_start(self, folder: Path, info: Mapping[str, Any]) -> None:
        """Prepare; called before the first epoch, also of a resumed run.

        Args:
            folder: Folder of the run.
            info: What is recorded: "names", "options", "hyperparameters", "versions", "yaml" (of the model) ...
        """

    def on_epoch_end(self, row: Mapping[str, Any]) -> None:
        """Take the results of an epoch, after its checkpoint was saved.

        Args:
            row: The row of results.csv: "epoch" from 1, "time" [s], "lr", "train/box", "val/AP50-95" ...; None for what
                is unknown, such as the metrics of an epoch without validation.
        """

    def on_end(self, result: "TrainResult") -> None:
        """Take the result of the run, after all of its files were written."""
