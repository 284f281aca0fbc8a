"""What `export.py --benchmark` writes: a table for terminals, JSON, Markdown and a chart of AP over latency."""

import json
import logging
import os
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from graftdet.models.analysis.benchmark.rows import BATCH, BenchmarkRow, Subject, benchmark_rows
from graftdet.models.backends import BACKENDS, Backend, ExportOptions
from graftdet.models.backends.receipt.verified_export import Evidence
from graftdet.models.backends.target_paths import installed_formats
from graftdet.utils.environment import versions
from graftdet.utils.files import write_atomically
from graftdet.utils.processor import processor_name, usable_cores
from graftdet.utils.tables import markdown_table, text_table
from graftdet.utils.visualization.figures import SERIES, new_figure, save, styled

logger = logging.getLogger(__name__)
HEADER = (
    *("format", "precision", "MB", "load s", "latency ms", "p95 ms", "CPU ms"),
    *(f"images/s (batch {BATCH})", "AP50-95", "peak memory MB", "runtime"),
)
MARKERS = {"float32": "o", "half": "s", "int8": "^"}


def run_benchmark(
    model: Any, formats: Sequence[str], options: ExportOptions, evidence: Evidence, stem: Path, plugins: Sequence[str]
) -> list[BenchmarkRow]:
    """Measure a model in each format and write what was measured.

    Args:
        model: the `DetectionModel`.
        formats: names in `BACKENDS` whose packages are installed.
        options: how files are exported.
        evidence: what files are compared on; int8 is measured where it has calibration images.
        stem: path of the files to write, without suffix.
        plugins: files or packages with blocks of the model.

    Raises:
        UserError: the weights cannot be measured, or nothing can be written.
    """
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        subject = Subject(model, evidence.weights, options, evidence, Path(folder), tuple(plugins))
        for row in benchmark_rows(subject, formats):
            shown = dict(zip(HEADER, cells(row), strict=True))
            logger.info(f"{row.format} {row.precision}: {shown['latency ms']} ms, AP50-95 {shown['AP50-95']}")
            rows.append(row)
    about = {"weights": str(evidence.weights), "size": list(options.size), "data": evidence.data}
    logger.info(benchmark_table(rows))
    logger.info(f"written: {', '.join(map(str, write_report(rows, about, stem)))}")
    left = [f"{name} ({_why_not(BACKENDS[name])})" for name in BACKENDS if name not in installed_formats()]
    if left:
        logger.info(f"not measured: {', '.join(left)}")
    return rows


def _why_not(backend: Backend) -> str:
    """Why a format cannot be measured here."""
    if not backend.runs_here:
        return f"runs on {backend.systems} only"
    missing = backend.missing_packages()
    return f"needs {' and '.join(missing)}" if missing else "needs an environment of its own, see --allow-install"


def cells(row: BenchmarkRow) -> list[str]:
    """The columns of `HEADER`; "-" for what is not known."""
    measured = row.measured
    if measured is None:
        return [row.format, row.precision, *["-"] * 8, f"not run: {row.reason}"]
    return [
        row.format,
        row.precision,
        _number(row.megabytes, ".1f"),
        _number(measured.load_seconds, ".2f"),
        _number(measured.latency_ms, ".1f"),
        _number(measured.p95_ms, ".1f"),
        _number(measured.cpu_ms, ".1f"),
        _number(measured.images_per_second, ".0f"),
        _number(row.ap, ".4f"),
        _number(measured.peak_megabytes, ".0f"),
        measured.runtime,
    ]


def benchmark_table(rows: Sequence[BenchmarkRow]) -> str:
    """The rows as a table for a terminal."""
    return text_table(HEADER, map(cells, rows), right=range(2, 10))


def write_report(rows: Sequence[BenchmarkRow], about: dict[str, Any], stem: Path) -> list[Path]:
    """Write the rows as JSON and Markdown, and a chart where AP is known.

    Args:
        rows: the rows.
        about: weights, size, dataset, for JSON and Markdown.
        stem: path of the files, without suffix.

    Returns:
        The files written.

    Raises:
        UserError: a file cannot be written.
    """
    about = {**about, "machine": machine(), "versions": versions()}
    content = {**about, "rows": [asdict(row) for row in rows]}
    written = [Path(f"{stem}.json"), Path(f"{stem}.md")]
    write_atomically(written[0], json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    chart = draw_benchmark(rows, str(about["weights"]), Path(f"{stem}.png"))
    write_atomically(written[1], benchmark_markdown(rows, about, chart))
    return [*written, *chart]


def machine() -> dict[str, Any]:
    """The processor, its usable cores, and the number of threads that is set (None: the runtimes choose)."""
    threads = os.environ.get("OMP_NUM_THREADS")
    return {"processor": processor_name(), "cores": usable_cores(), "OMP_NUM_THREADS": threads}


def benchmark_markdown(rows: Sequence[BenchmarkRow], about: dict[str, Any], chart: Sequence[Path]) -> str:
    """The rows as a page."""
    threads = about["machine"]["OMP_NUM_THREADS"] or "not set"
    facts = {
        "weights": about["weights"],
        "input [height, width]": about["size"],
        "data": about["data"] or "none, timed on drawn images",
        "processor": f"{about['machine']['processor']}, {about['machine']['cores']} cores, OMP_NUM_THREADS {threads}",
        "versions": ", ".join(f"{name} {value}" for name, value in about["versions"].items() if value),
    }
    lines = ["# Export formats", "", markdown_table(HEADER, map(cells, rows)), ""]
    lines += [f"![AP50-95 over latency]({file.name})\n" for file in chart]
    return "\n".join([*lines, *(f"- {name}: {value}" for name, value in facts.items()), ""])


@styled
def draw_benchmark(rows: Sequence[BenchmarkRow], weights: str, path: Path) -> list[Path]:
    """Draw AP50-95 over the median latency, a line to the 95th percentile; returns the file, none without AP."""
    drawn = [(row, row.measured, row.ap) for row in rows if row.measured and row.ap is not None]
    if not drawn:
        return []
    figure, ((axes,),) = new_figure(6.4, 4.2)
    formats = list(dict.fromkeys(row.format for row in rows))
    for row, measured, ap in drawn:
        color = SERIES[formats.index(row.format) % len(SERIES)]
        axes.plot([measured.latency_ms, measured.p95_ms], [ap, ap], color=color, alpha=0.35, linewidth=1.5, zorder=1)
        label = f"{row.format} {row.precision}: {measured.latency_ms:.1f} ms, {ap:.4f}"
        marker = MARKERS.get(row.precision, "D")
        axes.scatter([measured.latency_ms], [ap], 45, color=color, marker=marker, label=label, zorder=2)
    span = max(ap for *_, ap in drawn) - min(ap for *_, ap in drawn)
    axes.margins(x=0.08, y=0.15 if span > 1e-3 else 2)
    axes.set_xlim(left=0)
    axes.set_xlabel("latency at batch 1, median; line to the 95th percentile [ms]")
    axes.set_ylabel("AP50-95")
    axes.set_title(Path(weights).name)
    axes.grid(True)
    figure.legend(loc="outside right upper", fontsize=8)
    return save(figure, path)


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
