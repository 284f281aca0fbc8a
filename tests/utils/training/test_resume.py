"""Folders of runs and the way back into them."""

import argparse
import os

import pytest
import torch
import yaml

from graftdet.utils import cli
from graftdet.utils.checkpoint import load_checkpoint, save_checkpoint
from graftdet.utils.errors import UserError
from graftdet.utils.training.flags import initial_weights
from graftdet.utils.training.resume import find_checkpoint, resolve_options


def checkpoint(path, age=0, **content):
    options = {"epochs": 7, "device": "cpu", "workers": 3, "project": "runs/train", **content.pop("options", {})}
    state = {"optimizer": {}, "epoch": 2, "yaml": "", "names": [], "hyperparameters": {}}
    save_checkpoint(path, {"options": options, **state, **content})
    os.utime(path, (1e9 - age, 1e9 - age))
    return path


def test_resume_finds_the_newest_a_folder_or_a_file(tmp_path):
    old = checkpoint(tmp_path / "exp" / "weights" / "last.pt", age=10)
    new = checkpoint(tmp_path / "deep" / "exp" / "weights" / "last.pt")
    assert find_checkpoint("", tmp_path) == new
    assert find_checkpoint(tmp_path / "exp", ".") == old
    assert find_checkpoint(tmp_path / "exp" / "weights", ".") == old
    assert find_checkpoint(old, ".") == old
    (tmp_path / "empty").mkdir()
    for resume, project in (("", tmp_path / "none"), (tmp_path / "empty", "."), (tmp_path / "no.pt", ".")):
        with pytest.raises(UserError, match="--resume"):
            find_checkpoint(resume, project)


def make_parser():
    parser = cli.ArgumentParser()
    parser.add_argument("--resume", nargs="?", const="")
    parser.add_argument("--project", default="runs/train")
    parser.add_argument("--device", default="")
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--workers", type=int)
    parser.add_argument("--freeze", type=int, nargs="+", default=[])
    parser.add_argument("--cos-lr", action="store_true")
    parser.add_argument("--optimizer", choices=("SGD", "Adam"))
    parser.add_argument("--name", default="exp")
    parser.add_argument("--cfg", default="")
    parser.add_argument("--data", default="shapes.yaml")
    parser.add_argument("--plugins", nargs="+", action="extend", default=[])
    parser.add_argument("--search", default=argparse.SUPPRESS)
    parser.add_argument("--added-later", default="x")
    return parser


def resolve(*arguments):
    return resolve_options(make_parser(), [str(argument) for argument in arguments])


def test_options_of_a_run_are_restored(tmp_path):
    path = checkpoint(tmp_path / "exp" / "weights" / "last.pt")
    options, loaded = resolve("--resume", tmp_path / "exp", "--device", "cuda:0")
    assert (options.epochs, options.workers, options.device, options.added_later) == (7, 3, "cuda:0", "x")
    assert options.folder == tmp_path / "exp" and options.resume == str(path) and loaded["epoch"] == 2
    options, _ = resolve("--resume", "--project", tmp_path)
    assert options.device == "cpu" and options.folder == tmp_path / "exp"
    options, loaded = resolve("--epochs", "3")
    assert options.epochs == 3 and loaded is None and options.folder is None


def test_resume_errors(tmp_path):
    path = checkpoint(tmp_path / "exp" / "weights" / "last.pt")
    with pytest.raises(UserError, match="--batch-size is restored from the run; .*start a new run"):
        resolve("--resume", path, "--batch-size", "8")
    done = checkpoint(tmp_path / "done" / "weights" / "last.pt", finished=True)
    with pytest.raises(UserError, match="is finished, with these weights after epoch 2"):
        resolve("--resume", done)
    for key in (
        "hyperparameters",
        "yaml",
        "names",
        "options",
    ):  # a text in the workspace of numbers would be read as a file
        broken = checkpoint(tmp_path / "broken" / "last.pt")
        save_checkpoint(broken, {**load_checkpoint(broken), key: 5})
        with pytest.raises(UserError, match=f"its '{key}' is an integer, expected"):
            resolve("--resume", broken)
    bare = save_checkpoint(tmp_path / "bare.pt", {"model": {}})
    with pytest.raises(UserError, match="no training state"):
        resolve("--resume", bare)


FILES = {"plugins": ["a b.py", "c.py"], "data": "d.yaml", "cfg": "m.yaml", "added_later": "y"}
ALL_AGAIN = ["--plugins", "a b.py", "c.py", "--data", "d.yaml", "--cfg", "m.yaml", "--added-later", "y"]


def confirm(run, **options):
    (run / "config.yaml").write_text(yaml.safe_dump({"options": options}))


@pytest.mark.parametrize("key", FILES)
def test_files_and_code_never_come_from_a_checkpoint_alone(key, tmp_path):
    """A stranger's checkpoint names data at most: what it would run or read is given again."""
    path = checkpoint(tmp_path / "last.pt", options={key: FILES[key], "epochs": 9})
    again = {
        "plugins": "--plugins 'a b.py' c.py",
        "data": "--data d.yaml",
        "cfg": "--cfg m.yaml",
        "added_later": "--added-later y",
    }
    with pytest.raises(UserError, match=f"this run used {again[key]}; give it again"):
        resolve("--resume", path)
    options, _ = resolve(
        "--resume",
        path,
        *ALL_AGAIN[slice(*{"plugins": (0, 3), "data": (3, 5), "cfg": (5, 7), "added_later": (7, 9)}[key])],
    )
    assert getattr(options, key) == FILES[key] and options.epochs == 9


@pytest.mark.parametrize("value", ["", "none", "auto"])  # "" in checkpoints of version 0.1.0
def test_initial_weights_that_are_no_file_need_not_be_given_again(value, tmp_path):
    parser = make_parser()
    parser.add_argument("--weights", type=initial_weights, default="auto")
    resume = ["--resume", str(checkpoint(tmp_path / "last.pt", options={"weights": value}))]
    assert resolve_options(parser, resume)[0].weights == (value or "none")
    checkpoint(tmp_path / "last.pt", options={"weights": "mine.pt"})
    with pytest.raises(UserError, match="this run used --weights mine.pt; give it again"):
        resolve_options(parser, resume)


def test_all_missing_files_are_reported_together(tmp_path):
    path = checkpoint(tmp_path / "exp" / "weights" / "last.pt", options=FILES)
    with pytest.raises(
        UserError, match="--cfg m.yaml --data d.yaml --plugins 'a b.py' c.py --added-later y; give them again"
    ):
        resolve("--resume", path)
    confirm(tmp_path / "exp", cfg="m.yaml", added_later="y", plugins=["a b.py", "other.py"])
    with pytest.raises(UserError, match="this run used --data d.yaml --plugins 'a b.py' c.py; give them again"):
        resolve("--resume", path)
    options, _ = resolve("--resume", path, *ALL_AGAIN)
    assert {key: getattr(options, key) for key in FILES} == FILES


def test_the_config_of_the_run_confirms_them_in_any_folder(tmp_path):
    checkpoint(tmp_path / "exp" / "weights" / "last.pt", options=FILES)
    confirm(tmp_path / "exp", **FILES)
    (tmp_path / "exp").rename(tmp_path / "moved")
    options, _ = resolve("--resume", tmp_path / "moved")
    assert {key: getattr(options, key) for key in FILES} == FILES
    options, _ = resolve("--resume", tmp_path / "moved", "--data", "elsewhere.yaml")
    assert options.data == "elsewhere.yaml"  # files of a run may move, too
    with pytest.raises(UserError, match="--cfg is restored from the run, where it was m.yaml"):
        resolve("--resume", tmp_path / "moved", "--cfg", "other.yaml")
    with pytest.raises(UserError, match="--added-later is restored from the run, where it was y"):
        resolve("--resume", tmp_path / "moved", "--added-later", "x")
    confirm(tmp_path / "moved", **{**FILES, "data": 5})
    with pytest.raises(UserError, match="this run used --data d.yaml"):
        resolve("--resume", tmp_path / "moved")
    for content in ("[]", "options: x", "options: {data: [1]}", "{"):
        (tmp_path / "moved" / "config.yaml").write_text(content)
        with pytest.raises(UserError, match=r"config.yaml"):
            resolve("--resume", tmp_path / "moved")


def test_a_run_that_is_still_written_is_not_resumed(tmp_path, monkeypatch):
    path = checkpoint(tmp_path / "exp" / "weights" / "last.pt")
    (tmp_path / "exp" / "run.lock").write_text('{"pid": 1, "host": "elsewhere"}')
    with pytest.raises(UserError, match=r"exp: this run is still being written by process 1 on elsewhere"):
        resolve("--resume", path)
    monkeypatch.setenv("RANK", "1")  # another process of the group that resumes it has the lock
    assert resolve("--resume", path)[1]["epoch"] == 2
    monkeypatch.delenv("RANK")
    os.utime(tmp_path / "exp" / "run.lock", (1, 1))
    assert resolve("--resume", path)[1]["epoch"] == 2


def test_a_resumed_run_writes_to_the_folder_of_its_checkpoint(tmp_path, monkeypatch):
    """And starts no search, whatever its checkpoint contains."""
    elsewhere = {
        "project": "/etc",
        "name": "../up",
        "folder": "/etc",
        "resume": "/etc/x.pt",
        "search": "x.yaml",
        "study": "sqlite://",
    }
    checkpoint(tmp_path / "exp" / "weights" / "last.pt", options=elsewhere)
    confirm(tmp_path / "exp", **elsewhere)
    options, _ = resolve("--resume", tmp_path / "exp")
    assert (options.folder, options.project, options.name) == (tmp_path / "exp", tmp_path, "exp")
    assert "search" not in options and "study" not in options
    monkeypatch.chdir(tmp_path / "exp" / "weights")
    assert resolve("--resume", "last.pt")[0].folder == tmp_path / "exp"
    for name in ("exp", "../up"):
        assert resolve("--resume", "last.pt", "--name", name)[0].folder == tmp_path / "exp"
    with pytest.raises(UserError, match="--name other: a run is resumed in its own folder"):
        resolve("--resume", "last.pt", "--name", "other")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("epochs", "many"),
        ("epochs", [1]),
        ("epochs", None),
        ("epochs", True),
        ("epochs", 1.5),
        ("freeze", 3),
        ("freeze", ["x"]),
        ("freeze", [[1]]),
        ("cos_lr", "yes"),
        ("optimizer", "Best"),
        ("device", {}),
        ("workers", b"1"),
        ("freeze", torch.zeros(2)),
    ],
)
def test_options_of_a_checkpoint_are_checked(key, value, tmp_path):
    path = checkpoint(tmp_path / "last.pt", options={key: value})
    with pytest.raises(UserError, match=f"last.pt: .* is not a value of --{key.replace('_', '-')}"):
        resolve("--resume", path)


def test_valid_options_of_a_checkpoint_are_accepted(tmp_path):
    good = {"epochs": 9, "freeze": [0, 2], "cos_lr": True, "optimizer": "Adam", "workers": None, "unknown": "z"}
    options, _ = resolve("--resume", checkpoint(tmp_path / "last.pt", options=good))
    assert {key: getattr(options, key, "z") for key in good} == good and "unknown" not in options


def test_a_run_without_plugins_gets_none(tmp_path):
    path = checkpoint(tmp_path / "last.pt", options={"plugins": []})
    confirm(tmp_path, plugins=["a.py"])
    assert resolve("--resume", path)[0].plugins == []
    with pytest.raises(UserError, match="--plugins is restored from the run, where it was not given"):
        resolve("--resume", path, "--plugins", "a.py")


def test_folder_that_is_not_of_a_training_run(tmp_path):
    with pytest.raises(UserError, match="is not the folder of a training run"):
        find_checkpoint(tmp_path, tmp_path)
    (tmp_path / "config.yaml").touch()
    with pytest.raises(UserError, match="before its first epoch"):
        find_checkpoint(tmp_path, tmp_path)
