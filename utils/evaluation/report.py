"""The result of an evaluation as text."""

from collections.abc import Sequence

from graftdet.utils.evaluation.evaluator import Evaluation
from graftdet.utils.tables import text_table

MAX_NAME = 28  # characters of a class name in the table


def format_table(evaluation: Evaluation, names: Sequence[str] | None = None) -> str:
    """Return a table with one row for all classes together and one per class that has targets.

    Args:
        evaluation: Result of `evaluate`.
        names: Class names, instead of those of the ground truth.
    """
    rows = [("all", evaluation.images, evaluation.instances, evaluation.metrics)]
    for index, entry in enumerate(evaluation.per_class):
        if entry["instances"] and len(evaluation.per_class) > 1:
            name = str(names[index] if names is not None else entry["name"])
            rows.append((name, entry["images"], entry["instances"], entry))
    cells = [
        (
            name if len(name) <= MAX_NAME else f"{name[: MAX_NAME - 2]}..",
            images,
            instances,
            *(f"{values[key]:.3f}" for key in ("precision", "recall", "AP50", "AP50-95")),
        )
        for name, images, instances, values in rows
    ]
    return text_table(("class", "images", "instances", "P", "R", "AP50", "AP50-95"), cells, right=range(1, 7))


def format_evaluation(evaluation: Evaluation, names: Sequence[str] | None = None) -> str:
    """Return `format_table`, AP by object size, and the time per image."""
    metrics, speed = evaluation.metrics, evaluation.speed
    by_size = "  ".join(f"{key} {metrics[key]:.3f}" for key in ("AP75", "APs", "APm", "APl", "AR100"))
    times = ", ".join(f"{name} {value:.1f} ms" for name, value in speed.items())
    return f"{format_table(evaluation, names)}\n{by_size}\nspeed per image: {times}"
