"""Checkpoints: plain data is saved and loaded, files are written completely or not at all, and their code is never run."""

import os
import pickle
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from graftdet.utils.checkpoint import ForeignCheckpoint, load_checkpoint, save_checkpoint, to_plain
from graftdet.utils.errors import UserError
from graftdet.utils.hyperparameters import Hyperparameters


def test_round_trip_of_a_training_state(tmp_path):
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    model(torch.rand(4, 3)).sum().backward()
    optimizer.step()
    content = {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "best": np.float64(0.5),
        "epoch": np.int64(3),
        "names": ("a", "b"),
        "options": SimpleNamespace(project=Path("runs") / "träin", freeze=[1]),
        "hyperparameters": Hyperparameters(),
        "curve": np.arange(3),
        "device": torch.device("cpu"),
    }
    path = save_checkpoint(tmp_path / "a folder" / "läst.pt", content)
    back = load_checkpoint(path)
    assert back["format"] == "graftdet" and back["version"] == 1
    assert (back["best"], back["epoch"], back["names"], back["curve"]) == (0.5, 3, ("a", "b"), [0, 1, 2])
    assert back["options"]["freeze"] == [1] and isinstance(back["options"]["project"], str)
    assert back["hyperparameters"]["lr0"] == 0.01 and back["device"] == "cpu"
    for name, tensor in model.state_dict().items():
        assert torch.equal(back["model"][name], tensor)
    torch.optim.SGD(model.parameters(), lr=1).load_state_dict(back["optimizer"])
    torch.load(path, weights_only=True)  # torch itself agrees that it is plain


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = save_checkpoint(tmp_path / "last.pt", {"epoch": 1})

    def truncated(content, file):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", truncated)
    with pytest.raises(UserError, match="No space left"):
        save_checkpoint(path, {"epoch": 2})
    monkeypatch.undo()
    assert load_checkpoint(path)["epoch"] == 1
    assert os.listdir(tmp_path) == ["last.pt"]


class Evil:
    def __reduce__(self):
        return os.mkdir, (os.environ["EVIL_FOLDER"],)


@pytest.mark.parametrize("how", ["pickle", "torch", "zip with a class"])
def test_nothing_in_a_file_is_run(tmp_path, monkeypatch, how):
    evidence = tmp_path / "evidence"
    monkeypatch.setenv("EVIL_FOLDER", str(evidence))
    path = tmp_path / "evil.pt"
    if how == "pickle":
        path.write_bytes(pickle.dumps(Evil()))
    else:
        torch.save(
            {"format": "graftdet", "version": 1, "x": Evil()}, path, _use_new_zipfile_serialization=how != "torch"
        )
    with pytest.raises(ForeignCheckpoint, match="holds Python objects, not plain data") as error:
        load_checkpoint(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)
    assert not evidence.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file"),
        (b"", "not a checkpoint"),
        (b"\x00\x01 weights", "not a checkpoint"),
        (b"PK\x03\x04 truncated", "not a checkpoint"),
        ("folder", "is a folder"),
        ({"model": {}}, "its format is not 'graftdet'"),
        ([1, 2], "its format is not 'graftdet'"),
        ({"format": "graftdet", "version": 99}, "newer version"),
    ],
)
def test_wrong_files_are_reported_in_one_line(tmp_path, content, message):
    path = tmp_path / "x.pt"
    if content == "folder":
        path.mkdir()
    elif isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(UserError) as error:
        load_checkpoint(path)
    assert message in str(error.value) and str(path) in str(error.value) and "\n" not in str(error.value)


def test_truncated_files_of_any_length_are_reported(tmp_path):
    complete = save_checkpoint(tmp_path / "whole.pt", {"model": {"w": torch.rand(20_000)}}).read_bytes()
    path = tmp_path / "truncated.pt"
    for length in range(0, len(complete), 999):  # below 64 KiB torch may look for a workspace before the file's start
        path.write_bytes(complete[:length])
        with pytest.raises(ForeignCheckpoint, match="truncated, or not a weights file"):
            load_checkpoint(path)


def test_other_objects_than_plain_data_are_refused():
    with pytest.raises(TypeError, match="plain data"):
        to_plain({"x": object()})


def test_missing_weights_of_a_bare_name_are_reported_as_never_downloaded(tmp_path):
    with pytest.raises(UserError, match=r"^nowhere\.pt: no such file; weights are never downloaded"):
        load_checkpoint("nowhere.pt")
    with pytest.raises(UserError, match="no such file$"):
        load_checkpoint(tmp_path / "nowhere.pt")
