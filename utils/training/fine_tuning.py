"""Fine-tuning: which recipe suits the initial weights, and whether training keeps what they know."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

DEFAULT_RECIPE = "default.yaml"
MIN_FRACTION = 0.5  # of the parameters: weights that bring less are relearned anyway
MIN_INITIAL_AP = 0.1  # weights that reach it before training find the objects of the dataset already
MAX_FALL = (
    0.2  # fraction of the best AP so far; with finetune.yaml, datasets near those of the weights fall by 31 and 32 %,
)
# others by 11 % at most
MIN_AP = 0.05  # lower ones fluctuate anyway
GENTLE = {"finetune.yaml": "finetune-gentle.yaml"}
"""Recipe -> the one with which training starts again where AP falls."""


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
    return RecipeChoice("finetune.yaml", f"the weights bring {fraction:.0%} of the parameters")


class WeightsOverwritten(Exception):
    """Training overwrites what the initial weights know; it starts again with another recipe.

    Attributes:
        recipe: The recipe.
        folder: Folder of the run; None in processes other than the main one.
    """

    def __init__(self, recipe: str, folder: Path | None):
        super().__init__(recipe)
        self.recipe, self.folder = recipe, folder


@dataclass(frozen=True)
class Fall:
    """An epoch whose AP is far below that of an earlier one: AP and epoch before and after."""

    best_ap: float
    best_epoch: int
    ap: float

    def __str__(self) -> str:
        return (
            f"AP50-95 fell from {self.best_ap:.3f} (epoch {self.best_epoch}) to {self.ap:.3f}: training overwrites "
            "what the initial weights know"
        )


def find_fall(history: Sequence[tuple[int, float]], epochs: int) -> Fall | None:
    """Find out whether the last epoch is far below an earlier one, in the first third of a run.

    Args:
        history: Epoch and validation AP50-95 of all epochs so far; epoch 0 stands for the initial weights.
        epochs: Length of the run.
    """
    *earlier, (epoch, ap) = history
    best_ap, best_epoch = max(((ap, epoch) for epoch, ap in earlier), default=(0.0, 0))
    if epoch > epochs / 3 or best_ap < MIN_AP or ap >= (1 - MAX_FALL) * best_ap:
        return None
    return Fall(best_ap, best_epoch, ap)
