"""Fine-tuning: which recipe suits the initial weights, and whether training keeps what they know."""

from collections.abc import Sequence

MAX_FALL = 0.2  # fraction of the best AP so far
MIN_AP = 0.05  # lower ones fluctuate anyway


def describe_fall(history: Sequence[tuple[int, float]], epochs: int, transferred_lr: float) -> str | None:
    """Report an epoch whose AP is more than a fifth below that of an earlier one, in the first third of a run.

    Args:
        history: Epoch and validation AP50-95 of all epochs so far; epoch 0 stands for the initial weights.
        epochs: Length of the run.
        transferred_lr: Learning rate of transferred parameters as a fraction of lr0.

    Returns:
        What happened and what to change; None if nothing did.
    """
    *earlier, (epoch, ap) = history
    best_ap, best_epoch = max(((ap, epoch) for epoch, ap in earlier), default=(0.0, 0))
    if epoch > epochs / 3 or best_ap < MIN_AP or ap >= (1 - MAX_FALL) * best_ap:
        return None
    return (
        f"AP50-95 fell from {best_ap:.3f} (epoch {best_epoch}) to {ap:.3f}: training overwrites what the initial "
        f"weights know; lower the learning rate of their parameters, for example "
        f"--set transferred_lr={transferred_lr / 5:.2g} (now {transferred_lr:g})"
    )
