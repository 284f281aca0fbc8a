"""Train over seeds, add finished runs to benchmarks/results, print them as a table.

python -m benchmarks.recipe.runs train NAME --data D --cfg C --epochs E ... [-- options of train.py]
python -m benchmarks.recipe.runs add runs/train/exp --name NAME [--metrics runs/val/exp/metrics.json --split test]
python -m benchmarks.recipe.runs show ['bccd-*-100'] [--target 0.479]
python -m benchmarks.recipe.runs plot OUT.png 'from scratch=bccd-graft-n-30' ... [--title TEXT]
"""

import argparse
import fnmatch
import subprocess
import sys
from pathlib import Path

from graftdet.data.dataset_config import load_data_config
from graftdet.utils import cli
from graftdet.utils.errors import UserError

from ..table import ROOT, machine
from .plot import plot_curves
from .results import RESULTS, RunRecord, add_run, markdown, read_curves, read_run_folder, read_runs, with_evaluation


def train_seed(args: argparse.Namespace, options: list[str], seed: int) -> RunRecord:
    """Train one seed, evaluate its best epoch on the test split (without one: val), add it to the tables.

    A run that the tables have is returned as it is. A finished run folder is not trained again.
    """
    name = f"{args.name}-seed{seed}"
    known = {record.run: record for record in read_runs(args.results)}
    if name in known:
        return known[name]
    split = "test" if load_data_config(args.data).has("test") else "val"
    metrics = args.project / f"{name}-{split}" / "metrics.json"
    common = ("--data", args.data, "--img", str(args.img), "--project", str(args.project), "--exist-ok")
    if not metrics.is_file():
        training = ("--cfg", args.cfg, "--hyp", args.hyp, "--epochs", str(args.epochs))
        batch = ("--batch-size", str(args.batch_size), "--weights", "none")
        _run_script("train.py", *common, *training, *batch, "--name", name, "--seed", str(seed), *options)
        best = args.project / name / "weights" / "best.pt"
        _run_script("val.py", *common, "--weights", str(best), "--split", split, "--name", metrics.parent.name)
    record, curve = read_run_folder(args.project / name, args.name, machine=args.machine, note=args.note)
    record = with_evaluation(record, metrics, split)
    add_run(record, curve, args.results)
    return record


def add_folder(args: argparse.Namespace) -> RunRecord:
    """Add the run folder of the command line to the tables."""
    record, curve = read_run_folder(args.folder, args.name or args.folder.name, machine=args.machine, note=args.note)
    if args.metrics:
        record = with_evaluation(record, args.metrics, args.split)
    add_run(record, curve, args.results)
    return record


def plot_groups(args: argparse.Namespace) -> None:
    """Plot the groups of the command line."""
    runs, groups = read_runs(args.results), []
    for entry in args.groups:
        legend, _, name = entry.rpartition("=")
        records = [run for run in runs if run.group == name]
        if not records:
            raise UserError(f"{args.results / 'runs.csv'}: no run is named '{name}'")
        groups.append((legend or name, records))
    plot_curves(groups, read_curves(args.results), args.output, args.title)
    print(args.output)


def _run_script(*command: str) -> None:
    status = subprocess.run([sys.executable, *command], cwd=ROOT, stdout=sys.stderr).returncode
    if status:
        sys.exit(status)


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the commands."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.recipe.runs", description=__doc__.split("\n", 1)[0])
    commands = parser.add_subparsers(dest="command", required=True)
    train = commands.add_parser("train", help="train over seeds and add the runs; options of train.py follow --")
    train.add_argument("name", help="name of the runs, without the seed")
    train.add_argument("--data", default="bccd.yaml")
    train.add_argument("--cfg", default="graft-n.yaml")
    train.add_argument("--hyp", default="auto")
    train.add_argument("--epochs", type=int, default=100)
    train.add_argument("--img", type=int, default=320)
    train.add_argument("--batch-size", type=int, default=16)
    train.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    train.add_argument("--project", type=Path, default=ROOT / "runs" / "recipe")
    add = commands.add_parser("add", help="add the folder of a finished run")
    add.add_argument("folder", type=Path, help="folder that train.py has written")
    add.add_argument("--name", help="name of the run, without the seed (default: the folder's)")
    add.add_argument("--metrics", type=Path, help="metrics.json that val.py has written for the best weights")
    add.add_argument("--split", default="test", help="split that --metrics was computed on")
    show = commands.add_parser("show", help="print runs as a Markdown table, one row per name")
    show.add_argument("pattern", nargs="?", default="*", help="names without the seed; may contain * and ?")
    show.add_argument("--target", type=float, help="add the first epoch whose validation AP reaches this value")
    plot = commands.add_parser("plot", help="plot validation AP per epoch, mean over the seeds")
    plot.add_argument("output", type=Path, help="image file to write")
    plot.add_argument("groups", nargs="+", metavar="LEGEND=NAME", help="legend and name (no seed) of each line")
    plot.add_argument("--title", default="", help="text above the chart")
    for command in (train, add):
        command.add_argument("--machine", default=machine().split(",")[0], help="machine of the training")
        command.add_argument("--note", default="", help="anything else a reader must know")
    for command in (train, add, show, plot):
        command.add_argument("--results", type=Path, default=RESULTS, help="folder of runs.csv and curves.csv")
    return parser


def main(argv: list[str] | None = None) -> None:
    """Run one of the commands train, add and show."""
    own, options = list(sys.argv[1:] if argv is None else argv), []
    if "--" in own:
        own, options = own[: own.index("--")], own[own.index("--") + 1 :]
    args = make_parser().parse_args(own)
    if options and args.command != "train":
        raise UserError(f"{args.command}: options after -- are for the command train")
    if args.command == "plot":
        plot_groups(args)
        return
    target = None
    if args.command == "train":
        args.project = args.project.absolute()
        records = [train_seed(args, options, seed) for seed in args.seeds]
    elif args.command == "add":
        records = [add_folder(args)]
    else:
        records = [run for run in read_runs(args.results) if fnmatch.fnmatch(run.group, args.pattern)]
        target = args.target
        if not records:
            raise UserError(f"{args.results / 'runs.csv'}: no run matches '{args.pattern}'")
    print(markdown(records, read_curves(args.results) if target is not None else {}, target))


if __name__ == "__main__":
    cli.run(main)
