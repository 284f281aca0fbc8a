"""Folders of runs and the way back into them."""

import os

import pytest

from utils import cli
from utils.checkpoint import save_checkpoint
from utils.errors import UserError
from utils.run_folder import new_run_folder
from utils.runs import find_checkpoint, resolve_options


def test_names_that_exist_get_a_number(tmp_path):
    project = tmp_path / "rüns" / "train"
    made = [new_run_folder(project).name for _ in range(3)]
    assert made == ["exp", "exp2", "exp3"]
    (project / "exp2").rmdir()
    assert new_run_folder(project).name == "exp2"
    assert new_run_folder(project, "exp", exist_ok=True) == project / "exp"
    assert new_run_folder(project, "other/deep").name == "deep"


def test_folders_that_cannot_be(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be made"):
        new_run_folder(tmp_path / "file", "exp")
    with pytest.raises(UserError, match="is a file"):
        new_run_folder(tmp_path, "file", exist_ok=True)
    for name in ("", ".", "../up", "/abs"):
        with pytest.raises(UserError, match="--name"):
            new_run_folder(tmp_path, name)


def checkpoint(path, age=0, **content):
    options = {"epochs": 7, "device": "cpu", "workers": 3, "project": "runs/train"}
    save_checkpoint(path, {"options": options, "optimizer": {}, "epoch": 2, **content})
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
    parser.add_argument("--added-later", default="x")
    return parser


def resolve(monkeypatch, *words):
    monkeypatch.setattr("sys.argv", ["train.py", *map(str, words)])
    return resolve_options(make_parser(), free=("device",))


def test_options_of_a_run_come_back(tmp_path, monkeypatch):
    path = checkpoint(tmp_path / "exp" / "weights" / "last.pt")
    options, loaded = resolve(monkeypatch, "--resume", tmp_path / "exp", "--device", "cuda:0")
    assert (options.epochs, options.workers, options.device, options.added_later) == (7, 3, "cuda:0", "x")
    assert options.folder == tmp_path / "exp" and options.resume == str(path) and loaded["epoch"] == 2
    options, _ = resolve(monkeypatch, "--resume", "--project", tmp_path)
    assert options.device == "cpu" and options.folder == tmp_path / "exp"
    options, loaded = resolve(monkeypatch, "--epochs", "3")
    assert options.epochs == 3 and loaded is None and options.folder is None


def test_resume_mistakes(tmp_path, monkeypatch):
    path = checkpoint(tmp_path / "exp" / "weights" / "last.pt")
    with pytest.raises(UserError, match="--batch-size is as the run was started"):
        resolve(monkeypatch, "--resume", path, "--batch-size", "8")
    done = checkpoint(tmp_path / "done" / "weights" / "last.pt", finished=True)
    with pytest.raises(UserError, match="is finished, with these weights after epoch 2"):
        resolve(monkeypatch, "--resume", done)
    bare = save_checkpoint(tmp_path / "bare.pt", {"model": {}})
    with pytest.raises(UserError, match="no state of a run"):
        resolve(monkeypatch, "--resume", bare)
