"""Fine-tuning: which recipe suits the initial weights, and whether training keeps what they know."""

from collections.abc import Sequence
from dataclasses import dataclass

DEFAULT_RECIPE = "default.yaml"
MIN_FRACTION = 0.5  # of the parameters: weights that bring less are relearned anyway
WHOLE_FRACTION = 0.9  # of the parameters: with fewer, new rows change what reaches those that came over
MIN_INITIAL_AP = 0.1  # weights that reach it before training find the objects of the dataset already
MAX_FALL = 0.2  # fraction of the best AP so far
MIN_AP = 0.05  # lower ones fluctuate anyway


@dataclass(frozen=True)
class RecipeChoice:
    """A recipe for `--hyp auto`.

    Attributes:
        name: File in `configs/hyp`.
        reason: Why it was chosen; "" for the default recipe.
    """

    name: str
    reason: str = ""

    def __str__(self) -> str:
        return f"recipe: {self.name} ({self.reason}); --hyp {DEFAULT_RECIPE} trains as from scratch"


def choose_recipe(fraction: float, initial_ap: float | None = None, recommended: str = "") -> RecipeChoice:
    """Choose the recipe for a model by what came over from its initial weights.

    Args:
        fraction: Fraction of the parameters that came over, 0..1; 1 includes the outputs of all classes.
        initial_ap: Validation AP50-95 before training; None where it is unknown.
        recommended: The recipe that the weights themselves name; "": none.
    """
    if fraction < MIN_FRACTION or recommended == DEFAULT_RECIPE:
        return RecipeChoice(DEFAULT_RECIPE)
    if recommended:
        return RecipeChoice(recommended, "named by the weights")
    if fraction == 1 and initial_ap is not None and initial_ap >= MIN_INITIAL_AP:
        reason = f"the weights know all classes and reach AP50-95 {initial_ap:.3f} before training"
        return RecipeChoice("finetune-same-classes.yaml", reason)
    name = "finetune.yaml" if fraction >= WHOLE_FRACTION else "finetune-graft.yaml"
    return RecipeChoice(name, f"the weights bring {fraction:.0%} of the parameters")


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
