"""train.py from the command line: what a run leaves, and that the same seed is the same run, whatever happens to it on the way."""

import csv
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml

from graftdet import train
from graftdet.utils import cli
from graftdet.utils.checkpoint import load_checkpoint
from graftdet.utils.hyperparameters import load_hyperparameters

ROOT = Path(train.__file__).parent
pytestmark = pytest.mark.usefixtures("one_thread")  # as many as `command` gives
COLUMNS = [
    "epoch",
    "time",
    "lr",
    "train/box",
    "train/obj",
    "train/cls",
    "train/images_per_s",
    "val/AP50-95",
    "val/AP50",
    "val/precision",
    "val/recall",
    "val/box",
    "val/obj",
    "val/cls",
]


@pytest.fixture
def resume():
    return lambda *more: train.main([str(argument) for argument in more])


def command(*more):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return {"args": [sys.executable, str(ROOT / "train.py"), *map(str, more)], "env": environment}


def rows(folder):
    with open(folder / "results.csv", newline="") as file:
        return list(csv.DictReader(file))


def outcome(folder):
    """What must not depend on how the run came about: the table without its times, and the weights."""
    table = [{key: row[key] for key in row if key not in ("time", "train/images_per_s")} for row in rows(folder)]
    return table, {name: load_checkpoint(folder / "weights" / f"{name}.pt")["ema"] for name in ("best", "last")}


def assert_same(one, other):
    assert one[0] == other[0]
    for name in ("best", "last"):
        assert one[1][name].keys() == other[1][name].keys()
        assert all(torch.equal(tensor, other[1][name][key]) for key, tensor in one[1][name].items()), name


@pytest.fixture(scope="module")
def finished_run(workspace, train_arguments):
    """An uninterrupted run of 8 epochs in a separate process: (folder, standard output)."""
    done = subprocess.run(
        **command(*train_arguments("--name", "whole", "--epochs", 8, "--plots", "png")), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return workspace / "runs" / "whole", done.stdout


def test_a_run_writes_table_images_and_config(finished_run, workspace):
    folder, output = finished_run
    table = rows(folder)
    assert list(table[0]) == COLUMNS and [row["epoch"] for row in table] == list("12345678")
    assert all(float(row[key]) >= 0 for row in table for key in COLUMNS)
    times = [float(row["time"]) for row in table]
    assert times == sorted(times)
    assert float(table[-1]["train/obj"]) < float(table[0]["train/obj"]) * 1.5
    images = ["labels.png", "results.png", "train_batch0.jpg", "train_batch1.jpg", "train_batch2.jpg"]
    images += ["val_batch0_labels.jpg", "val_batch0_pred.jpg", "report.html", "evaluation.npz"]
    assert all((folder / name).stat().st_size > 1000 for name in images)
    config = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    assert config["options"]["epochs"] == 8 and config["options"]["data"] == str(workspace / "data.yaml")
    assert (
        config["hyperparameters"]["momentum"] == load_hyperparameters("default.yaml").momentum
        and config["versions"]["torch"]
        and "commit" in config["versions"]
    )
    assert "epoch 8/8" in output and "triangle" in output and "best possible recall" in output


def test_the_best_checkpoint_contains_the_model_and_its_scores(finished_run):
    from graftdet.models import load_model

    folder, _ = finished_run
    best = torch.load(folder / "weights" / "best.pt", weights_only=True)
    assert (best["names"], best["nc"], best["finished"]) == (["circle", "square", "triangle"], 3, True)
    assert (
        best["options"]["img"] == 64
        and best["hyperparameters"]["lr0"] == load_hyperparameters("default.yaml").lr0
        and "optimizer" not in best
    )
    assert {"format", "version", "yaml", "model", "ema", "epoch", "best", "versions"} <= set(best)
    scores = [0.1 * float(row["val/AP50"]) + 0.9 * float(row["val/AP50-95"]) for row in rows(folder)]
    assert best["best"] == pytest.approx(max(scores), abs=1e-5) and best["epoch"] == scores.index(max(scores)) + 1
    model = load_model(folder / "weights" / "best.pt")
    boxes, scores_of_boxes = model(torch.zeros(1, 3, 64, 64, dtype=torch.uint8))
    assert boxes.shape[2] == 4 and scores_of_boxes.shape[2] == 3 and model.names == best["names"]


def test_runs_with_one_seed_are_equal_for_any_number_of_workers(finished_run, run_train):
    assert_same(outcome(run_train("again", "--epochs", 8, "--workers", 2)), outcome(finished_run[0]))


def test_runs_with_one_seed_are_equal_on_two_threads(run_train):
    torch.set_num_threads(2)
    once = outcome(run_train("two threads", "--epochs", 2, "--img", 128))
    blocks_of_memory = [torch.zeros(1000 + 7 * n) for n in range(100)]  # other addresses in memory
    assert_same(outcome(run_train("two threads", "--epochs", 2, "--img", 128)), once)
    assert len(blocks_of_memory) == 100


def test_interrupted_run_is_resumed_exactly(finished_run, run_train_until, resume):
    folder = run_train_until(3, "interrupted", "--epochs", 8)
    assert len(rows(folder)) == 3
    with open(folder / "results.csv", "a") as file:  # the run died after the row and before its checkpoint
        file.write("4,9,0,0,0,0,0,0,0,0,0\n")
    resume("--resume", folder)
    assert_same(outcome(folder), outcome(finished_run[0]))
    times = [float(row["time"]) for row in rows(folder)]
    assert times == sorted(times)


def test_a_run_with_damaged_checkpoints_is_resumed_exactly_from_the_previous_ones(
    finished_run, run_train_until, resume, capsys
):
    folder = run_train_until(4, "damaged", "--epochs", 8)
    for name in ("best", "last"):
        path = folder / "weights" / f"{name}.pt"
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 4
        path.write_bytes(content)
    resume("--resume", folder)
    assert "last.previous.pt of epoch 3 instead" in capsys.readouterr().err
    assert_same(outcome(folder), outcome(finished_run[0]))
    assert sorted(os.listdir(folder / "weights")) == ["best.pt", "last.pt"]


def test_a_run_killed_in_its_final_validation_is_not_trained_further_when_resumed(
    run_train_until, resume, monkeypatch, capsys
):
    monkeypatch.setattr("graftdet.utils.training.run.fitness", lambda metrics: 0.5)
    folder = run_train_until(2, "stopped", "--epochs", 4, "--patience", 1)
    resume("--resume", folder)
    assert len(rows(folder)) == 2 and "2 epochs completed, the best was epoch 1" in capsys.readouterr().out
    assert load_checkpoint(folder / "weights" / "last.pt")["finished"]


def test_killed_run_with_workers_is_resumed_too(finished_run, workspace, train_arguments, resume):
    folder = workspace / "runs" / "killed"
    last = folder / "weights" / "last.pt"
    settings = command(*train_arguments("--name", "killed", "--epochs", 8, "--workers", 2))
    with subprocess.Popen(**settings, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None and not last.exists():
            time.sleep(0.02)
        process.kill()
    assert process.returncode != 0, "the run was over before it could be killed"
    assert 1 <= load_checkpoint(last)["epoch"] < 8
    resume("--resume", "--project", folder, "--workers", 2)
    assert_same(outcome(folder), outcome(finished_run[0]))


@pytest.mark.parametrize("flag", [("--epochs", 100), ("--batch-size", 16), ("--seed", 0), ("--rect",)])
def test_resume_takes_no_other_flag_even_with_its_default(workspace, resume, flag):
    with pytest.raises(cli.UserError, match=f"{flag[0]} is restored from the run"):
        resume("--resume", workspace / "runs", *flag)
