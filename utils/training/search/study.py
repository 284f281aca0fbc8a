"""The Optuna study of a hyperparameter search: its storage, its consistency, its best trial and its table."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from graftdet.utils.errors import UserError, first_line
from graftdet.utils.files import write_errors
from graftdet.utils.hyperparameter_names import ALIASES, with_current_keys
from graftdet.utils.hyperparameters import Hyperparameters
from graftdet.utils.progress import duration
from graftdet.utils.tables import text_table
from graftdet.utils.training.flags import NO_WEIGHTS
from graftdet.utils.training.search.ranges import Range

HEARTBEAT, GRACE_PERIOD = 30, 120  # seconds: between heartbeats of a trial, and without one until it counts as dead
_ATTEMPTS, _RETRY_SECONDS = 4, 0.5  # to open a study whose tables another machine may be creating
# Options that may differ between the machines of a study, and options that are part of the recipe.
_MAY_DIFFER = {"device", "workers", "cache", "project", "name", "exist_ok", "plugins", "resume", "folder"}
_IN_RECIPE = {"hyp", "set", "optimizer", "cos_lr"}


def open_study(optuna: Any, storage: str, name: str, folder: Path, *, epochs: int, seed: int) -> Any:
    """Open or create an Optuna study.

    Args:
        optuna: The package.
        storage: URL of a database, or a file; "" for study.db in `folder`.
        name: Name of the study.
        folder: Folder of the search.
        epochs: Length of a trial, for early stopping.
        seed: Seed of the sampler.

    Raises:
        UserError: If the storage cannot be opened.
    """
    url = storage or f"sqlite:///{(folder / 'study.db').resolve().as_posix()}"
    pruner = optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=max(epochs // 5, 1))
    for attempt in range(_ATTEMPTS):
        try:
            return optuna.create_study(
                storage=_open_storage(optuna.storages, url),
                study_name=name,
                direction="maximize",
                load_if_exists=True,
                pruner=pruner,
                sampler=_make_sampler(optuna, seed),
            )
        except Exception as error:  # the type depends on the driver of the database
            if attempt + 1 == _ATTEMPTS:  # before, another machine may have been creating the same tables
                reason = f"cannot be opened ({first_line(error)}); expected a URL such as sqlite:///study.db, or a file"
                raise UserError(f"--study: {reason}") from None
            time.sleep(_RETRY_SECONDS)


def _open_storage(storages: Any, url: str) -> Any:
    """A database by its URL, or a file for machines with a common file system."""
    if "://" in url:
        retry = storages.RetryHeartbeatStaleTrialCallback(max_retry=2)
        return storages.RDBStorage(
            url, heartbeat_interval=HEARTBEAT, grace_period=GRACE_PERIOD, heartbeat_stale_trial_callback=retry
        )
    journal = storages.journal
    return journal.JournalStorage(journal.JournalFileBackend(url, lock_obj=journal.JournalFileOpenLock(url)))


def _make_sampler(optuna: Any, seed: int) -> Any:
    """A sampler whose values depend on the seed, the trial's number and earlier trials only: a resumed search samples
    what it would have sampled, and machines that start together sample different values.
    """

    class Sampler(optuna.samplers.TPESampler):
        def before_trial(self, study, trial):
            super().__init__(seed=(seed * 1_000_003 + trial.number) % 2**32)
            super().before_trial(study, trial)

    return Sampler(seed=seed)


def check_same_search(
    study: Any, options: Mapping[str, Any], recipe: Hyperparameters, ranges: Mapping[str, Range]
) -> None:
    """Check that trials of one study are comparable; a new study records its options.

    Raises:
        UserError: If an option, a hyperparameter or a range differs from those that the study was started with.
    """
    flags = {key: value for key, value in options.items() if key not in _MAY_DIFFER | _IN_RECIPE}
    now = {
        f"--{key.replace('_', '-')}": Path(value).name if isinstance(value, str) else value
        for key, value in flags.items()
    }
    now |= {key: value for key, value in recipe.as_dict().items() if key not in ranges}
    now |= {f"range of {key}": str(bounds) for key, bounds in ranges.items()}
    recorded = study.user_attrs.get("begun")
    if recorded is None:
        study.set_user_attr("begun", now)
        return
    before = {_current_name(key): value for key, value in recorded.items()}
    if before.get("--weights") == "":  # in searches of 0.1.0
        before["--weights"] = NO_WEIGHTS
    for key in {**before, **now}:
        if before.get(key) != now.get(key):
            raise UserError(
                f"study '{study.study_name}': was started with {key} {before.get(key)}, now it is {now.get(key)}; "
                "start a new search with another --name"
            )


def _current_name(key: str) -> str:
    prefix, name = ("range of ", key[9:]) if key.startswith("range of ") else ("", key)
    return prefix + ALIASES.get(name, name)


def trials_with_state(study: Any, *states: str) -> list[Any]:
    """Return the trials whose state is one of `states`: COMPLETE, PRUNED, FAIL."""
    return [trial for trial in study.get_trials(deepcopy=False) if trial.state.name in states]


def count_finished(study: Any) -> int:
    """Return the number of trials that are not repeated: completed, stopped early or failed, but not interrupted."""
    failed = sum("error" in trial.user_attrs for trial in trials_with_state(study, "FAIL"))
    return len(trials_with_state(study, "COMPLETE", "PRUNED")) + failed


def write_best(study: Any, recipe: Hyperparameters, path: Path) -> None:
    """Write the complete recipe of the best trial, if there is one."""
    if not trials_with_state(study, "COMPLETE"):
        return
    best = study.best_trial
    params = with_current_keys(best.params)
    comment = f"# trial {best.number} of study '{study.study_name}': AP50-95 {best.value:.4f}; searched: "
    values = yaml.safe_dump({**recipe.as_dict(), **params}, sort_keys=False)
    with write_errors(path):
        path.write_text(f"{comment}{', '.join(params)}\n{values}", encoding="utf-8")


def trial_table(study: Any) -> str:
    """Return a table of all finished trials, best first: number, AP50-95, outcome, epochs, time, values."""
    trials = sorted(
        trials_with_state(study, "COMPLETE", "PRUNED"), key=lambda t: (t.state.name != "COMPLETE", -_best_value(t))
    )
    trials += [trial for trial in trials_with_state(study, "FAIL") if "error" in trial.user_attrs]
    keys = sorted({key for trial in trials for key in trial.params})
    rows = []
    for trial in trials:
        rows.append(
            [
                trial.number,
                f"{_best_value(trial):.4f}" if trial.intermediate_values else "",
                {"COMPLETE": "", "PRUNED": "stopped early", "FAIL": "failed"}[trial.state.name],
                len(trial.intermediate_values),
                duration(trial.duration.total_seconds()) if trial.duration else "",
                *(_short(trial.params.get(key, "")) for key in keys),
            ]
        )
    return text_table(["trial", "AP50-95", "outcome", "epochs", "time", *keys], rows)


def _best_value(trial: Any) -> float:
    return trial.value if trial.state.name == "COMPLETE" else max(trial.intermediate_values.values(), default=-1.0)


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
