"""TODO"""

from graftdet.utils.evaluation.evaluator import Evaluation


def format_table(evaluation: Evaluation, names=None) -> str:
    """The table of an evaluation as text: a row for all classes together, then one a class that has true boxes.

    `names` overrides the class names of the ground truth.
    """
    rows = [("all", evaluation.images, evaluation.instances, evaluation.metrics)]
    for k, entry in enumerate(evaluation.per_class):
        if entry["instances"] and len(evaluation.per_class) > 1:
            rows.append((names[k] if names is not None else entry["name"], entry["images"], entry["instances"], entry))
    width = min(max(5, *(len(str(row[0])) for row in rows)), 28)
    lines = [f"{'class':<{width}} {'images':>8} {'instances':>10} {'P':>7} {'R':>7} {'AP50':>7} {'AP50-95':>8}"]
    for name, images, instances, values in rows:
        name = str(name) if len(str(name)) <= width else str(name)[: width - 2] + ".."
        scores = f"{values['precision']:7.3f} {values['recall']:7.3f} {values['AP50']:7.3f} {values['AP50-95']:8.3f}"
        lines.append(f"{name:<{width}} {images:>8} {instances:>10} {scores}")
    return "\n".join(lines)


def print_table(evaluation: Evaluation, names=None) -> None:
    """Print `format_table`, the detail by size and the speed."""
    print(format_table(evaluation, names))
    metrics, speed = evaluation.metrics, evaluation.speed
    print("  ".join(f"{key} {metrics[key]:.3f}" for key in ("AP75", "APs", "APm", "APl", "AR100")))
    print("speed a picture: " + ", ".join(f"{name} {value:.1f} ms" for name, value in speed.items()))
