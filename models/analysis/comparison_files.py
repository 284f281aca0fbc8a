"""Files of `python -m models compare --train`: table as CSV, Markdown and LaTeX, curves over the epochs."""

import csv
import io
import re
import shlex
import statistics
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from graftdet.models.analysis.compare import ModelCost
from graftdet.models.analysis.trainings import (
    METRICS,
    TrainedModel,
    TrainingPlan,
    mean_and_deviation,
    metrics_of_all,
)
from graftdet.utils.environment import commit
from graftdet.utils.files import write_atomically
from graftdet.utils.processor import processor_name, usable_cores
from graftdet.utils.tables import markdown_table
from graftdet.utils.text import counted
from graftdet.utils.visualization.figures import INK, SERIES, legend, new_figure, save, styled, whole_ticks
from graftdet.utils.visualization.plots import read_results

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LATEX = str.maketrans({character: f"\\{character}" for character in "_&%$#{}"})


@dataclass(frozen=True)
class ComparisonFiles:
    """Writes compare.csv, compare.md, compare.tex, curves.png and curves.pdf into a folder.

    Attributes:
        folder: The folder; exists.
        costs: Cost of each model.
        size: (height, width) that costs are of.
        device: Where torch was timed.
        plan: How the models are trained.
    """

    folder: Path
    costs: Sequence[ModelCost]
    size: tuple[int, int]
    device: str
    plan: TrainingPlan

    def write(self, trained: Sequence[TrainedModel]) -> None:
        """Write all files; `trained` are the trainings so far, of each model in the order of its cost."""
        write_atomically(self.folder / "compare.csv", self._csv(trained))
        write_atomically(self.folder / "compare.md", self._markdown(trained))
        write_atomically(self.folder / "compare.tex", self._latex(trained))
        save(curves_figure([cost.label for cost in self.costs], trained), self.folder / "curves", ("png", "pdf"))

    def _csv(self, trained: Sequence[TrainedModel]) -> str:
        """One row per model: costs, mean and deviation of each metric, and its value with each seed."""
        rows = []
        for cost, model in zip(self.costs, trained, strict=True):
            row: dict[str, Any] = {"model": cost.label, "yaml": model.cfg, "parameters": cost.params}
            row |= {"gmacs": cost.macs / 1e9, "gflops": 2 * cost.macs / 1e9}
            row |= {"peak_activations_mib": cost.activations / 2**20, "torch_ms": cost.torch.median}
            row |= {"onnxruntime_ms": cost.onnx.median if cost.onnx else "", "seeds": len(model.folders)}
            for key, values in ((key, model.scores[key]) for key in metrics_of_all(trained)):
                row[f"{key} mean"] = statistics.mean(values)
                row[f"{key} std"] = statistics.stdev(values) if len(values) > 1 else ""
                row |= {f"{key} seed {seed}": value for seed, value in enumerate(values)}
            rows.append(row)
        text = io.StringIO()
        writer = csv.DictWriter(text, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(
            {key: f"{value:.6g}" if isinstance(value, float) else value for key, value in row.items()} for row in rows
        )
        return text.getvalue()

    def _columns(self, trained: Sequence[TrainedModel]) -> Iterator[tuple[str, list[str]]]:
        """Header and values of the columns of the tables for readers."""
        yield "parameters (M)", [f"{cost.params / 1e6:.2f}" for cost in self.costs]
        yield "GFLOPs", [f"{2 * cost.macs / 1e9:.2f}" for cost in self.costs]
        if any(cost.onnx for cost in self.costs):
            yield "onnxruntime (ms)", [f"{cost.onnx.median:.1f}" if cost.onnx else "-" for cost in self.costs]
        else:
            yield "torch (ms)", [f"{cost.torch.median:.1f}" for cost in self.costs]
        for key in metrics_of_all(trained):
            split, metric = key.split("/")
            yield f"{metric} {split}", [mean_and_deviation(model.scores[key]) for model in trained]

    def _markdown(self, trained: Sequence[TrainedModel]) -> str:
        columns = [("model", [cost.label for cost in self.costs]), *self._columns(trained)]
        header, rows = [name for name, _ in columns], zip(*(values for _, values in columns), strict=True)
        return f"{markdown_table(header, rows, right=range(1, len(header)))}\n\n{self._conditions(trained)}\n"

    def _latex(self, trained: Sequence[TrainedModel]) -> str:
        """A table for the package booktabs."""
        columns = list(self._columns(trained))
        rows = zip(*(values for _, values in columns), strict=True)
        cells = [
            [cost.label.translate(_LATEX), *(_number(value) for value in row)]
            for cost, row in zip(self.costs, rows, strict=True)
        ]
        header = ["Model", *(name.translate(_LATEX) for name, _ in columns)]
        comment = re.sub(r"^", "% ", self._conditions(trained), flags=re.M)
        body = [" & ".join(line) + r" \\" for line in (header, *cells)]
        lines = [comment, rf"\begin{{tabular}}{{l{'r' * len(columns)}}}", r"\toprule", body[0], r"\midrule", *body[1:]]
        return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])

    def _conditions(self, trained: Sequence[TrainedModel]) -> str:
        """What the figures depend on."""
        seeds, plan, (height, width) = len(trained[0].folders), self.plan, self.size
        spread = " (mean and sample standard deviation)" if seeds > 1 else ""
        where = "onnxruntime on the CPU" if any(cost.onnx for cost in self.costs) else f"torch on {self.device}"
        test = (
            "; test: the weights of that epoch"
            if any(key.startswith("test/") for key in metrics_of_all(trained))
            else ""
        )
        return (
            f"Trained on {plan.data} at {plan.img} for {counted(plan.epochs, 'epoch')} with "
            f"{counted(seeds, 'seed')}{spread}. AP val: the best epoch{test}.\n"
            f"GFLOPs and latency per image at {width}x{height}; latency: {where}, median, "
            f"{processor_name()}, {counted(usable_cores(), 'core')}.\n"
            f"Command: {shlex.join(['graftdet', *sys.argv[1:]])}; commit {commit() or 'unknown'}."
        )


def _number(text: str) -> str:
    """A value of a table as LaTeX writes it."""
    return (
        f"${text.replace('+-', chr(92) + 'pm')}$" if "+-" in text else text.replace("-", "--") if text == "-" else text
    )


@styled
def curves_figure(labels: Sequence[str], trained: Sequence[TrainedModel]) -> "Figure":
    """Validation AP over the epochs, one curve per model: the mean over the seeds, and a band from lowest to highest.

    Args:
        labels: Name of each model.
        trained: Its trainings.
    """
    figure, (panels,) = new_figure(10, 3.8, 1, len(METRICS))
    colors = [SERIES[number] if number < len(SERIES) else INK for number in range(len(labels))]
    for panel, metric in zip(panels, METRICS, strict=True):
        for model, color in zip(trained, colors, strict=True):
            epochs, values = _curves(model.folders, f"val/{metric}")
            if not len(epochs):
                continue
            marker = "o" if len(epochs) == 1 else ""
            panel.plot(epochs, np.nanmean(values, 0), color=color, linewidth=1.8, marker=marker)
            if len(values) > 1:
                panel.fill_between(epochs, np.nanmin(values, 0), np.nanmax(values, 0), color=color, alpha=0.18, lw=0)
        panel.set(xlabel="epoch", ylabel=f"{metric} on the validation split")
        panel.set_ylim(bottom=0)
        panel.grid(True)
        whole_ticks(panel)
    legend(panels[0], [*zip(labels, colors, strict=True)], loc="lower right", fontsize=8)
    return figure


def _curves(folders: Sequence[Path], column: str) -> tuple[np.ndarray, np.ndarray]:
    """The epochs that any run validated (n,), and the value of each run (runs, n), NaN where it has none."""
    runs = []
    for folder in folders:
        columns = read_results(folder / "results.csv")
        known = np.isfinite(columns[column])
        runs.append(dict(zip(columns["epoch"][known].tolist(), columns[column][known].tolist(), strict=True)))
    epochs = sorted(set().union(*runs))
    values = [[run.get(epoch, np.nan) for epoch in epochs] for run in runs]
    return np.array(epochs), np.array(values).reshape(len(runs), len(epochs))
