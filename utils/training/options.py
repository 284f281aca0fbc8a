"""TODO"""

from graftdet.utils.errors import UserError


def chosen_values(options) -> list[str]:
    """Hyperparameters given to train.py as flags: KEY=VALUE."""
    values = [f"optimizer={options.optimizer}"] if options.optimizer else []
    return values + ["schedule=cosine"] * options.cos_lr + options.set


def check_flags(options) -> None:
    """Raise `UserError` where --into, --min-transfer and --set distill_... of train.py do not go with its other flags."""
    if (options.into or options.min_transfer) and not options.weights:
        raise UserError(
            f"--{'into' if options.into else 'min-transfer'}: says how --weights are taken over, which is missing"
        )
    if options.into and options.min_transfer:
        raise UserError("--min-transfer: is about all rows of a model, --into about one; give one of them")
    for word in options.set:
        if word.startswith("distill_") and not options.teacher:
            raise UserError(f"--set {word}: says how to learn from a --teacher, which is missing")
