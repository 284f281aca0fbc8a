"""A search with trainings that last no time: what is tried, stopped early, is resumed, fails."""

import argparse
import os
import signal
import subprocess
import sys
import time

import pytest
import yaml

from graftdet.utils.config import ROOT
from graftdet.utils.errors import UserError
from graftdet.utils.hyperparameters import Hyperparameters, load_hyperparameters
from graftdet.utils.training.results import read_column
from graftdet.utils.training.search import study as search_study
from graftdet.utils.training.search import trials as searching

# In the workspace of train.py: its results are a function of the values, best at lr0 0.02 with mosaic 0.5.
STAND_IN = """
import argparse, pathlib, sys, time
parser = argparse.ArgumentParser()
for flag in ("--project", "--name"):
    parser.add_argument(flag)
parser.add_argument("--set", nargs="+", action="extend", default=[])
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--epochs", type=int)
parser.add_argument("--slow", type=float, default=0)
parser.add_argument("--exist-ok", action="store_true")
options = parser.parse_args()
values = dict(option.split("=") for option in options.set)
if values.get("mosaic") == "1.0":
    sys.exit("error: of this trial's own")
folder = pathlib.Path(options.project, options.name)
folder.mkdir(parents=True, exist_ok=True)
best = 0.5 - abs(float(values["lr0"]) - 0.02) * 10 + options.seed / 100
with open(folder / "results.csv", "w") as file:
    print("epoch,val/AP50-95", file=file, flush=True)
    for epoch in range(1, options.epochs + 1):
        print(f"{epoch},{best * epoch / options.epochs:.4f}", file=file, flush=True)
        time.sleep(options.slow)
"""


@pytest.fixture
def start(tmp_path, monkeypatch):
    """`start(ranges, *flags, **options)` searches with the stand-in; gives the folder of the study."""
    (tmp_path / "stand_in.py").write_text(STAND_IN)
    monkeypatch.setattr(searching, "POLL_SECONDS", 0.01)

    def call(ranges, *flags, **options):
        path = tmp_path / "ranges.yaml"
        path.write_text(yaml.safe_dump(ranges) if isinstance(ranges, dict) else ranges)
        plain = {
            "hyp": "yolov5.yaml",
            "optimizer": None,
            "cos_lr": False,
            "set": [],
            "seed": 0,
            "epochs": 3,
            "project": tmp_path / "trials",
            "name": "find",
            "data": str(tmp_path / "data.yaml"),
        }
        options = argparse.Namespace(search=str(path), **{**plain, **options})
        epochs = str(options.epochs)
        arguments = ["--search", str(path), "--epochs", epochs, "--name", "find", "--trials", "9", *map(str, flags)]
        searching.search(options, arguments, [sys.executable, str(tmp_path / "stand_in.py")])
        return tmp_path / "trials" / options.name

    return call


def study_in(folder):
    import optuna

    return optuna.load_study(storage=f"sqlite:///{folder / 'study.db'}", study_name="find")


def values_of(name, url):
    import optuna

    return [trial.params for trial in optuna.load_study(storage=url, study_name=name).trials]


LR = {"lr0": {"low": "1e-4", "high": "1e-1", "log": True}}


def test_finds_the_best_and_is_resumed_where_it_stopped(start, capsys):
    folder = start(LR, trials=2)
    first = capsys.readouterr().out
    assert "0 of 2 trials finished" in first and first.count("trial 1: AP50-95") == 1
    start(LR, trials=2)
    assert "2 of 2 trials finished" in capsys.readouterr().out
    start(LR, trials=5)
    message = capsys.readouterr().out
    assert "2 of 5 trials finished" in message and "trial 4: AP50-95" in message
    study = study_in(folder)
    values = [trial.params for trial in study.trials]
    assert (
        len(values) == 5
        and all(1e-4 <= value["lr0"] <= 0.1 for value in values)
        and len({v["lr0"] for v in values}) == 5
    )
    best = max(values, key=lambda value: -abs(value["lr0"] - 0.02))
    assert study.best_params == best and study.best_value == pytest.approx(0.5 - abs(best["lr0"] - 0.02) * 10, abs=1e-4)
    assert load_hyperparameters(folder / "best.yaml") == Hyperparameters(lr0=best["lr0"])
    assert (folder / "best.yaml").read_text().startswith(f"# trial {study.best_trial.number} of study 'find'")
    rows = [line.split() for line in message.splitlines() if line[:1].isdigit()]
    scores = [float(row[1]) for row in rows]
    assert len(rows) == 5 and scores == sorted(scores, reverse=True) and rows[0][0] == str(study.best_trial.number)
    assert [trial.intermediate_values.keys() for trial in study.trials[:1]] == [{1, 2, 3}]


def test_values_depend_on_seed_and_trial_number_only(start, tmp_path):
    url = f"sqlite:///{(tmp_path / 'one.db').as_posix()}"
    for options in (
        {"trials": 1},
        {"trials": 2},
        {"trials": 2, "name": "again"},
        {"trials": 1, "name": "other", "seed": 1},
    ):
        start(LR, study=url, **options)
    sampled = [values_of(name, url) for name in ("find", "again", "other")]
    assert sampled[0] == sampled[1] and sampled[2][0] != sampled[0][0]


def test_failed_trials_are_reported_and_the_search_continues(start, capsys):
    ranges = {**LR, "mosaic": [0.5, 1]}
    folder = start(ranges, trials=5)
    message = capsys.readouterr().out
    study = study_in(folder)
    values = [trial.params for trial in study.trials]
    failed = [trial.number for trial in study.trials if trial.state.name == "FAIL"]
    assert failed and len(failed) < 5 == len(values)
    assert all(
        values[number]["mosaic"] == 1 and f"trial {number}: failed (of this trial's own)" in message
        for number in failed
    )
    assert message.count(" failed") == 2 * len(failed) and load_hyperparameters(folder / "best.yaml").mosaic == 0.5


def test_a_search_ends_if_all_trials_fail(start):
    with pytest.raises(UserError, match="the first 3 trials failed"):
        start({"mosaic": [1, "1.0", 0.99], **LR}, "--slow", "x", trials=9)


def test_unpromising_trials_are_stopped_early(start, monkeypatch, capsys):
    """After five good trials one that is worse at every epoch ends long before its ten slow epochs are over."""
    import optuna

    folder = start({"lr0": {"low": 0.019, "high": 0.021}}, trials=5, epochs=10)
    study = study_in(folder)
    study.set_user_attr("begun", None)
    study.enqueue_trial({"lr0": 0.09})
    start({"lr0": {"low": 0.019, "high": 0.1}}, "--slow", 0.5, trials=6, epochs=10)
    last = study_in(folder).trials[-1]
    assert last.state == optuna.trial.TrialState.PRUNED and 2 <= len(last.intermediate_values) < 10
    assert "trial 5: stopped early" in capsys.readouterr().out


def test_a_search_of_an_earlier_version_is_continued_from_scratch(start):
    study = study_in(start(LR, trials=1, weights="none"))
    study.set_user_attr("begun", {**study.user_attrs["begun"], "--weights": ""})
    start(LR, trials=2, weights="none")
    with pytest.raises(UserError, match="was started with --weights none, now it is auto"):
        start(LR, trials=3, weights="auto")


def test_the_score_of_several_seeds_is_their_mean(start):
    folder = start(LR, trials=1, trial_seeds=3)
    study = study_in(folder)
    rows = [
        read_column(folder / name / "results.csv", "val/AP50-95") for name in ("trial0", "trial0-seed1", "trial0-seed2")
    ]
    ends = [row[-1][1] for row in rows]
    assert len({*ends}) == 3 and study.best_value == pytest.approx(sum(ends) / 3)
    assert len(study.trials[0].intermediate_values) == 9


def test_machines_share_a_study_in_a_file(start, tmp_path):
    study = str(tmp_path / "shared.journal")
    start(LR, trials=2, study=study)
    start(LR, trials=4, study=study, project=tmp_path / "elsewhere", device="cpu", workers=7, data="/other/data.yaml")
    assert [path.name for path in sorted((tmp_path / "elsewhere/find").glob("trial*.log"))] == [
        "trial2.log",
        "trial3.log",
    ]


@pytest.mark.parametrize(("busy", "works"), [(2, True), (9, False)])
def test_machines_that_begin_together_wait_for_each_others_tables(start, monkeypatch, busy, works):
    asked, real = [], search_study._open_storage

    def storage(*arguments):
        asked.append(arguments)
        if len(asked) <= busy:
            raise RuntimeError("(sqlite3.OperationalError) table alembic_version already exists")
        return real(*arguments)

    monkeypatch.setattr(search_study, "_open_storage", storage)
    monkeypatch.setattr(search_study, "_RETRY_SECONDS", 0.01)
    if works:
        assert len(study_in(start(LR, trials=1)).trials) == 1
    else:
        with pytest.raises(UserError, match="--study: cannot be opened .*already exists"):
            start(LR, trials=1)
    assert 3 <= len(asked) <= 4


@pytest.mark.skipif(os.name == "nt", reason="Ctrl-C is another thing there")
def test_interrupted_trial_is_tried_again(start, tmp_path):
    code = (
        "import argparse, signal, sys; from pathlib import Path; from graftdet.utils.training.search.trials import search; from utils import cli\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs are started deaf to it\n"
        "options = argparse.Namespace(search=sys.argv[2], trials=2, hyp='yolov5.yaml', optimizer=None, cos_lr=False, set=[],\n"
        "    seed=0, epochs=3, project=Path(sys.argv[-1]), name='find', data='data.yaml')\n"
        "cli.run(lambda: search(options, None, [sys.executable, str(Path(sys.argv[-1]).parent / 'stand_in.py')]))\n"
    )
    (tmp_path / "ranges.yaml").write_text(yaml.safe_dump(LR))
    arguments = ["--search", tmp_path / "ranges.yaml", "--epochs", 3, "--slow", 30, "--project", tmp_path / "trials"]
    results = tmp_path / "trials/find/trial0/results.csv"
    with subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        while process.poll() is None and not (results.is_file() and "1," in results.read_text()):
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert process.returncode == 130
    folder = start(LR, trials=2)
    study = study_in(folder)
    values = [trial.params for trial in study.trials]
    assert [trial.state.name for trial in study.trials] == ["FAIL", "COMPLETE", "COMPLETE"] and values[0] == values[
        1
    ] != values[2]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 4}, "--epochs 3, now it is 4"),
        ({"set": ["mixup=0.5"]}, "mixup 0.0, now it is 0.5"),
        ({"data": "voc.yaml"}, "--data data.yaml, now it is voc.yaml"),
        (
            {"ranges": {"lr0": {"low": 1e-4, "high": 0.2, "log": True}}},
            "range of lr0 0.0001 to 0.1, log, now it is 0.0001 to 0.2, log",
        ),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_trials_of_a_study_are_comparable(start, change, message):
    start(LR, trials=1)
    with pytest.raises(UserError) as error:
        start(change.pop("ranges", LR), trials=2, **change)
    assert message in str(error.value) and "--name" in str(error.value)


@pytest.mark.parametrize("url", ["nosuch://x/y", "sqlite:////proc/none/study.db"])
def test_storages_that_cannot_be_opened(start, url):
    with pytest.raises(UserError, match="--study: cannot be opened"):
        start(LR, study=url)


@pytest.mark.parametrize("given", [{"set": ["lr0=0.5"]}, {"optimizer": "SGD"}])
def test_a_searched_value_must_not_be_given_as_a_flag(start, given):
    with pytest.raises(UserError, match="which is also given as a flag"):
        start({**LR, "optimizer": ["SGD", "AdamW"]}, **given)


def test_without_optuna_the_error_names_the_package(start, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(UserError, match="pip install 'optuna"):
        start(LR)


def test_flags_of_a_search_without_one(monkeypatch):
    parser = argparse.ArgumentParser()
    searching.add_search_flags(parser)
    assert not vars(parser.parse_args([])) and not searching.search_requested(parser.parse_args([]))
    assert searching.search_requested(parser.parse_args(["--search", "x.yaml"]))
    with pytest.raises(UserError, match="--trial-seeds: needs --search"):
        searching.search_requested(parser.parse_args(["--trial-seeds", "2"]))
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="without torchrun"):
        searching.search_requested(parser.parse_args(["--search", "x.yaml"]))
