"""`python -m models check FILE.yaml`: report all problems in a model YAML, with line and row, without training.

Exit status 0: no problems; 1: warnings only, the model can be built; 2: errors.
"""

import argparse
import json
import sys
from dataclasses import asdict

from graftdet.models.arithmetic.row_costs import level_strides, row_costs
from graftdet.models.spec.model_spec import ModelSpec
from graftdet.models.spec.problems import Problem
from graftdet.utils.cli.options import TARGETS
from graftdet.utils.errors import UserError
from graftdet.utils.text import counted


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command to its parser."""
    parser.add_argument("cfg", metavar="FILE.yaml", nargs="*", help="model YAMLs, paths or bare names")
    parser.add_argument("--nc", type=int, help="number of classes instead of the YAML's")
    parser.add_argument(
        "--format",
        choices=("text", "json", "github"),
        default="text",
        help="output format: text for terminals and editors, json, github for annotations in GitHub Actions",
    )
    about = "also report what these targets of deployment cannot take: "
    parser.add_argument(
        "--target", nargs="+", choices=TARGETS, default=[], metavar="NAME", help=about + ", ".join(TARGETS)
    )
    parser.add_argument("--explain", metavar="RULE", help="describe a rule, such as unknown-module, with an example")


def run(args: argparse.Namespace) -> None:
    """Check the files of the command line and exit with 1 for warnings, 2 for errors."""
    from graftdet.models.lint.check import check_model
    from graftdet.models.lint.explanations import explain

    if args.explain:
        print(explain(args.explain))
        return
    if not args.cfg:
        raise UserError("check: expected a FILE.yaml, or --explain RULE")
    found: list[Problem] = []
    for cfg in args.cfg:
        problems = check_model(cfg, args.nc, args.target)
        found += problems
        for problem in problems:
            if args.format == "text":
                print(problem, file=sys.stderr)
            elif args.format == "github":
                print(problem.github())
        if args.format == "text" and not any(problem.severity == "error" for problem in problems):
            print(f"{cfg}: {'can be built' if problems else 'ok'}, {_totals(cfg, args.nc)}")
    if args.format == "json":
        print(json.dumps([asdict(problem) for problem in found], indent=2, ensure_ascii=False))
    if found:
        sys.exit(2 if any(problem.severity == "error" for problem in found) else 1)


def model_totals(spec: ModelSpec) -> tuple[int, int, list[float]]:
    """Return the number of parameters, the multiply-adds at 640x640, and the strides of a model without problems.

    torch is imported only for models with rows that the arithmetic does not know.
    """
    return _totals_by_arithmetic(spec) or _totals_by_torch(spec)


def _totals(cfg: str, nc: int | None) -> str:
    spec = ModelSpec.read(cfg).with_classes(nc)
    params, macs, strides = model_totals(spec)
    return (
        f"{counted(len(spec.rows), 'row')}, {params:,} parameters, {macs / 1e9:.2f} GMACs = "
        f"{2 * macs / 1e9:.2f} GFLOPs at 640x640, strides {', '.join(f'{stride:g}' for stride in strides)}"
    )


def _totals_by_arithmetic(spec: ModelSpec) -> tuple[int, int, list[float]] | None:
    costs = row_costs(spec)
    strides = level_strides(spec, costs)
    if strides is None:
        return None
    known = [cost for cost in costs if cost is not None]
    return sum(cost.params for cost in known), sum(cost.macs for cost in known), strides


def _totals_by_torch(spec: ModelSpec) -> tuple[int, int, list[float]]:
    from graftdet.models.analysis.summary import summarize, totals
    from graftdet.models.graph.detection_model import DetectionModel

    model = DetectionModel(spec)
    found = totals(summarize(model))
    return found["params"], found["macs"], model.head.strides
