"""Where a run returns to after a loss that is not finite, and what its message names."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from graftdet.utils.checkpoint import load_checkpoint, non_finite_tensors, previous_checkpoint
from graftdet.utils.errors import UserError
from graftdet.utils.text import counted
from graftdet.utils.training.divergence.loss_meter import NonFiniteLoss
from graftdet.utils.training.divergence.step_guard import MAX_ROLLBACKS
from graftdet.utils.training.run_state import RunState

if TYPE_CHECKING:
    from graftdet.utils.training.run import Run

logger = logging.getLogger(__name__)


class Rollback:
    """Returns a run to its last good checkpoint, or names it in the message that ends the run.

    Until the first epoch is completed the start of the run is a copy in memory; a run that is killed then starts again.

    Args:
        state: State of the run.
        run: The run's folder; None in processes other than the main one.
        folder: Path of that folder, the same in all processes.
    """

    def __init__(self, state: RunState, run: "Run | None", folder: Path):
        self.state, self.run, self.folder = state, run, folder
        self.guard = state.stepper.guard
        is_needed = self.guard.action == "rollback" and state.epoch == 0
        self._start: dict[str, Any] | None = _copied(state.state_dict()) if is_needed else None

    def check(self) -> None:
        """Raise `NonFiniteLoss` if the epoch that ended has made weights that are not finite, before they are saved."""
        if self.guard.action != "rollback":
            return
        if broken := self.guard.ranks.broadcast(non_finite_tensors(self.state.ema.state_dict())):
            raise NonFiniteLoss(
                f"the EMA is not finite in {counted(len(broken), 'tensor')}, the first is '{broken[0]}'"
            )

    def completed(self) -> None:
        """Record that an epoch was saved."""
        self._start = None

    def handle(self, error: NonFiniteLoss) -> None:
        """Set the state of the run to that of its last good checkpoint, with a lower learning rate.

        Raises:
            NonFiniteLoss: `error` with the name of the checkpoint, where the run ends.
        """
        found = self._last_good()
        where = f"{found[1]} (epoch {found[0]['epoch']})" if found else ""
        if self.guard.action != "rollback" or self.guard.rollbacks == MAX_ROLLBACKS or not (found or self._start):
            raise NonFiniteLoss(f"{error}{self._advice(where)}") from None
        content = found[0] if found else self._start
        rollbacks = self.guard.rollbacks + 1
        self.state.load_state_dict(content)
        self.guard.rollbacks = rollbacks
        logger.warning(
            f"{error}; returning to {where or 'the start of the run'} with {self.guard.rate_factor:g} times the "
            f"learning rate of the recipe (rollback {rollbacks} of {MAX_ROLLBACKS})"
        )
        if self.run:
            self.run.return_to_state()

    def _advice(self, where: str) -> str:
        if self.guard.rollbacks:
            return f"; the run was rolled back {self.guard.rollbacks} times; last good checkpoint: {where or 'none'}"
        if not where:
            return "; no epoch was completed before"
        return f"; last good checkpoint: {where}; resume from it: --resume {self.folder} --on-nan rollback (or skip)"

    def _last_good(self) -> tuple[dict[str, Any], Path] | None:
        """The newest checkpoint whose weights are finite, and its path."""
        last = self.folder / "weights" / "last.pt"
        for path in (last, previous_checkpoint(last)):
            try:
                content = load_checkpoint(path)
            except UserError:  # missing or damaged
                continue
            states = [content.get("ema"), content.get("model")]
            if all(isinstance(state, dict) and not non_finite_tensors(state) for state in states):
                return content, path
        return None


def _copied(value: Any) -> Any:
    """Nested dicts, lists and tuples with copies of their tensors on the CPU."""
    if isinstance(value, torch.Tensor):
        return value.detach().cpu().clone()
    if isinstance(value, dict):
        return {key: _copied(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_copied(item) for item in value)
    return value
