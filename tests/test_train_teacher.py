"""train.py --teacher from the command line: its losses in the table, resumed runs, errors."""

import csv

import pytest
import torch

from graftdet import train
from graftdet.utils.checkpoint import load_checkpoint
from graftdet.utils.errors import UserError

LOSSES = ["train/distill_features", "train/distill_scores", "train/distill_boxes"]


@pytest.fixture
def distillation_arguments(workspace, tiny_yaml, tiny_weights):
    """Flags for a student of half the teacher's width."""
    thin = workspace / "thin.yaml"
    thin.write_text("width_multiple: 0.5\n" + tiny_yaml, encoding="utf-8")
    return ["--cfg", thin, "--teacher", tiny_weights, "--epochs", 2]


@pytest.fixture
def distilled(run_train, distillation_arguments):
    return lambda name, *more: run_train(name, *distillation_arguments, *more)


def table(folder):
    with open(folder / "results.csv", newline="") as file:
        return [
            {key: row[key] for key in row if key not in ("time", "train/images_per_s")} for row in csv.DictReader(file)
        ]


def test_distillation_reports_its_losses_and_can_be_resumed(
    distilled, distillation_arguments, run_train_until, tiny_weights, capsys
):
    from graftdet.models import load_model

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # sums over several differ in the last digit
    finished_run = distilled("distilled")
    assert f"teacher: {tiny_weights}" in capsys.readouterr().out
    rows = table(finished_run)
    assert all(float(row[name]) > 0 for row in rows for name in LOSSES)
    best = torch.load(finished_run / "weights" / "best.pt", weights_only=True)
    assert "helpers" not in best and not any("adapter" in name for name in best["ema"])
    assert best["options"]["teacher"] == str(tiny_weights)
    load_model(finished_run / "weights" / "best.pt")

    folder = run_train_until(1, "distilled halfway", *distillation_arguments)
    assert sorted(load_checkpoint(folder / "weights" / "last.pt")["helpers"]) == [
        "adapters.0.weight",
        "adapters.1.weight",
    ]
    resume = ["--resume", str(folder)]
    moved = tiny_weights.with_name("moved.pt")
    tiny_weights.rename(moved)
    try:
        with pytest.raises(UserError, match="--teacher .*tiny.*no such file"):
            train.main(resume)
    finally:
        moved.rename(tiny_weights)
    train.main(resume)
    assert table(folder) == rows
    ends = [load_checkpoint(one / "weights" / "last.pt")["ema"] for one in (finished_run, folder)]
    assert all(torch.equal(tensor, ends[1][name]) for name, tensor in ends[0].items())
    torch.set_num_threads(threads)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--teacher", "no.pt"], "--teacher no.pt: no such file"),
        (["--single-cls"], "has 3 classes, the data has 1"),
        (["--set", "distill_features=0", "distill_logits=0"], "the teacher has no effect"),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else "",
)
def test_errors(distilled, flags, message):
    with pytest.raises(UserError) as error:
        distilled("errors", *flags)
    assert message in str(error.value)
