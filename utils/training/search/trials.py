"""Hyperparameter search: `train.py --search RANGES.yaml` trains with one set of values after another.

Optuna (Akiba et al., 2019) chooses the values (tree-structured Parzen estimator, Bergstra et al., 2011) and stops
unpromising trials early (median rule of Golovin et al., Vizier, 2017, section 3.2). Several machines may share its
storage. Each trial is a process that runs train.py.
"""

import argparse
import contextlib
import logging
import os
import statistics
import subprocess
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from graftdet.utils.cli import ArgumentParser, at_least
from graftdet.utils.environment import script_command
from graftdet.utils.errors import UserError
from graftdet.utils.files import write_errors
from graftdet.utils.hyperparameters import load_hyperparameters
from graftdet.utils.progress import duration
from graftdet.utils.text import counted
from graftdet.utils.training.fine_tuning import DEFAULT_RECIPE
from graftdet.utils.training.flags import AUTO_RECIPE, AUTO_WEIGHTS, NO_WEIGHTS, hyperparameter_overrides
from graftdet.utils.training.results import read_column
from graftdet.utils.training.search.ranges import Range, load_ranges
from graftdet.utils.training.search.study import (
    check_same_search,
    count_finished,
    open_study,
    trial_table,
    trials_with_state,
    write_best,
)

logger = logging.getLogger(__name__)

GRACE_OF_TRIALS = 5.0  # seconds; less than what a command has after a signal
POLL_SECONDS = 0.5  # between two reads of a training's results
_FIRST_FAILURES = 3  # failed trials, without a successful one, that end a search
_SEARCH_FLAGS = {"search": None, "trials": 20, "study": "", "trial_seeds": 1}  # with their defaults


class _TrialFailed(Exception):
    """A training ended with an error."""


def add_search_flags(parser: argparse.ArgumentParser) -> None:
    """Add --search and the flags that belong to it. Flags that are not given are not attributes of the options."""
    group = parser.add_argument_group("search", "train many times to find the best hyperparameters; in PROJECT/NAME")

    def flag(*names: str, **settings: Any) -> None:
        group.add_argument(*names, default=argparse.SUPPRESS, **settings)

    flag(
        "--search",
        metavar="RANGES.yaml",
        help="ranges of hyperparameters, 'lr0: {low: 1e-4, high: 1e-2, log: true}' or 'mosaic: [0, 0.5, 1]'",
    )
    flag("--trials", type=at_least(1), help="number of trials, those of earlier calls included (default: 20)")
    flag(
        "--study",
        metavar="URL",
        help="storage of the trials, which several machines may share (default: PROJECT/NAME/study.db)",
    )
    flag("--trial-seeds", type=at_least(1), help="training runs per trial; their mean counts (default: 1)")


def search_requested(options: argparse.Namespace) -> bool:
    """Whether the options ask for a search instead of a training run.

    Raises:
        UserError: If flags of a search are given without --search, or the search runs under torchrun.
    """
    stray = [key for key in _SEARCH_FLAGS if key in options and "search" not in options]
    if stray:
        raise UserError(f"--{stray[0].replace('_', '-')}: needs --search RANGES.yaml, which is not given")
    if "search" in options and int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise UserError("--search: starts its training runs itself; run it without torchrun")
    return "search" in options


def search(options: argparse.Namespace, arguments: Sequence[str] | None = None, command: Sequence[str] = ()) -> None:
    """Run trials until `--trials` are finished, then report them, best first.

    PROJECT/NAME receives best.yaml, the best recipe so far, for `--hyp`, and a folder and a log per trial. An
    interrupted trial is repeated when the search is resumed; a failed one is reported and counts.

    Args:
        options: The options of train.py.
        arguments: The command line that they were parsed from; None for that of this process.
        command: What to run for each trial, before its flags; train.py by default.

    Raises:
        UserError: For invalid ranges, ranges of values that are also given as flags, a study that was started with
            other options, and if the first trials all fail.
    """
    optuna = _import_optuna()
    options = argparse.Namespace(**{**_SEARCH_FLAGS, **vars(options)})
    ranges = load_ranges(options.search)
    overrides = hyperparameter_overrides(options.optimizer, options.cos_lr, options.set)
    automatic = options.hyp == AUTO_RECIPE
    if automatic:  # the same base for all trials
        options.hyp = DEFAULT_RECIPE if options.weights in (AUTO_WEIGHTS, NO_WEIGHTS) else "finetune.yaml"
    recipe = load_hyperparameters(options.hyp, overrides)
    for key in (override.partition("=")[0] for override in overrides):
        if key in ranges:
            raise UserError(f"{options.search}: searches {key}, which is also given as a flag; remove one of them")
    folder = Path(options.project) / options.name
    with write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    search_parser = ArgumentParser(add_help=False)
    add_search_flags(search_parser)
    command = [*(command or script_command("train")), *search_parser.parse_known_args(arguments)[1]]
    command += ["--hyp", options.hyp] if automatic else []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study = open_study(optuna, options.study, options.name, folder, epochs=options.epochs, seed=options.seed)
        flags = {key: value for key, value in vars(options).items() if key not in set(_SEARCH_FLAGS) - {"trial_seeds"}}
        check_same_search(study, flags, recipe, ranges)
        trials = _Trials(
            optuna, study, command, folder, ranges, seed=options.seed, seeds=options.trial_seeds, epochs=options.epochs
        )
        try:
            trials.run_until(options.trials, lambda: write_best(study, recipe, folder / "best.yaml"))
        finally:
            logger.info(trial_table(study))
    if trials_with_state(study, "COMPLETE"):
        logger.info(f"best recipe: --hyp {folder / 'best.yaml'}")
    else:
        logger.info("no trial was completed")


class _Trials:
    """Runs the trials of a study, one after the other."""

    def __init__(
        self,
        optuna: Any,
        study: Any,
        command: list[str],
        folder: Path,
        ranges: dict[str, Range],
        *,
        seed: int,
        seeds: int,
        epochs: int,
    ):
        self.optuna, self.study, self.command, self.folder, self.ranges = optuna, study, command, folder, ranges
        self.seed, self.seeds, self.epochs = seed, seeds, epochs

    def run_until(self, trials: int, after_each: Callable[[], None]) -> None:
        """Run trials until `trials` are finished; call `after_each` after each."""
        failures = 0
        name, finished = self.study.study_name, count_finished(self.study)
        logger.info(f"study '{name}': {finished} of {counted(trials, 'trial')} finished, in {self.folder}")
        while count_finished(self.study) < trials:
            self.study.optimize(self._objective, n_trials=1, catch=(_TrialFailed,))
            failures += not trials_with_state(self.study, "COMPLETE", "PRUNED")
            after_each()
            if failures == _FIRST_FAILURES:
                raise UserError(f"the first {failures} trials failed; their logs are in {self.folder}")

    def _objective(self, trial: Any) -> float:
        values = {key: bounds.suggest(trial) for key, bounds in self.ranges.items()}
        overrides = [f"{key}={value}" for key, value in values.items()]
        start, scores = time.monotonic(), []

        def report(outcome: str) -> None:
            seconds = duration(time.monotonic() - start)
            logger.info(f"trial {trial.number}: {outcome}, {seconds}; {' '.join(overrides)}")

        try:
            for number in range(self.seeds):
                scores.append(self._train(trial, number, overrides))
        except _TrialFailed as error:
            trial.set_user_attr("error", str(error))
            report(f"failed ({error})")
            raise
        except self.optuna.TrialPruned:
            report("stopped early")
            raise
        except KeyboardInterrupt:
            self.study.enqueue_trial(values)
            raise
        report(f"AP50-95 {statistics.mean(scores):.4f}")
        return statistics.mean(scores)

    def _train(self, trial: Any, number: int, overrides: list[str]) -> float:
        """Return the best AP50-95 of a training run; report each epoch's. Raises `TrialPruned`, `_TrialFailed`."""
        name = f"trial{trial.number}" + (f"-seed{number}" if number else "")
        run, log = self.folder / name, self.folder / f"{name}.log"
        flags = ["--seed", self.seed + number, "--project", self.folder, "--name", name, "--exist-ok"]
        command = [*self.command, "--set", *overrides, *map(str, flags)]
        with write_errors(log), open(log, "wb") as file:
            (run / "results.csv").unlink(missing_ok=True)  # of another study
            process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)
        reported, running, rows = 0, True, []
        try:
            while running:
                _wait(process, POLL_SECONDS)
                running = process.poll() is None
                rows = read_column(run / "results.csv", "val/AP50-95")
                for epoch, value in rows[reported:]:
                    trial.report(value, number * self.epochs + epoch)
                reported = len(rows)
                if running and trial.should_prune():
                    raise self.optuna.TrialPruned
        finally:
            _terminate(process)
        if process.returncode or not rows:
            raise _TrialFailed(_last_line(log) or f"exit status {process.returncode}")
        return max(value for _, value in rows)


def _wait(process: subprocess.Popen, seconds: float) -> None:
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(seconds)


def _terminate(process: subprocess.Popen) -> None:
    """End a training run that is still running: by SIGTERM, after a few seconds by SIGKILL."""
    if process.poll() is None:
        process.terminate()
        _wait(process, GRACE_OF_TRIALS)
        process.kill()
        process.wait()


def _last_line(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return lines[-1].removeprefix("error: ") if lines else ""


def _import_optuna() -> Any:
    try:
        import optuna
    except ImportError:
        raise UserError("--search: needs Optuna, which is not installed: pip install 'optuna>=5'") from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna
