"""train.py --weights: which weights a run starts from, what it prints and records."""

import re
import shutil
import types

import pytest
import torch
import yaml

import graftdet
from graftdet import train
from graftdet.models.editing.editor import insert_row
from graftdet.models.weights.pretrained import choice
from graftdet.models.weights.weights_file import load_weights
from graftdet.utils import cli
from graftdet.utils.checkpoint import load_checkpoint

MESSAGE = "pretrained weights: tiny-n (synthetic contours, Apache-2.0); --weights none trains from scratch"
NO_STEPS = ["--epochs", 1, "--set", "lr0=0", "warmup_bias_lr=0"]


def config(folder):
    return yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))


def knows(folder, path, row=0):
    """Whether the weights of the run still are those of a file, in one row."""
    state = load_checkpoint(folder / "weights" / "last.pt")["ema"]
    name = f"model.{row}.conv.weight"
    return torch.allclose(state[name], load_weights(path).state[name], atol=1e-5)


@pytest.mark.parametrize(
    ("flags", "pretrained"),
    [
        (["--weights", "auto"], True),
        (["--weights", "tiny-n"], True),
        (["--weights", "tiny-n.safetensors"], True),
        (["--weights", "none"], False),
        (["--weights", ""], False),
        (["--weights="], False),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_a_run_starts_from(flags, pretrained, shipped, run_train, capsys):
    path = shipped("tiny-n")
    folder = run_train("start", *NO_STEPS, *flags)
    output = capsys.readouterr().out
    assert (MESSAGE in output) == ("auto" in flags)
    assert knows(folder, path) == pretrained
    given = flags[1] if pretrained and "auto" not in flags else "tiny-n" if pretrained else "none"
    recorded = config(folder)
    assert recorded["initial_weights"] == given and recorded["train_images"] == 24
    assert load_checkpoint(folder / "weights" / "best.pt")["initial_weights"] == given


def test_auto_is_the_default(shipped, run_train, train_arguments, workspace, capsys):
    path = shipped("tiny-n")
    arguments = train_arguments("--name", "default", "--exist-ok", *NO_STEPS)
    position = arguments.index("--weights")
    train.main(arguments[:position] + arguments[position + 2 :])
    assert MESSAGE in capsys.readouterr().out and knows(workspace / "runs" / "default", path)
    common = {"cfg": workspace / "tiny.yaml", "data": workspace / "data.yaml", "img": 64, "workers": 0, "batch": 8}
    common |= {"device": "cpu", "epochs": 1, "project": workspace / "runs", "exist_ok": True}
    for weights, start in ({}, "tiny-n"), ({"weights": "none"}, "none"), ({"weights": ""}, "none"):
        result = graftdet.train_model(name="api", **weights, **common)
        assert config(result.folder)["initial_weights"] == start


def test_a_fraction_below_the_limit_is_not_rounded_up_to_it(monkeypatch):
    file = types.SimpleNamespace(name="tiny-n")
    monkeypatch.setattr(choice, "nearest_pretrained", lambda model: (file, 0.698))
    assert "has 69% of the parameters, 70% are needed" in choice.describe_scratch(None)


def test_without_a_file_that_fits_training_starts_from_scratch_and_reports_the_nearest(
    shipped, run_train, tiny_yaml, capsys
):
    shipped("tiny-n", tiny_yaml.replace("[8, 6", "[40, 6").replace("[16, 3, 2", "[48, 3, 2").replace("[24", "[56"))
    folder = run_train("other", *NO_STEPS, "--weights", "auto")
    output = capsys.readouterr().out
    assert re.search(
        r"none fit \(the nearest, tiny-n, has \d+% of the parameters, 70% are needed\); training starts from scratch",
        output,
    )
    assert config(folder)["initial_weights"] == "none"


def test_an_edited_model_reports_its_new_row(shipped, run_train, tiny_yaml, tmp_path, capsys):
    path = shipped("tiny-n")
    cfg = tmp_path / "edited.yaml"
    cfg.write_text(insert_row(tiny_yaml, 3, "[-1, 1, Conv, [16, 3, 1]]"), encoding="utf-8")
    folder = run_train("edited", *NO_STEPS, "--cfg", cfg, "--weights", "auto")
    output = capsys.readouterr().out
    assert "newly initialized: row 4; --weights none" in output and "rows 5-9 are rows 4-8 of the file" in output
    assert "initialized to pass their input through" in output or "new rows: 4" in output
    assert knows(folder, path)


def test_placeholder_classes_are_not_the_classes_of_the_data(shipped, run_train, capsys):
    """Also where the file has as many: their outputs are initialized anew."""
    path = shipped("tiny-n", nc=3)
    folder = run_train("as many", *NO_STEPS, "--weights", "auto")
    assert MESSAGE in capsys.readouterr().out
    one, other = load_checkpoint(folder / "weights" / "last.pt")["ema"], load_weights(path).state
    for level in range(2):
        name = f"model.8.m.{level}.weight"
        ours, theirs = one[name].view(3, 8, -1), other[name].view(3, 8, -1)
        assert torch.allclose(ours[:, :5], theirs[:, :5], atol=1e-4)
        assert not torch.allclose(ours[:, 5:], theirs[:, 5:], atol=1e-2)


def test_a_resumed_run_does_not_read_them_again(shipped, run_train_until, capsys):
    path = shipped("tiny-n")
    folder = run_train_until(1, "resumed", "--epochs", 2, "--weights", "auto")
    path.unlink()
    lone = shutil.copytree(folder, folder.with_name("resumed elsewhere"))
    (lone / "config.yaml").unlink()
    train.main(["--resume", str(folder), "--workers", "0"])
    assert "pretrained" not in capsys.readouterr().out.split("epoch 1/2")[1]
    assert load_checkpoint(folder / "weights" / "last.pt")["initial_weights"] == "tiny-n"
    with pytest.raises(cli.UserError) as error:
        train.main(["--resume", str(lone), "--workers", "0"])
    assert "--cfg" in str(error.value) and "--weights" not in str(error.value)
