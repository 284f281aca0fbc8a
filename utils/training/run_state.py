"""The state of a training run between two epochs: what a checkpoint saves so that the run can be resumed exactly."""

from typing import Any

import numpy as np
from torch import nn

from graftdet.utils.distributed import unwrap
from graftdet.utils.errors import UserError
from graftdet.utils.training.ema import EpochAverage, ModelEMA
from graftdet.utils.training.optim import Stepper


class EarlyStopping:
    """Tracks the best fitness; `stop` becomes True after `patience` epochs without a better one (0: never).

    Args:
        patience: number of epochs without a better fitness.
        smoothing: number of epochs whose mean fitness is to become better: a single epoch may be good by chance.
    """

    def __init__(self, patience: int, smoothing: int = 1):
        self.patience, self.best, self.best_epoch, self.stop = patience, -1.0, 0, False
        self.smoothing, self.best_mean, self.best_mean_epoch = max(smoothing, 1), -1.0, 0
        self.last = -1.0  # fitness of the last epoch
        self.recent: list[float] = []  # fitness of the last `smoothing` epochs

    def update(self, epoch: int, fitness: float | None) -> bool:
        """Record the fitness of `epoch`; return True if it is the best so far.

        Without ground truth the fitness is None; the last epoch then counts as the best.
        """
        is_best = fitness is None or fitness > self.best
        if is_best:
            self.best, self.best_epoch = self.best if fitness is None else fitness, epoch
        if fitness is not None:
            self.last = fitness
            self.recent = [*self.recent, fitness][-self.smoothing :]
        mean = sum(self.recent) / len(self.recent) if self.recent else -1.0
        if fitness is None or mean > self.best_mean:
            self.best_mean, self.best_mean_epoch = mean, epoch
        self.stop = self.patience > 0 and epoch - self.best_mean_epoch >= self.patience
        return is_best

    def state_dict(self) -> dict[str, Any]:
        """Plain data for a checkpoint."""
        mean = {
            "last": self.last,
            "recent": self.recent,
            "best_mean": self.best_mean,
            "best_mean_epoch": self.best_mean_epoch,
        }
        return {"best": self.best, "best_epoch": self.best_epoch, "stop": self.stop, **mean}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.best, self.best_epoch, self.stop = state["best"], state["best_epoch"], state.get("stop", False)
        self.last = state.get("last", -1.0)
        self.recent = list(state.get("recent", []))
        self.best_mean = state.get("best_mean", self.best)
        self.best_mean_epoch = state.get("best_mean_epoch", self.best_epoch)


class RunState:
    """Everything that a run needs to continue after an interruption as if there had been none.

    Random generators are not part of it: `seed_everything` restarts them in each epoch. Modules that are trained beside
    the model (adapters of distillation) are saved as "helpers" until the run is finished.

    Attributes:
        epoch: Number of completed epochs.
        elapsed: Time spent on them [s].
        class_ap: Last AP of each class (nc,).
        transferred: Names of the model's tensors that came from the initial weights.
        average: Average of the weights of the best epochs; None: nothing is averaged.
    """

    def __init__(
        self,
        model: nn.Module,
        ema: ModelEMA,
        stepper: Stepper,
        stopping: EarlyStopping,
        class_ap: np.ndarray,
        transferred: list[str] | None = None,
        average: EpochAverage | None = None,
    ):
        self.model, self.ema, self.stepper, self.stopping, self.class_ap = model, ema, stepper, stopping, class_ap
        self.transferred, self.average = transferred or [], average or EpochAverage(0)
        self.epoch, self.elapsed = 0, 0.0

    def state_dict(self) -> dict[str, Any]:
        """Plain data for `graftdet.utils.checkpoint`."""
        model = self.model.state_dict()
        helpers = {name: value for name, value in unwrap(self.stepper.model).state_dict().items() if name not in model}
        average = {"average": self.average.state_dict()} if self.average.span else {}
        return (
            ({"helpers": helpers} if helpers else {})
            | average
            | {
                "model": model,
                "ema": self.ema.state_dict(),
                "ema_updates": self.ema.updates,
                "optimizer": self.stepper.state_dict(),
                "scheduler": {"epoch": self.epoch},  # rates are functions of epoch and batch: nothing else to save
                "epoch": self.epoch,
                "elapsed": self.elapsed,
                "best": self.stopping.best,
                "stopping": self.stopping.state_dict(),
                "class_ap": self.class_ap.tolist(),
                "transferred": self.transferred,
            }
        )

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned.

        Raises:
            UserError: If it belongs to another model.
        """
        try:
            unwrap(self.stepper.model).load_state_dict(state["model"] | state.get("helpers", {}))
            self.ema.load_state_dict(state["ema"], state["ema_updates"])
            self.stepper.load_state_dict(state["optimizer"])
            self.stopping.load_state_dict(state["stopping"])
            if self.average.span:
                self.average.load_state_dict(state["average"])
            self.class_ap = np.array(state["class_ap"], dtype=np.float64)
            self.epoch, self.elapsed = state["epoch"], state["elapsed"]
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise UserError(f"the checkpoint does not hold the state of this run ({reason})") from None


def fitness(metrics: dict[str, float]) -> float:
    """Return the value that decides which epoch is the best: 0.1 AP50 + 0.9 AP50-95."""
    return 0.1 * metrics["AP50"] + 0.9 * metrics["AP50-95"]
