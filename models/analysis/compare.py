"""Cost and latency of several models side by side, and where their rows differ."""

import copy
import logging
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from graftdet.models.analysis.profiling import Timing, peak_activation_bytes, time_calls
from graftdet.models.analysis.row_summary import RowSummary, totals
from graftdet.models.analysis.summary import summarize
from graftdet.models.graph.detection_model import DetectionModel
from graftdet.models.graph.row_alignment import align
from graftdet.utils.errors import UserError
from graftdet.utils.tables import wrapped_table

MAX_LABEL = 36  # characters of a column's header

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ModelCost:
    """Cost of one model.

    Attributes:
        label: Short name, see `labels_of`.
        params: Number of parameters.
        macs: Multiply-adds for one image.
        activations: Peak memory of the feature maps in bytes.
        torch: Latency per image in torch, fused.
        onnx: Latency per image in onnxruntime on the CPU; None where it was not measured.
    """

    label: str
    params: int
    macs: int
    activations: int
    torch: Timing
    onnx: Timing | None


def measure_costs(
    models: list[DetectionModel], size: tuple[int, int], repeats: int, onnx: bool, device: str = "cpu"
) -> list[ModelCost]:
    """Return the cost of each model.

    Args:
        models: Are not changed.
        size: (height, width) of the image.
        repeats: Runs that latencies are medians of.
        onnx: Also time the exported models in onnxruntime.
        device: Where torch is timed.
    """
    sums = [totals(summarize(model, size)) for model in models]
    torch_times = time_torch(models, size, repeats, device)
    onnx_times = _time_onnx(models, size, repeats) if onnx else [None] * len(models)
    return [
        ModelCost(label, total["params"], total["macs"], peak_activation_bytes(model, size), *times)
        for label, model, total, *times in zip(labels_of(models), models, sums, torch_times, onnx_times, strict=True)
    ]


def cost_rows(costs: list[ModelCost], size: tuple[int, int], device: str = "cpu") -> list[list[str]]:
    """Return the rows of the table of costs: a label and one value per model, with its difference from the first.

    Args:
        costs: Of each model.
        size: (height, width) of the image.
        device: Where torch was timed.
    """
    rows = [
        ["parameters", *_relative_to_first([cost.params for cost in costs], "{:,}")],
        [f"GMACs at {size[1]}x{size[0]}", *_relative_to_first([cost.macs / 1e9 for cost in costs], "{:.2f}")],
        ["GFLOPs", *_relative_to_first([2 * cost.macs / 1e9 for cost in costs], "{:.2f}")],
        ["peak activations, MiB", *_relative_to_first([cost.activations / 2**20 for cost in costs], "{:.1f}")],
        [f"torch, median and quartiles ({device})", *_texts([cost.torch for cost in costs])],
    ]
    if any(cost.onnx for cost in costs):
        rows.append(["onnxruntime (cpu)", *_texts([cost.onnx for cost in costs])])
    return rows


def _relative_to_first(values: list[float], form: str) -> list[str]:
    """Each value; all but the first with their difference from the first in percent."""
    first = values[0]
    return [
        form.format(v) + (f" ({100 * (v / first - 1):+.1f} %)" if i and first else "") for i, v in enumerate(values)
    ]


def _texts(times: Sequence[Timing | None]) -> list[str]:
    return ["-" if timing is None else str(timing) for timing in times]


def time_torch(models: list[DetectionModel], size: tuple[int, int], repeats: int, device: str = "cpu") -> list[Timing]:
    """Return the latency of each model per image, fused, in torch; arguments as for `cost_rows`."""
    fused = [copy.deepcopy(model).fuse().to(device).requires_grad_(False) for model in models]

    def call(model: DetectionModel) -> Callable[[], object]:
        image = torch.rand(1, model.channels, *size).to(device)
        return lambda: model(image)

    wait = torch.cuda.synchronize if str(device).startswith("cuda") else lambda: None
    with torch.inference_mode():
        return time_calls([call(model) for model in fused], repeats, wait=wait)


def _time_onnx(models, size, repeats) -> list[Timing | None]:
    """Latency of the exported files; None for a model that cannot be exported, with a warning."""
    from graftdet.models.backends import ExportOptions
    from graftdet.models.backends.onnx import export, load
    from graftdet.models.backends.receipt.verify import noise_images

    def call(session):
        images = noise_images(1, size, session.channels)
        return lambda: session.predictions(images)

    sessions = []
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        for index, model in enumerate(models):
            try:
                sessions.append(load(export(model, Path(folder) / f"{index}.onnx", ExportOptions(size=size))))
            except UserError as error:
                logger.warning("%s: %s", model.spec.label, error)
                sessions.append(None)
        times = iter(time_calls([call(session) for session in sessions if session is not None], repeats))
        return [None if session is None else next(times) for session in sessions]


def row_table(models: list[DetectionModel], size: tuple[int, int], width: int | None = None) -> str:
    """Return a table of the rows of all models, aligned; lines whose rows differ are marked with `*`.

    Args:
        models: Are not changed.
        size: (height, width) of the image.
        width: Largest number of characters per line, see `wrapped_table`.
    """
    table = []
    for line in align_rows([summarize(model, size) for model in models]):
        table.append(["*" if rows_differ(line) else "", *("" if row is None else _describe(row) for row in line)])
    return wrapped_table(["", *labels_of(models)], table, width=width)


def align_rows(columns: list[list[RowSummary]]) -> list[list[RowSummary | None]]:
    """Return lines with a row of each model, None where a model has no such row; `columns` are the rows per model."""
    lines: list[list[RowSummary | None]] = [[row] for row in columns[0]]
    for number, rows in enumerate(columns[1:], 1):
        lines = _merge(lines, rows, number)
    return lines


def rows_differ(line: list[RowSummary | None]) -> bool:
    """Whether the rows of a line differ in module, arguments, repeats, output or parameters, or one is missing."""
    return any(row is None or line[0] is None or _facts(row) != _facts(line[0]) for row in line)


def _merge(lines: list[list[RowSummary | None]], rows: list[RowSummary], width: int) -> list[list[RowSummary | None]]:
    """Add the rows of one more model to `lines` of `width` columns, aligned with the first column."""
    first = [line[0] for line in lines]
    known = [i for i, row in enumerate(first) if row is not None]
    pairs = align(len(known), len(rows), lambda i, j: _similarity(first[known[i]], rows[j]))
    line_of = {j: known[i] for i, j in pairs.items()}
    merged, done = [], 0
    for j, row in enumerate(rows):
        if j in line_of:
            merged += [[*line, None] for line in lines[done : line_of[j]]] + [[*lines[line_of[j]], row]]
            done = line_of[j] + 1
        else:
            merged.append([None] * width + [row])
    return merged + [[*line, None] for line in lines[done:]]


def labels_of(models: list[DetectionModel]) -> list[str]:
    """Return a header per model: its file name, with the folder if several have that name; long ones are shortened."""
    paths = [Path(model.spec.label) for model in models]
    names = [path.name if all(p == path for p in paths if p.name == path.name) else str(path) for path in paths]
    return [
        name if len(name) <= MAX_LABEL else f"{name[: MAX_LABEL // 2]}\u2026{name[1 - MAX_LABEL // 2 :]}"
        for name in names
    ]


def _facts(row: RowSummary) -> tuple:
    return row.module, row.args, row.repeats, row.shapes, row.params


def _describe(row: RowSummary) -> str:
    shapes = " ".join("x".join(map(str, shape)) for shape in row.shapes[:1]) + (" ..." if len(row.shapes) > 1 else "")
    return f"{row.index:2d} {row.module}{row.repeats} {shapes} {row.params:,}"


def _similarity(one: RowSummary, other: RowSummary) -> float:
    """Highest for equal rows, then for rows of the same module, then for rows with outputs of the same shape."""
    if _facts(one) == _facts(other):
        return 3.0
    return 2.0 * (one.module == other.module) + 0.8 * (one.shapes == other.shapes) + 0.1 * (one.index == other.index)
