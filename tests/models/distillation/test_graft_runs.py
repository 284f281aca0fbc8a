"""train.py with a graft: grafted rows imitate the rows that they replace and learn from them; resumed runs; errors."""

import csv

import pytest
import torch
import yaml

from graftdet import train
from graftdet.utils.checkpoint import load_checkpoint
from graftdet.utils.errors import UserError
from graftdet.utils.training.flags import graft_epochs


@pytest.fixture
def graft_arguments(workspace, tiny_yaml, tiny_weights):
    """Flags for a graft of the tiny detector."""
    path = workspace / "graft.yaml"
    path.write_text(tiny_yaml.replace("C3,", "C3Ghost,"), encoding="utf-8")
    return ["--cfg", path, "--weights", tiny_weights, "--epochs", 3]


def table(folder):
    with open(folder / "results.csv", newline="") as file:
        return [
            {key: row[key] for key in row if key not in ("time", "train/images_per_s")} for row in csv.DictReader(file)
        ]


def test_graft_distillation_ends_and_can_be_resumed(
    run_train, run_train_until, graft_arguments, tiny_weights, one_thread, capsys
):
    flags = [*graft_arguments, "--graft-distill", 2]
    finished = run_train("graft", *flags)
    output = capsys.readouterr().out
    assert "grafted rows: initialized by least squares, with the relative error left: 2 like row 2" in output
    assert f"graft distillation: rows 2, 7 learn from rows 2, 7 of {tiny_weights} for 2 epochs" in output
    rows = [row for row in table(finished) if row["epoch"] != "0"]
    assert [row["train/distill_grafts"] != "" for row in rows] == [True, True, False]
    assert yaml.safe_load((finished / "config.yaml").read_text("utf-8"))["options"]["graft_distill"] == 2

    folder = run_train_until(1, "graft halfway", *flags)
    train.main(["--resume", str(folder)])
    assert table(folder) == table(finished)
    ends = [load_checkpoint(one / "weights" / "last.pt")["ema"] for one in (finished, folder)]
    assert all(torch.equal(tensor, ends[1][name]) for name, tensor in ends[0].items())


def test_a_value_of_graft_distill_is_epochs_or_a_fraction_of_the_run():
    values = [graft_epochs(value, 30) for value in (0, 0.1, 0.001, 3, 50)]
    assert values == [0, 3, 1, 3, 30]
    assert [graft_epochs(3, 30, completed) for completed in (2, 3)] == [3, 0]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--weights", "none"], "--graft-distill: needs --weights of a whole model"),
        (["--teacher", "x.pt"], "--graft-distill: cannot be combined with --teacher"),
        (["--cfg", ""], "--graft-distill: .*all rows of the model continue rows of the file"),
        (["--set", "distill_grafts=0"], "distill_grafts is 0"),
    ],
    ids=["scratch", "teacher", "no graft", "gain"],
)
def test_errors(run_train, graft_arguments, flags, message):
    with pytest.raises(UserError, match=message):
        run_train("errors", *graft_arguments, "--graft-distill", *flags)


def test_imitation_can_be_turned_off(run_train, graft_arguments, capsys):
    run_train("random rows", *graft_arguments, "--no-imitation-init", "--epochs", 1)
    assert "grafted rows" not in capsys.readouterr().out
    with pytest.raises(UserError, match="--set distill_grafts=2: needs --graft-distill"):
        run_train("errors", *graft_arguments, "--set", "distill_grafts=2")
