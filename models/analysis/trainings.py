"""Training of several models over several seeds for `python -m models compare --train`."""

import argparse
import shlex
import statistics
import subprocess
import sys
from pathlib import Path

from graftdet.utils.environment import train_command
from graftdet.utils.errors import UserError
from graftdet.utils.files import new_run_folder
from graftdet.utils.tables import read_csv_table

METRICS = ("val/AP50-95", "val/AP50")  # columns of results.csv


def train_all(cfgs: list[str], args: argparse.Namespace) -> list[list[str]]:
    """Train each model with each seed by `train.py`, one run after the other, from scratch unless `train_args` differs.

    Args:
        cfgs: Model YAMLs.
        args: The options `train` (data YAML), `epochs`, `seeds`, `img`, `plugins`, `train_args` and `project`.

    Returns:
        One row per metric: a label and, per model, mean and standard deviation over the seeds.

    Raises:
        UserError: If a run fails.
    """
    project = new_run_folder(args.project, "exp")
    scores: list[dict[str, list[float]]] = [{name: [] for name in METRICS} for _ in cfgs]
    for seed in range(args.seeds):  # outer loop: when interrupted, all models have been trained equally often
        for number, cfg in enumerate(cfgs):
            name = f"{number}-{Path(cfg).stem}-seed{seed}"
            command = _command(cfg, seed, project, name, args)
            print(f"{name}: {shlex.join(command)}", file=sys.stderr, flush=True)
            status = subprocess.run(command, stdout=sys.stderr).returncode
            if status:
                raise UserError(f"{cfg}: training with seed {seed} ended with exit status {status}")
            for key, value in best_epoch(project / name / "results.csv").items():
                scores[number][key].append(value)
    label = f"of the best of {args.epochs} epochs, {args.seeds} seeds"
    return [
        [f"{key.removeprefix('val/')} {label}", *(mean_and_deviation(score[key]) for score in scores)]
        for key in METRICS
    ]


def _command(cfg: str, seed: int, project: Path, name: str, args: argparse.Namespace) -> list[str]:
    """The command line of one training."""
    flags = {"cfg": cfg, "data": args.train, "epochs": args.epochs, "seed": seed, "project": project, "name": name}
    command = [*train_command(), "--exist-ok", "--weights", "none", "--img", str(args.img[0])]
    for flag, value in flags.items():
        command += [f"--{flag}", str(value)]
    return [*command, *(["--plugins", *args.plugins] if args.plugins else []), *shlex.split(args.train_args)]


def best_epoch(path: Path) -> dict[str, float]:
    """Return the `METRICS` of the epoch with the best AP50-95 in a results.csv.

    Raises:
        UserError: If the file has no such column or no validated epoch.
    """
    try:
        rows = [row for row in read_csv_table(path)[1] if row.get(METRICS[0])]
        best = max(rows, key=lambda row: float(row[METRICS[0]]))
        return {key: float(best[key]) for key in METRICS}
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{path}: expected a table with {METRICS[0]} ({type(error).__name__})") from None


def mean_and_deviation(values: list[float]) -> str:
    """Return mean and sample standard deviation (n - 1) as text: "0.4120 +- 0.0060"."""
    text = f"{statistics.mean(values):.4f}"
    return f"{text} +- {statistics.stdev(values):.4f}" if len(values) > 1 else text
