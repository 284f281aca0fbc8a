"""The epochs of a run: train, validate, save, and what follows a loss that is not finite."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from graftdet.utils.evaluation.evaluator import Evaluation
from graftdet.utils.training.divergence.loss_meter import NonFiniteLoss
from graftdet.utils.training.divergence.rollback import Rollback
from graftdet.utils.training.fine_tuning import WeightsOverwritten
from graftdet.utils.training.results import TrainResult
from graftdet.utils.training.run import Run
from graftdet.utils.training.run_state import RunState
from graftdet.utils.training.trainer import Trainer, sampling_weights


def train_epochs(
    trainer: Trainer,
    state: RunState,
    run: Run | None,
    validate: Callable[..., Evaluation | None],
    epochs: int,
    *,
    validate_each: bool = True,
    labels: list[np.ndarray] | None = None,
) -> TrainResult | None:
    """Train, validate and save epoch by epoch, from the epoch of `state` to the last one or until it should stop.

    Args:
        trainer: Trains an epoch.
        state: State of the run.
        run: The run's folder; None in processes other than the main one.
        validate: `validate(model, half=False)`; every process validates its part of the images.
        epochs: Length of the run.
        validate_each: Validate after each epoch; False: after the last one.
        labels: Class indices (n,) of each image, to sample images by; None: each once.

    Raises:
        NonFiniteLoss: A loss, or gradients, are not finite, and the run does not continue (`--on-nan`).
        WeightsOverwritten: The run was abandoned, to start again with its gentle recipe.
    """
    model, half, epoch = state.ema.model, trainer.choice.validation != "float32", state.epoch
    rollback = Rollback(state, run, Path(trainer.ranks.broadcast(str(run.folder) if run else "")))
    while epoch < epochs and not state.stopping.stop:
        weights = sampling_weights(labels, state.class_ap) if labels is not None else None
        try:
            result = trainer.train_epoch(epoch, epochs, weights=weights, on_batch=run.plot_batch if run else None)
            rollback.check()
        except NonFiniteLoss as error:
            rollback.handle(error)
            epoch = state.epoch
            continue
        epoch += 1
        evaluation = validate(model, half=half) if validate_each or epoch == epochs else None
        if run:
            run.finish_epoch(result, evaluation)
        rollback.completed()
        abandoned = run.gentle_recipe if run and run.is_abandoned else ""
        state.class_ap, stop, gentle = trainer.ranks.broadcast((state.class_ap, state.stopping.stop, abandoned))
        if gentle:
            raise WeightsOverwritten(gentle, run.folder if run else None)
        if stop:
            break
    if run:
        return run.finish(validate)
    validate(model)
    return None
