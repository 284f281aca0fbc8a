"""Sections of the report of a run: numbers and figures of an evaluation, curves, settings."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from graftdet.utils.evaluation.calibration import MIN_SCORE, calibration
from graftdet.utils.evaluation.coco_matching import AREA_RANGES
from graftdet.utils.evaluation.error_analysis import KINDS, analyze_errors
from graftdet.utils.evaluation.evaluator import Evaluation
from graftdet.utils.reporting.page import Section, details, paragraph, row, table
from graftdet.utils.visualization.drawing import Names, class_name
from graftdet.utils.visualization.evaluation_plots import confusion_figure, curve_figure
from graftdet.utils.visualization.figures import INK, MUTED, SERIES, hex_color, new_figure, styled, to_svg
from graftdet.utils.visualization.plots import MAXIMIZED, read_results, results_figure, short_name

SIZES = ("small", "medium", "large")
SIZE_LIMITS = ("below 32² pixels", "32² to 96² pixels", "above 96² pixels")
MAX_BARS = 80


def curves_section(csv_path: str | Path) -> Section:
    """Curves of losses, metrics and learning rate of a results.csv."""
    columns = read_results(csv_path)
    rest = {name for name in columns if name == "lr" or name.removeprefix("val/") in MAXIMIZED}
    losses = {name: values for name, values in columns.items() if name not in rest}
    metrics = {name: values for name, values in columns.items() if name in rest or name == "epoch"}
    figures = [
        to_svg(results_figure(losses, 2), "losses", "losses over the epochs"),
        to_svg(results_figure(metrics, 2), "metrics", "metrics over the epochs"),
    ]
    note = paragraph("Validation losses are those of the averaged weights on images without augmentation.", note=True)
    return Section("Curves", row(*figures) + note)


def classes_section(evaluation: Evaluation, names: Names) -> Section:
    """AP of each class with its number of images and boxes."""
    metrics = evaluation.metrics
    keys = ("precision", "recall", "AP50", "AP50-95")
    rows = [["all classes", evaluation.images, evaluation.instances, *(metrics[key] for key in keys)]]
    for k, entry in enumerate(evaluation.per_class):
        rows.append([class_name(names, k), entry["images"], entry["instances"], *(entry[key] for key in keys)])
    head = ("class", "images", "boxes", "precision", "recall", "AP50", "AP50-95")
    parts = [table(head, rows, right=range(1, 7)), to_svg(_class_bars(evaluation, names), "classes", "AP per class")]
    at = f"Precision and recall at IoU 0.5 and a confidence of {metrics['confidence']:.2f}, that of the highest F1."
    return Section("Classes", row(*parts) + paragraph(at, note=True))


@styled
def _class_bars(evaluation: Evaluation, names: Names) -> Any:
    shown = [k for k, entry in enumerate(evaluation.per_class) if entry["instances"]][:MAX_BARS]
    values = [evaluation.per_class[k]["AP50-95"] for k in shown]
    figure, ((axes,),) = new_figure(6, max(1.4, 0.24 * len(shown) + 0.8))
    bars = axes.barh(range(len(shown)), values, color=[hex_color(k) for k in shown])
    axes.bar_label(bars, [f"{value:.3f}" for value in values], padding=3, fontsize=8)
    axes.set_yticks(range(len(shown)), [short_name(names, k) for k in shown], fontsize=8)
    axes.set(xlim=(0, 1.08), ylim=(len(shown) - 0.4, -0.6), xlabel="AP50-95")
    return figure


def precision_recall_section(evaluation: Evaluation, names: Names) -> Section:
    """Precision over recall, and F1 over confidence."""
    curves = evaluation.curves
    figures = [
        to_svg(curve_figure(curves, which, names), which, text)
        for which, text in (("at_recall", "precision over recall"), ("f1", "F1 over confidence"))
    ]
    return Section("Precision and recall", row(*figures))


def confusion_section(evaluation: Evaluation, names: Names) -> Section:
    """The confusion matrix, normalized and as counts."""
    figures = []
    for normalize, text in ((True, "normalized confusion matrix"), (False, "confusion matrix of counts")):
        figure = confusion_figure(evaluation.confusion, names, normalize)
        figures.append(to_svg(figure, text.replace(" ", "-"), text))
    many = len(evaluation.confusion.matrix) > 20
    return Section("Confusion matrix", "".join(figures) if many else row(*figures))


def sizes_section(evaluation: Evaluation) -> Section:
    """AP by the area of the ground-truth boxes."""
    area = evaluation.truth.boxes.area[~evaluation.truth.boxes.crowd]
    counts = [int(((area >= low) & (area < high)).sum()) for low, high in AREA_RANGES[1:]]
    values = [evaluation.metrics[f"AP{size[0]}"] for size in SIZES]
    rows = list(zip(SIZES, SIZE_LIMITS, counts, values, strict=True))
    return Section("Size of boxes", table(("size", "area", "boxes", "AP50-95"), rows, right=(2, 3)))


def errors_section(evaluation: Evaluation) -> Section:
    """Kinds of errors and what each costs."""
    errors = analyze_errors(evaluation)
    rows = [(error.name, KINDS.get(error.name, "all of them"), error.count, error.ap_gain) for error in errors]
    text = (
        "Each false positive and each missed object has one kind (Bolya et al., TIDE, ECCV 2020). The last column is "
        "how much AP50 would rise if the errors of this kind alone were corrected; the values do not add up."
    )
    figure = to_svg(_error_bars(errors[: len(KINDS)]), "errors", "AP50 that each kind of error costs")
    content = row(table(("error", "meaning", "count", "AP50 gain"), rows, right=(2, 3)), figure)
    return Section("Errors", paragraph(text) + content)


@styled
def _error_bars(errors: Any) -> Any:
    figure, ((axes,),) = new_figure(5, 2.4)
    gains = [error.ap_gain for error in errors]
    bars = axes.barh(range(len(errors)), gains, color=SERIES[: len(errors)])
    axes.bar_label(bars, [f"{gain:.3f}" for gain in gains], padding=3, fontsize=8)
    axes.set_yticks(range(len(errors)), [error.name for error in errors])
    axes.set(ylim=(len(errors) - 0.4, -0.6), xlabel="AP50 if corrected, minus AP50")
    axes.margins(x=0.15)
    axes.set_xlim(right=max(axes.get_xlim()[1], 0.01))  # numbers of smaller ticks would overlap
    return figure


def calibration_section(evaluation: Evaluation) -> Section:
    """Precision of the detections over their scores."""
    found = calibration(evaluation)
    text = (
        f"Precision at IoU 0.5 of the detections in each tenth of scores from {MIN_SCORE:g}: on the diagonal, scores "
        f"are probabilities. Expected calibration error: {found.error:.3f}."
    )
    return Section(
        "Calibration of scores", paragraph(text) + row(to_svg(_calibration_figure(found), "calibration"), "")
    )


@styled
def _calibration_figure(found: Any) -> Any:
    figure, ((axes,),) = new_figure(5, 3.2)
    axes.plot([0, 1], [0, 1], color=MUTED, linestyle=":", linewidth=1.2)
    known = found.counts > 0
    axes.plot(found.scores[known], found.precision[known], color=SERIES[0], marker="o", linewidth=1.8)
    for x, y, count in zip(found.scores[known], found.precision[known], found.counts[known], strict=True):
        axes.annotate(
            f"{count:,}", (x, y), (0, 6), textcoords="offset points", ha="center", fontsize=7, color=INK, clip_on=False
        )
    axes.set(xlim=(0, 1), ylim=(0, 1.05), xlabel="mean score", ylabel="precision")
    axes.grid(True)
    return figure


def settings_section(info: Mapping[str, Any], run: Mapping[str, Any]) -> Section:
    """Options, hyperparameters and versions of a run, and what it took.

    Args:
        info: What the run recorded: "options", "hyperparameters", "versions" and single values.
        run: Further single values, such as time and memory.
    """
    groups = ("options", "hyperparameters", "versions")
    hidden = (*groups, "yaml", "names", "manifest")
    single = {name: value for name, value in info.items() if name not in hidden}
    parts = [table(("run", ""), [(name, _short(value)) for name, value in {**run, **single}.items()])]
    for group in groups:
        values = info.get(group) or {}
        rows = [(name, _short(value)) for name, value in values.items()]
        content = table((group[:-1], "value"), rows)
        parts.append(content if group == "versions" else details(f"{group} ({len(rows)})", content))
    return Section("Settings", "".join(parts))


def _short(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {one}" for name, one in value.items())
    if isinstance(value, (list, tuple)):
        return " ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) and np.isfinite(value) else str(value)
