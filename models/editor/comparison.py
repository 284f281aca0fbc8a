"""Two texts of model YAMLs side by side: totals, rows that differ, and on request their latency."""

import json
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from graftdet.models.analysis.row_summary import RowSummary, totals
from graftdet.models.editor.model_report import read_model
from graftdet.utils.errors import UserError

SECONDS = 300  # for the measurement of latencies


def compare_texts(text: str, file: str, other: str, other_file: str) -> dict[str, Any]:
    """Return the totals of both models, and their rows aligned, as JSON values.

    Args:
        text: the YAML in the page.
        file: its name.
        other: the YAML to compare with.
        other_file: its name.

    Returns:
        `models`: name, rows, params, gflops and number of errors of both, the other one first. `lines`: pairs of
        rows, None where a model has no such row, with `differs`.
    """
    from graftdet.models.analysis.compare import align_rows, rows_differ

    models = [read_model(other, other_file), read_model(text, file)]
    named = zip((other_file, file), models, strict=True)
    lines = align_rows([model.rows for model in models]) if all(model.rows for model in models) else []
    return {
        "models": [{"name": name, **_totals(model.rows), "errors": _errors(model)} for name, model in named],
        "lines": [{"rows": list(map(_row, line)), "differs": rows_differ(line)} for line in lines],
    }


def measure_latency(texts: Sequence[tuple[str, str]], plugins: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Time models in a process of its own.

    Args:
        texts: YAML and file name of each.
        plugins: files and packages of `--plugins`.

    Returns:
        Milliseconds per image of each: median and quartiles.

    Raises:
        UserError: a model cannot be built, or the measurement takes too long.
    """
    command = [sys.executable, "-P", "-m", "graftdet.models.editor.latency", *plugins]
    try:
        done = subprocess.run(command, input=json.dumps(texts), capture_output=True, text=True, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        raise UserError(f"the measurement was stopped after {SECONDS} seconds") from None
    try:
        answer = json.loads(done.stdout)
    except ValueError:
        lines = done.stderr.strip().splitlines() or ["no output"]
        raise UserError(f"the measurement failed: {lines[-1]}") from None
    if "error" in answer:
        raise UserError(answer["error"])
    return answer["latencies"]


def _totals(rows: list[RowSummary]) -> dict[str, Any]:
    sums = totals(rows)
    return {"rows": len(rows), "params": sums["params"], "gflops": sums["flops"] / 1e9}


def _errors(model: Any) -> int:
    return sum(problem.severity == "error" for problem in model.problems)


def _row(row: RowSummary | None) -> dict[str, Any] | None:
    if row is None:
        return None
    about = {"index": row.index, "module": row.module, "repeats": row.repeats, "args": row.args}
    return {**about, "shapes": list(row.shapes), "params": row.params}
