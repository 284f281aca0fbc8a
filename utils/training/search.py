"""Search for a recipe: `train.py --search RANGES.yaml` trains with one set of hyperparameters after another.

Which to try next and which trial to stop early is decided by Optuna (Akiba et al., 2019: the tree-structured Parzen
estimator of Bergstra et al., 2011, and the median rule of Golovin et al., Vizier, 2017, section 3.2), whose storage
several machines may share. Each trial is a run of train.py of its own.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import yaml
from graftdet.utils.cli import ArgumentParser, at_least
from graftdet.utils.config import ROOT
from graftdet.utils.errors import UserError, first_line
from graftdet.utils.files import write_errors
from graftdet.utils.hyperparameters import Hyperparameters, load_hyperparameters
from graftdet.utils.progress import duration
from graftdet.utils.training.options import chosen_values
from graftdet.utils.training.results import read_measures
from graftdet.utils.training.search_space import Range, load_ranges

HEARTBEAT, STALE = 30, 120  # seconds between signs of life of a trial, and without one until it counts as dead
POLL = 0.5  # seconds between looks at a training's results
_ATTEMPTS = 4  # to open a study that another machine is just making
_FIRST_FAILURES = 3  # of a search of which nothing has worked yet: then it is no matter of luck
_OWN = {"search": None, "trials": 20, "study": "", "trial_seeds": 1}
# What may differ between the machines of a study, and what its recipe and ranges say.
_FREE = {*_OWN, "device", "workers", "cache", "project", "name", "exist_ok", "plugins", "resume", "folder"} - {
    "trial_seeds"
}
_IN_RECIPE = {"hyp", "set", "optimizer", "cos_lr"}


class _Failed(Exception):
    """A training that ended with an error."""


def add_search_flags(parser: argparse.ArgumentParser) -> None:
    """--search and what belongs to it. Flags that are not given are no attributes of the parsed options."""
    group = parser.add_argument_group("search", "train again and again for the best hyperparameters, in PROJECT/NAME")

    def flag(*words, **settings):
        group.add_argument(*words, default=argparse.SUPPRESS, **settings)

    flag(
        "--search",
        metavar="RANGES.yaml",
        help="what to try, 'lr0: {low: 1e-4, high: 1e-2, log: true}' or 'mosaic: [0, 0.5, 1]'",
    )
    flag("--trials", type=at_least(1), help="how many, those of earlier calls counted (default: 20)")
    flag(
        "--study",
        metavar="URL",
        help="where trials are kept, for machines that share them (default: PROJECT/NAME/study.db)",
    )
    flag("--trial-seeds", type=at_least(1), help="trainings of each trial, whose mean counts (default: 1)")


def search_asked(options: argparse.Namespace) -> bool:
    """Whether to search instead of to train. Raises `UserError` for flags of a search without one."""
    lone = [key for key in _OWN if key in options and "search" not in options]
    if lone:
        raise UserError(f"--{lone[0].replace('_', '-')}: belongs to --search RANGES.yaml, which is missing")
    if "search" in options and int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise UserError("--search: starts its trainings itself; call it without torchrun")
    return "search" in options


def search(options: argparse.Namespace, script: Path = ROOT / "train.py") -> None:
    """Run trials until there are as many as `--trials`, then print them, best first.

    PROJECT/NAME receives best.yaml, the recipe of the best trial so far, which `--hyp` takes, and a folder and a log a
    trial: `script` run with the flags of this call. A trial that is interrupted is tried again
    when the search goes on; one that fails is told and counts. Raises `UserError` for ranges that are none or of values that flags give, a study
    that was begun otherwise, and when the first trials all fail.
    """
    optuna = _optuna()
    options = argparse.Namespace(**{**_OWN, **vars(options)})
    ranges = load_ranges(options.search)
    recipe = load_hyperparameters(options.hyp, chosen_values(options))
    for key in (word.partition("=")[0] for word in chosen_values(options)):
        if key in ranges:
            raise UserError(f"{options.search}: searches {key}, which is given as a flag, too; leave one of them away")
    folder = Path(options.project) / options.name
    with write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    own = ArgumentParser(add_help=False)
    add_search_flags(own)
    command = [sys.executable, str(script), *own.parse_known_args()[1]]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study = _open_study(optuna, options, folder)
        _check_same(study, options, recipe, ranges)
        trials = _Trials(optuna, study, command, folder, ranges, options)
        try:
            trials.run_until(options.trials, lambda: _write_best(study, recipe, folder / "best.yaml"))
        finally:
            print(_table(study))
    print(
        f"best recipe: --hyp {folder / 'best.yaml'}" if _done(study, "COMPLETE") else "no trial was trained to its end"
    )


class _Trials:
    """Runs the trials of a study, one after the other."""

    def __init__(self, optuna, study, command: list[str], folder: Path, ranges: dict[str, Range], options):
        self.optuna, self.study, self.command, self.folder, self.ranges = optuna, study, command, folder, ranges
        self.seed, self.seeds, self.epochs = options.seed, options.trial_seeds, options.epochs

    def run_until(self, trials: int, after_each: Callable[[], None]) -> None:
        failures = 0
        print(
            f"study '{self.study.study_name}': {_finished(self.study)} of {trials} trials done, in {self.folder}",
            flush=True,
        )
        while _finished(self.study) < trials:
            self.study.optimize(self._objective, n_trials=1, catch=(_Failed,))
            failures += not _done(self.study, "COMPLETE", "PRUNED")
            after_each()
            if failures == _FIRST_FAILURES:
                raise UserError(f"the first {failures} trials failed; their logs are in {self.folder}")

    def _objective(self, trial) -> float:
        values = {key: span.suggest(trial) for key, span in self.ranges.items()}
        words = [f"{key}={value}" for key, value in values.items()]
        start, found = time.monotonic(), []
        try:
            for number in range(self.seeds):
                found.append(self._train(trial, number, words))
        except _Failed as error:
            trial.set_user_attr("error", str(error))
            self._tell(trial, words, f"failed ({error})", start)
            raise
        except self.optuna.TrialPruned:
            self._tell(trial, words, "stopped early", start)
            raise
        except KeyboardInterrupt:
            self.study.enqueue_trial(values)
            raise
        self._tell(trial, words, f"AP50-95 {statistics.mean(found):.4f}", start)
        return statistics.mean(found)

    def _tell(self, trial, words, outcome, start):
        print(f"trial {trial.number}: {outcome}, {duration(time.monotonic() - start)}; {' '.join(words)}", flush=True)

    def _train(self, trial, number: int, words: list[str]) -> float:
        """The best AP50-95 of a training; every epoch's is reported. Raises `TrialPruned` and `_Failed`."""
        name = f"trial{trial.number}" + (f"-seed{number}" if number else "")
        run, log = self.folder / name, self.folder / f"{name}.log"
        flags = ["--set", *words, "--seed", self.seed + number, "--project", self.folder, "--name", name, "--exist-ok"]
        with write_errors(log), open(log, "wb") as file:
            (run / "results.csv").unlink(missing_ok=True)  # of another study
            process = subprocess.Popen([*self.command, *map(str, flags)], stdout=file, stderr=subprocess.STDOUT)
        reported, running, rows = 0, True, []
        try:
            while running:
                _wait(process, POLL)
                running = process.poll() is None
                rows = read_measures(run / "results.csv", "val/AP50-95")
                for epoch, value in rows[reported:]:
                    trial.report(value, number * self.epochs + epoch)
                reported = len(rows)
                if running and trial.should_prune():
                    raise self.optuna.TrialPruned
        finally:
            _end(process)
        if process.returncode or not rows:
            raise _Failed(_last_line(log) or f"exit status {process.returncode}")
        return max(value for _, value in rows)


def _wait(process, seconds: float) -> None:
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        pass


def _end(process) -> None:
    """Let a training that goes on end, by force where asking does not help."""
    if process.poll() is None:
        process.terminate()
        _wait(process, 30)
        process.kill()
        process.wait()


def _last_line(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return lines[-1].removeprefix("error: ") if lines else ""


def _optuna():
    try:
        import optuna
    except ImportError:
        raise UserError("--search: needs Optuna, which is not installed: pip install 'optuna>=5'") from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


def _open_study(optuna, options, folder: Path):
    """The study called NAME in its storage."""
    url = options.study or f"sqlite:///{(folder / 'study.db').resolve().as_posix()}"
    pruner = optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=max(options.epochs // 5, 1))
    for attempt in range(_ATTEMPTS):
        try:
            return optuna.create_study(
                storage=_storage(optuna.storages, url), study_name=options.name, direction="maximize", load_if_exists=True,
                pruner=pruner, sampler=_sampler(optuna, options.seed),
            )  # fmt: skip
        except Exception as error:  # databases' drivers raise what they like
            made = any(word in str(error).lower() for word in ("already exists", "duplicate", "unique"))
            if not made or attempt + 1 == _ATTEMPTS:
                told = f"cannot be opened ({first_line(error)}); expected a URL such as sqlite:///study.db, or a file"
                raise UserError(f"--study: {told}") from None
            time.sleep(2 * POLL)  # another machine that begins now is making the same tables


def _storage(storages, url: str):
    """A database by its URL, or a file that machines with one file system share."""
    if "://" in url:
        again = storages.RetryHeartbeatStaleTrialCallback(max_retry=2)
        return storages.RDBStorage(
            url, heartbeat_interval=HEARTBEAT, grace_period=STALE, heartbeat_stale_trial_callback=again
        )
    files = storages.journal
    return files.JournalStorage(files.JournalFileBackend(url, lock_obj=files.JournalFileOpenLock(url)))


def _sampler(optuna, seed: int):
    """What a trial draws depends on the seed, its number and the trials before it: a search that goes on draws what it
    would have drawn, and machines that start together draw different values."""

    class Sampler(optuna.samplers.TPESampler):
        def before_trial(self, study, trial):
            super().__init__(seed=(seed * 1_000_003 + trial.number) % 2**32)
            super().before_trial(study, trial)

    return Sampler(seed=seed)


def _check_same(study, options, recipe: Hyperparameters, ranges: dict[str, Range]) -> None:
    """Trials of one study are comparable: raises `UserError` naming what differs from how it was begun."""
    flags = {key: value for key, value in vars(options).items() if key not in _FREE | _IN_RECIPE}
    now = {
        f"--{key.replace('_', '-')}": Path(value).name if isinstance(value, str) else value
        for key, value in flags.items()
    }
    now |= {key: value for key, value in recipe.as_dict().items() if key not in ranges}
    now |= {f"range of {key}": str(span) for key, span in ranges.items()}
    begun = study.user_attrs.get("begun")
    if begun is None:
        study.set_user_attr("begun", now)
        return
    for key in {**begun, **now}:
        if begun.get(key) != now.get(key):
            raise UserError(f"study '{study.study_name}': was begun with {key} {begun.get(key)}, now it is {now.get(key)}; "
                            "give a new search another --name")  # fmt: skip


def _done(study, *states: str) -> list:
    return [trial for trial in study.get_trials(deepcopy=False) if trial.state.name in states]


def _finished(study) -> int:
    """Trials that need no repetition: those that failed of themselves count, those that were interrupted do not."""
    return len(_done(study, "COMPLETE", "PRUNED")) + sum("error" in trial.user_attrs for trial in _done(study, "FAIL"))


def _write_best(study, recipe: Hyperparameters, path: Path) -> None:
    """Write the recipe of the best trial, whole."""
    if not _done(study, "COMPLETE"):
        return
    best = study.best_trial
    about = f"# trial {best.number} of study '{study.study_name}': AP50-95 {best.value:.4f}; searched were {', '.join(best.params)}\n"
    with write_errors(path):
        path.write_text(about + yaml.safe_dump({**recipe.as_dict(), **best.params}, sort_keys=False), encoding="utf-8")


def _table(study) -> str:
    """All trials that ended, the best first: number, AP50-95, how it ended, last epoch, time, values."""
    trials = sorted(_done(study, "COMPLETE", "PRUNED"), key=lambda t: (t.state.name != "COMPLETE", -_best(t)))
    trials += [trial for trial in _done(study, "FAIL") if "error" in trial.user_attrs]
    keys = sorted({key for trial in trials for key in trial.params})
    rows = [["trial", "AP50-95", "ended", "epochs", "time", *keys]]
    for trial in trials:
        ended = {"COMPLETE": "", "PRUNED": "stopped early", "FAIL": "failed"}[trial.state.name]
        cells = [str(trial.number), f"{_best(trial):.4f}" if trial.intermediate_values else "", ended]
        cells += [
            str(len(trial.intermediate_values)),
            duration(trial.duration.total_seconds()) if trial.duration else "",
        ]
        rows.append(cells + [_short(trial.params.get(key, "")) for key in keys])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _best(trial) -> float:
    return trial.value if trial.state.name == "COMPLETE" else max(trial.intermediate_values.values(), default=-1.0)


def _short(value) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
