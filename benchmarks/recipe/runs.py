"""`python -m benchmarks.recipe.runs NAME --data D --cfg C --epochs E ... [-- flags of train.py]`: one row of a table.

Trains once for each seed, measures the best epoch on the test split (where there is none, on val) and prints the mean
and deviation over the seeds. Runs that are there already are not repeated.
"""

import argparse
import csv
import json
import statistics
import subprocess
import sys
from pathlib import Path

from data.config import load_data_config
from utils import cli

from ..table import ROOT

COLUMNS = ("what", "seeds", "best val AP50-95", "at epoch", "last epoch", "AP50-95", "AP50", "minutes")


def run(args: argparse.Namespace, flags: list[str], seed: int) -> dict[str, float]:
    """Train and measure one seed, or read what an earlier call left; return its figures by column."""
    name = f"{args.name}-seed{seed}"
    split = "test" if load_data_config(args.data).has("test") else "val"
    metrics = args.project / f"{name}-{split}" / "metrics.json"
    common = ("--data", args.data, "--img", str(args.img), "--project", str(args.project), "--exist-ok")
    if not metrics.is_file():
        training = ("--cfg", args.cfg, "--hyp", args.hyp, "--epochs", str(args.epochs), "--batch-size", str(args.batch_size))
        _python("train.py", *common, *training, "--name", name, "--seed", str(seed), *flags)
        best = args.project / name / "weights" / "best.pt"
        _python("val.py", *common, "--weights", str(best), "--split", split, "--name", metrics.parent.name)
    with open(args.project / name / "results.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    scores = [float(row["val/AP50-95"]) for row in rows]
    measured = json.loads(metrics.read_text(encoding="utf-8"))
    figures = (max(scores), scores.index(max(scores)) + 1, scores[-1], measured["AP50-95"], measured["AP50"])
    return dict(zip(COLUMNS[2:], (*figures, float(rows[-1]["time"]) / 60), strict=True))


def _python(*command: str) -> None:
    status = subprocess.run([sys.executable, *command], cwd=ROOT, stdout=sys.stderr).returncode
    if status:
        sys.exit(status)


def row(name: str, results: list[dict[str, float]]) -> str:
    """One line of a Markdown table: mean and deviation over seeds."""
    cells = [name, str(len(results))]
    for column in COLUMNS[2:]:
        values = [result[column] for result in results]
        digits = 3 if "AP" in column or column == "last epoch" else 0
        spread = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 and digits else ""
        cells.append(f"{statistics.mean(values):.{digits}f}{spread}")
    return f"| {' | '.join(cells)} |"


def main() -> None:
    own, flags = sys.argv[1:], []
    if "--" in own:
        own, flags = own[: own.index("--")], own[own.index("--") + 1 :]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.recipe.runs", description=__doc__.split(":", 1)[1])
    parser.add_argument("name", help="of the row and, with the seed, of its folders")
    parser.add_argument("--data", default="bccd.yaml")
    parser.add_argument("--cfg", default="graft-n.yaml")
    parser.add_argument("--hyp", default="default.yaml")
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--img", type=int, default=320)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--project", type=Path, default=ROOT / "runs" / "recipe")
    args = parser.parse_args(own)
    args.project = args.project.absolute()
    results = [run(args, flags, seed) for seed in args.seeds]
    print(f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}\n{row(args.name, results)}")


if __name__ == "__main__":
    cli.run(main)
