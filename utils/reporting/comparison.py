"""Finished runs side by side: `graftdet report A B C`."""

from collections.abc import Mapping, Sequence, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from graftdet.utils.config import load_yaml
from graftdet.utils.errors import UserError
from graftdet.utils.evaluation.bootstrap import Interval, interval, resampled_ap, sample_images
from graftdet.utils.evaluation.error_analysis import analyze_errors
from graftdet.utils.evaluation.evaluator import Evaluation
from graftdet.utils.evaluation.saved_evaluation import FILE, load_evaluation
from graftdet.utils.files import write_atomically
from graftdet.utils.reporting.page import Section, page, paragraph, row, table
from graftdet.utils.tables import text_table
from graftdet.utils.text import counted
from graftdet.utils.visualization.figures import INK, MUTED, SERIES, legend, new_figure, styled, to_svg, whole_ticks
from graftdet.utils.visualization.plots import read_results

METRICS = ("AP50-95", "AP50", "AP75", "APs", "APm", "APl", "precision", "recall")
CURVES = ("val/AP50-95", "val/AP50")
INTERVAL_NOTE = (
    "Intervals: 95 % percentile bootstrap over the images, the same samples for all runs. They state what other images "
    "of the same kind would change, not what another training with another seed would."
)


@dataclass(frozen=True)
class ComparedRun:
    """One run of a comparison.

    Attributes:
        name: Short name, unique in the comparison.
        evaluation: Its saved evaluation.
        settings: Options and other recorded values by name; empty without a config.yaml.
        columns: Columns of its results.csv; empty without one.
        ap: AP50-95 on all images, with its interval.
        differences: AP50-95 and AP50 minus those of the first run; None for that one.
    """

    name: str
    evaluation: Evaluation
    settings: dict[str, Any]
    columns: dict[str, np.ndarray]
    ap: Interval
    differences: tuple[Interval, Interval] | None


def compare_runs(folders: Sequence[str | Path], samples: int = 1000, seed: int = 0) -> list[ComparedRun]:
    """Read runs and compute their differences from the first.

    Args:
        folders: Folders of train.py or val.py.
        samples: Bootstrap samples of the images.
        seed: Seed of the samples.

    Raises:
        UserError: If a run has no saved evaluation, or they are of different images, classes or boxes.
    """
    paths = [Path(folder) for folder in folders]
    evaluations = [load_evaluation(_file_of(path)) for path in paths]
    for path, evaluation in zip(paths[1:], evaluations[1:], strict=True):
        if difference := _difference(evaluations[0], evaluation):
            raise UserError(f"{paths[0]} and {path} were not evaluated on the same dataset: {difference}")
    image_ids = list(evaluations[0].truth.images)
    weights = sample_images(len(image_ids), samples, seed)
    values = [resampled_ap(evaluation, image_ids, weights) for evaluation in evaluations]
    return [
        ComparedRun(
            name,
            evaluation,
            _settings(path),
            read_results(path / "results.csv") if (path / "results.csv").is_file() else {},
            interval(own[0]),
            (interval(own[0] - values[0][0]), interval(own[1] - values[0][1])) if number else None,
        )
        for number, (path, name, evaluation, own) in enumerate(
            zip(paths, _short_names(paths), evaluations, values, strict=True)
        )
    ]


def _file_of(folder: Path) -> Path:
    if not folder.is_dir():
        raise UserError(f"{folder}: is not a folder of train.py or val.py")
    if not (folder / FILE).is_file():
        best = folder / "weights" / "best.pt"
        raise UserError(
            f"{folder}: has no {FILE}, the run is not finished or of an earlier version; give the folder that "
            f"`graftdet val --weights {best} --data DATA.yaml` writes"
        )
    return folder / FILE


def _difference(first: Evaluation, other: Evaluation) -> str:
    """What differs in the ground truth of two evaluations; "" if nothing does."""
    one, two = first.truth, other.truth
    if list(one.categories) != list(two.categories):
        return _counts(one.categories, two.categories, "classes")
    if list(one.images) != list(two.images):
        return _counts(one.images, two.images, "images")
    boxes = [
        np.column_stack((truth.boxes.image, truth.boxes.category, truth.boxes.xywh, truth.boxes.crowd))
        for truth in (one, two)
    ]
    boxes = [rows[np.lexsort(rows.T)] for rows in boxes]
    same = boxes[0].shape == boxes[1].shape and np.allclose(boxes[0], boxes[1])
    return "" if same else _counts(boxes[0], boxes[1], "boxes")


def _counts(one: Sized, two: Sized, kind: str) -> str:
    """How many of a kind two evaluations have; where both have the same number, that they are not the same ones."""
    return f"{len(one)} and {len(two)} {kind}" if len(one) != len(two) else f"{len(one)} {kind} each, but other ones"


def _short_names(paths: Sequence[Path]) -> list[str]:
    """Names of folders, with as many parents as make them different."""
    parts = [path.absolute().parts for path in paths]
    for count in range(1, max(map(len, parts)) + 1):
        names = ["/".join(own[-count:]) for own in parts]
        if len(set(names)) == len(names):
            return names
    raise UserError("report: the same run is given twice")


def _settings(folder: Path) -> dict[str, Any]:
    path = folder / "config.yaml"
    content = load_yaml(path) if path.is_file() else {}
    groups = [content.get(group) for group in ("options", "hyperparameters", "versions")]
    single = {name: content.get(name) for name in ("initial_weights", "recipe", "precision", "train_images")}
    merged = {name: value for name, value in single.items() if value is not None}
    for group in groups:
        merged |= group if isinstance(group, Mapping) else {}
    return merged


def comparison_text(runs: Sequence[ComparedRun]) -> str:
    """Return the comparison as a table for a terminal."""
    rows = [
        (run.name, *(f"{run.evaluation.metrics[key]:.3f}" for key in METRICS), _difference_text(run)) for run in runs
    ]
    head = ("run", *METRICS, "AP50-95 difference (95 %)")
    images = runs[0].evaluation.images
    return f"{text_table(head, rows, right=range(1, len(METRICS) + 1))}\n{counted(images, 'image')}. {INTERVAL_NOTE}"


def _difference_text(run: ComparedRun) -> str:
    if run.differences is None:
        return "-"
    found = run.differences[0]
    return f"{found.value:+.3f} ({found.low:+.3f} to {found.high:+.3f}){' *' if found.excludes_zero else ''}"


def write_comparison(runs: Sequence[ComparedRun], path: str | Path) -> None:
    """Write the comparison as one HTML file."""
    parts = [_overview(runs), _curves(runs), _classes(runs), _errors(runs), _settings_section(runs)]
    title = " / ".join(run.name for run in runs)
    images = paragraph(
        f"{counted(runs[0].evaluation.images, 'image')}, {counted(runs[0].evaluation.instances, 'box')}", note=True
    )
    write_atomically(Path(path), page(title, images, [part for part in parts if part.html]))


def _overview(runs: Sequence[ComparedRun]) -> Section:
    """Metrics and differences."""
    rows = [(run.name, *(run.evaluation.metrics[key] for key in METRICS)) for run in runs]
    differences = [
        (run.name, *(f"{one.value:+.3f} ({one.low:+.3f} to {one.high:+.3f})" for one in run.differences))
        for run in runs
        if run.differences
    ]
    content = table(("run", *METRICS), rows, right=range(1, len(METRICS) + 1))
    head = (f"minus {runs[0].name}", "AP50-95", "AP50")
    figure = to_svg(_intervals(runs), "intervals", "difference of AP with confidence intervals")
    return Section("AP", content + row(table(head, differences), figure) + paragraph(INTERVAL_NOTE, note=True))


@styled
def _intervals(runs: Sequence[ComparedRun]) -> Any:
    others = [run for run in runs if run.differences]
    figure, ((axes,),) = new_figure(5.5, 0.45 * len(others) + 1.1)
    axes.axvline(0, color=MUTED, linewidth=1)
    for position, run in enumerate(others):
        found = run.differences[0]
        color = _color(position + 1)
        axes.plot([found.low, found.high], [position] * 2, color=color, linewidth=2.5, solid_capstyle="butt")
        axes.plot([found.value], [position], "o", color=color)
    axes.set_yticks(range(len(others)), [run.name[-40:] for run in others])
    axes.set(ylim=(len(others) - 0.4, -0.6), xlabel=f"AP50-95 minus that of {runs[0].name[-40:]}")
    axes.grid(True, axis="x")
    return figure


def _color(number: int) -> str:
    return SERIES[number % len(SERIES)] if number < len(SERIES) else INK


def _curves(runs: Sequence[ComparedRun]) -> Section:
    """Validation AP over the epochs; empty without results.csv."""
    shown = [name for name in CURVES if any(name in run.columns for run in runs)]
    figures = [to_svg(_curve(runs, name), name.replace("/", "-"), "AP over the epochs") for name in shown]
    return Section("Curves", row(*figures) if figures else "")


@styled
def _curve(runs: Sequence[ComparedRun], column: str) -> Any:
    figure, ((axes,),) = new_figure(6, 3.8)
    for number, run in enumerate(runs):
        if column in run.columns:
            known = np.isfinite(run.columns[column])
            axes.plot(run.columns["epoch"][known], run.columns[column][known], color=_color(number), linewidth=1.8)
    axes.set(xlabel="epoch", ylabel=column)
    axes.set_ylim(bottom=0)
    axes.grid(True)
    whole_ticks(axes)
    entries = [(run.name[-40:], _color(number)) for number, run in enumerate(runs) if column in run.columns]
    legend(axes, entries, loc="lower right", fontsize=8)
    return figure


def _classes(runs: Sequence[ComparedRun]) -> Section:
    """AP50-95 of each class."""
    per_class = [run.evaluation.per_class for run in runs]
    rows = [
        (entries[0]["name"], entries[0]["instances"], *(entry["AP50-95"] for entry in entries))
        for entries in zip(*(_by_id(one) for one in per_class), strict=True)
    ]
    head = ("class", *(run.name for run in runs))
    return Section("AP50-95 per class", table(head, rows, right=range(1, len(head))))


def _by_id(per_class: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The classes in an order that is the same for models with their classes in another order."""
    return sorted(per_class, key=lambda entry: str(entry["id"]))


def _errors(runs: Sequence[ComparedRun]) -> Section:
    """AP50 that each kind of error costs."""
    analyzed = [analyze_errors(run.evaluation) for run in runs]
    rows = [
        (kinds[0].name, *(f"{kind.ap_gain:.3f} ({kind.count:,})" for kind in kinds))
        for kinds in zip(*analyzed, strict=True)
    ]
    note = paragraph("AP50 gained if the errors of a kind were corrected, and their number.", note=True)
    head = ("error", *(run.name for run in runs))
    return Section("Errors", table(head, rows, right=range(1, len(head))) + note)


def _settings_section(runs: Sequence[ComparedRun]) -> Section:
    """Settings that differ."""
    names = dict.fromkeys(name for run in runs for name in run.settings)
    rows = []
    for name in names:
        values = [str(run.settings.get(name, "-")) for run in runs]
        if len(set(values)) > 1:
            rows.append((name, *values))
    head = ("setting", *(run.name for run in runs))
    return Section("Settings that differ", table(head, rows) if rows else "")
