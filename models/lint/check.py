"""`python -m models check FILE.yaml`: every mistake in a model YAML, each in one line with its row, without training.

Exit status 0: ok; 1: nothing but warnings, the model can be built; 2: mistakes.
"""

import sys

from graftdet.models.analysis.summary import summarize, totals
from graftdet.models.blocks.activations import parse_default
from graftdet.models.graph.detection_model import build_model
from graftdet.models.lint.graph_warnings import advise
from graftdet.models.lint.root_cause import find_causes
from graftdet.models.lint.stale_indices import explain_shift, explain_unused
from graftdet.models.spec.model_spec import ModelSpec
from graftdet.models.spec.row import row_in
from graftdet.utils.errors import UserError

_ANY_NC = 80  # to go on with where the file names none


def find_mistakes(cfg, nc: int | None = None) -> tuple[list[str], list[str]]:
    """Return all mistakes and all warnings of a model YAML, each one line that starts with file and row.

    A row that is wrong is given a likely meaning (the nearest known word, its arguments without the wrong ones, or an
    output that fits the rows after it), so that the rows after it are checked too and the mistake is told once.
    """
    problems: list[str] = []
    try:
        spec = ModelSpec.read(cfg, problems.append)
    except UserError as error:
        return _in_order([*problems, str(error)]), []
    if spec.activation is not None:
        try:
            parse_default(spec.activation, spec.where)
        except UserError as error:
            problems.append(str(error))
            spec = ModelSpec(**{**vars(spec), "activation": None})
    if spec.nc is None and nc is None and not any(problem.startswith(f"{spec.where}, nc") for problem in problems):
        problems.append(f"{spec.where}: 'nc', the number of classes, is missing")
    spec = spec.with_classes(nc or spec.nc or _ANY_NC)
    if not spec.rows:
        return _in_order(problems), []
    torn = {row_in(line) for line in problems if "not valid YAML" in line}
    problems = [line for line in problems if "not valid YAML" in line or row_in(line) < 0 or row_in(line) not in torn]
    told = _told_rows(problems)
    walk, lines = find_causes(spec, told)
    misplaced = {problem.row for problem in walk.problems if problem.kind == "place"}
    problems = [line for line in problems if not (row_in(line) in misplaced and ": 'from' " in line)]
    problems = explain_shift(spec, problems + lines)
    if not problems:
        try:
            build_model(spec)
        except UserError as error:
            problems.append(str(error))
    warnings = advise(spec, walk, problems)
    if not problems and any("is read by no row" in line for line in warnings):
        warnings = explain_unused(spec, warnings)
    return _in_order(problems), _in_order(walk.warnings + warnings)


def _told_rows(problems: list[str]) -> dict[int, str]:
    """Rows whose mistakes are told already (as `Walk` takes them); a wrong number or name does not hide others."""
    told = {}
    for line in problems:
        if row_in(line) >= 0 and not any(text in line for text in (": number must", " name must", ": the name '")):
            told[row_in(line)] = "from" if ": 'from' " in line else "all"
    return told


def _in_order(lines: list[str]) -> list[str]:
    """Without repetitions, those of the file as a whole first, then row by row."""
    return sorted(dict.fromkeys(lines), key=row_in)


def add_arguments(parser) -> None:
    parser.add_argument("cfg", metavar="FILE.yaml", nargs="+", help="model YAMLs, paths or bare names")
    parser.add_argument("--nc", type=int, help="number of classes instead of the YAML's")


def run(args) -> None:
    status = 0
    for cfg in args.cfg:
        problems, warnings = find_mistakes(cfg, args.nc)
        for line in problems:
            print(f"error: {' '.join(line.split())}", file=sys.stderr)
        for line in warnings:
            print(f"warning: {' '.join(line.split())}", file=sys.stderr)
        status = max(status, 2 if problems else 1 if warnings else 0)
        if not problems:
            print(f"{cfg}: {'ok' if not warnings else 'can be built'}, {_totals(build_model(cfg, args.nc))}")
    if status:
        sys.exit(status)


def _totals(model) -> str:
    t = totals(summarize(model))
    return (
        f"{len(model.spec.rows)} rows, {t['params']:,} parameters, {t['macs'] / 1e9:.2f} GMACs = {t['flops'] / 1e9:.2f} "
        f"GFLOPs at 640x640, strides {', '.join(f'{s:g}' for s in model.head.strides)}"
    )
