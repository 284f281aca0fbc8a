"""Training of several models over several seeds for `python -m models compare --train`."""

import json
import logging
import shlex
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from graftdet.utils.config import find_config, load_yaml
from graftdet.utils.environment import script_command
from graftdet.utils.errors import UserError
from graftdet.utils.tables import read_csv_table
from graftdet.utils.text import counted

METRICS = ("AP50-95", "AP50")
SHARED_FLAGS = {"--device": 1, "--workers": 1, "--single-cls": 0}  # of train.py that val.py needs, too -> values

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingPlan:
    """How models are trained.

    Attributes:
        data: Data YAML.
        epochs: Epochs of each training.
        seeds: Trainings per model, with seeds from 0.
        img: Longer side of images in pixels.
        plugins: Files of `--plugins`.
        flags: Further flags of train.py as one string; they may replace the others.
    """

    data: str
    epochs: int
    seeds: int
    img: int
    plugins: Sequence[str] = ()
    flags: str = ""

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that models are validated on: val, and test where the dataset has one."""
        return ("val", "test") if load_yaml(find_config(self.data, "data")).get("test") else ("val",)


@dataclass
class TrainedModel:
    """The trainings of one model.

    Attributes:
        cfg: Model YAML.
        folders: Folder of the run with each seed.
        scores: Metric such as "test/AP50-95" -> its value with each seed. On the validation split of the best epoch,
            on the test split of the weights of that epoch.
    """

    cfg: str
    folders: list[Path] = field(default_factory=list)
    scores: dict[str, list[float]] = field(default_factory=dict)

    def add(self, folder: Path, scores: dict[str, float]) -> None:
        """Add the training with one more seed."""
        self.folders.append(folder)
        for key, value in scores.items():
            self.scores.setdefault(key, []).append(value)


def train_all(
    cfgs: Sequence[str],
    plan: TrainingPlan,
    folder: Path,
    on_seed: Callable[[list[TrainedModel]], object] = lambda trained: None,
) -> list[TrainedModel]:
    """Train each model with each seed by `train.py`, one run after the other, from scratch unless the flags differ.

    Args:
        cfgs: Model YAMLs.
        plan: How they are trained.
        folder: Folder of the runs.
        on_seed: Called with the trainings so far when all models have been trained with one more seed.

    Raises:
        UserError: If a run fails.
    """
    trained, splits = [TrainedModel(cfg) for cfg in cfgs], plan.splits
    for seed in range(plan.seeds):  # outer loop: when interrupted, all models have been trained equally often
        for number, model in enumerate(trained):
            name = f"{number}-{Path(model.cfg).stem}-seed{seed}"
            if status := _run(_train_command(model.cfg, seed, folder, name, plan)):
                raise UserError(f"{model.cfg}: training with seed {seed} ended with exit status {status}")
            scores = best_epoch(folder / name / "results.csv")
            if "test" in splits:
                scores |= _validate_on_test(folder, name, plan)
            model.add(folder / name, scores)
        on_seed(trained)
    return trained


def _run(command: Sequence[str]) -> int:
    """Run a command and return its exit status; its output goes to standard error, away from the tables."""
    print(shlex.join(command), file=sys.stderr, flush=True)
    return subprocess.run(command, stdout=sys.stderr).returncode


def _train_command(cfg: str, seed: int, project: Path, name: str, plan: TrainingPlan) -> list[str]:
    """The command line of one training."""
    flags = {"cfg": cfg, "data": plan.data, "epochs": plan.epochs, "seed": seed, "project": project, "name": name}
    command = [*script_command("train"), "--exist-ok", "--weights", "none", "--img", str(plan.img)]
    for flag, value in flags.items():
        command += [f"--{flag}", str(value)]
    return [*command, *_plugins(plan), *shlex.split(plan.flags)]


def _test_command(project: Path, name: str, plan: TrainingPlan) -> list[str]:
    """The command line of the validation of a training's best weights on the test split."""
    flags = {"data": plan.data, "split": "test", "img": plan.img, "project": project, "name": f"{name}-test"}
    command = [*script_command("val"), "--exist-ok", "--plots", "none"]
    command += ["--weights", str(project / name / "weights" / "best.pt")]
    for flag, value in flags.items():
        command += [f"--{flag}", str(value)]
    given = shlex.split(plan.flags)
    for index, flag in enumerate(given):
        if flag in SHARED_FLAGS:
            command += given[index : index + 1 + SHARED_FLAGS[flag]]
    return [*command, *_plugins(plan)]


def _plugins(plan: TrainingPlan) -> list[str]:
    return ["--plugins", *plan.plugins] if plan.plugins else []


def best_epoch(path: Path) -> dict[str, float]:
    """Return the metrics "val/..." of the epoch with the best AP50-95 in a results.csv.

    Raises:
        UserError: If the file has no such column or no validated epoch.
    """
    keys = [f"val/{metric}" for metric in METRICS]
    try:
        rows = [row for row in read_csv_table(path)[1] if row.get(keys[0])]
        best = max(rows, key=lambda row: float(row[keys[0]]))
        return {key: float(best[key]) for key in keys}
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{path}: expected a table with {keys[0]} ({type(error).__name__})") from None


def _validate_on_test(folder: Path, name: str, plan: TrainingPlan) -> dict[str, float]:
    """The metrics "test/..." of a training's best weights; none, with a warning, where the split cannot be used."""
    if status := _run(_test_command(folder, name, plan)):
        logger.warning("%s: no AP on the test split, val.py ended with exit status %d", name, status)
        return {}
    metrics = json.loads((folder / f"{name}-test" / "metrics.json").read_text(encoding="utf-8"))
    return {f"test/{metric}": float(metrics[metric]) for metric in METRICS}


def metrics_of_all(trained: Sequence[TrainedModel]) -> list[str]:
    """The metrics that every training has, in their order."""
    runs = len(trained[0].folders)
    return [key for key in trained[0].scores if all(len(model.scores.get(key, ())) == runs for model in trained)]


def score_rows(trained: Sequence[TrainedModel], plan: TrainingPlan) -> list[list[str]]:
    """Return rows of a table: a label, and per model mean and standard deviation over the seeds."""
    seeds = counted(len(trained[0].folders), "seed")
    about = {"val": f"best of {counted(plan.epochs, 'epoch')}, {seeds}", "test": f"weights of that epoch, {seeds}"}
    rows = []
    for key in metrics_of_all(trained):
        split, metric = key.split("/")
        rows.append([f"{metric} {split}, {about[split]}", *(mean_and_deviation(one.scores[key]) for one in trained)])
    return rows


def mean_and_deviation(values: Sequence[float]) -> str:
    """Return mean and sample standard deviation (n - 1) as text: "0.4120 +- 0.0060"."""
    text = f"{statistics.mean(values):.4f}"
    return f"{text} +- {statistics.stdev(values):.4f}" if len(values) > 1 else text
