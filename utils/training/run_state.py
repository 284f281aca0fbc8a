"""TODO"""

import numpy as np
from graftdet.utils.distributed import unwrap
from graftdet.utils.errors import UserError
from graftdet.utils.training.ema import ModelEMA
from graftdet.utils.training.optim import Stepper
from torch import nn


class EarlyStopping:
    """Remembers the best fitness; `stop` is True once `patience` epochs went by without a better one (0: never)."""

    def __init__(self, patience: int):
        self.patience, self.best, self.best_epoch, self.stop = patience, -1.0, 0, False

    def update(self, epoch: int, fitness: float | None) -> bool:
        """Take the fitness of `epoch`; True when it is the best so far. None, where nothing can be measured: then the last
        epoch counts as the best."""
        better = fitness is None or fitness > self.best
        if better:
            self.best, self.best_epoch = self.best if fitness is None else fitness, epoch
        self.stop = self.patience > 0 and epoch - self.best_epoch >= self.patience
        return better

    def state_dict(self) -> dict:
        return {"best": self.best, "best_epoch": self.best_epoch, "stop": self.stop}

    def load_state_dict(self, state: dict) -> None:
        self.best, self.best_epoch, self.stop = state["best"], state["best_epoch"], state.get("stop", False)


class RunState:
    """All that a run must remember between two epochs to go on as if it had never stopped.

    `epoch` counts finished epochs, `elapsed` their seconds; `class_ap` (nc,) is the last AP of each class. Random
    generators are not in it: each epoch starts them anew from the seed (`seed_everything`). What the stepper trains
    beside the model, under names of its own, is kept as "helpers" as long as the run lasts.
    """

    def __init__(
        self, model: nn.Module, ema: ModelEMA, stepper: Stepper, stopping: EarlyStopping, class_ap: np.ndarray
    ):
        self.model, self.ema, self.stepper, self.stopping, self.class_ap = model, ema, stepper, stopping, class_ap
        self.epoch, self.elapsed = 0, 0.0

    def state_dict(self) -> dict:
        """Plain data for `graftdet.utils.checkpoint`."""
        own = self.model.state_dict()
        helpers = {name: value for name, value in unwrap(self.stepper.model).state_dict().items() if name not in own}
        return ({"helpers": helpers} if helpers else {}) | {
            "model": own,
            "ema": self.ema.state_dict(),
            "ema_updates": self.ema.updates,
            "optimizer": self.stepper.state_dict(),
            "scheduler": {"epoch": self.epoch},  # rates are functions of the epoch and the batch: nothing else to keep
            "epoch": self.epoch,
            "elapsed": self.elapsed,
            "best": self.stopping.best,
            "stopping": self.stopping.state_dict(),
            "class_ap": self.class_ap.tolist(),
        }

    def load_state_dict(self, state: dict) -> None:
        """Restore what `state_dict` gave; raises `UserError` when it belongs to another model."""
        try:
            unwrap(self.stepper.model).load_state_dict(state["model"] | state.get("helpers", {}))
            self.ema.load_state_dict(state["ema"], state["ema_updates"])
            self.stepper.load_state_dict(state["optimizer"])
            self.stopping.load_state_dict(state["stopping"])
            self.class_ap = np.array(state["class_ap"], dtype=np.float64)
            self.epoch, self.elapsed = state["epoch"], state["elapsed"]
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise UserError(f"the checkpoint does not hold the state of this run ({reason})") from None


def fitness(metrics: dict[str, float]) -> float:
    """What 'best' means: 0.1 AP50 + 0.9 AP50-95."""
    return 0.1 * metrics["AP50"] + 0.9 * metrics["AP50-95"]
