"""Checkpoints: plain data is saved and loaded, files are written completely or not at all, and their code is never run."""

import errno
import os
import pickle
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from graftdet.utils.checkpoint import (
    load_checkpoint,
    load_checkpoint_or_previous,
    non_finite_tensors,
    previous_checkpoint,
    save_checkpoint,
    to_plain,
)
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
    reason = (
        "is not a weights file" if how == "pickle" else "refused: it names '[a-z]+.mkdir', which weights do not need"
    )
    with pytest.raises(UserError, match=reason) as error:
        load_checkpoint(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)
    assert not evidence.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file"),
        (b"", "is empty"),
        (b"\x00\x01 weights", "is not a weights file"),
        (b"PK\x03\x04 truncated", "is truncated or malformed"),
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
        with pytest.raises(UserError, match="is empty|is not a weights file|is truncated or malformed"):
            load_checkpoint(path)


def test_any_changed_byte_of_a_checkpoint_is_noticed(tmp_path):
    path = save_checkpoint(tmp_path / "last.pt", {"model": {"w": torch.rand(2000)}, "epoch": 3})
    complete, random = path.read_bytes(), np.random.default_rng(0)
    positions = {*random.integers(0, len(complete), 200), *range(len(complete) - 120, len(complete)), *range(80)}
    for position in positions:
        changed = bytearray(complete)
        changed[position] ^= 1 << int(random.integers(8))
        path.write_bytes(changed)
        with pytest.raises(UserError, match=r"last\.pt"):
            load_checkpoint(path)
    for start in range(0, len(complete) - 64, 700):
        path.write_bytes(complete[:start] + bytes(4096) + complete[start + 4096 :])
        with pytest.raises(UserError, match=r"last\.pt"):
            load_checkpoint(path)


def test_a_checkpoint_that_torch_saved_again_is_read(tmp_path):
    path = save_checkpoint(tmp_path / "last.pt", {"epoch": 3})
    torch.save({**torch.load(path, weights_only=True), "epoch": 4}, path)
    assert load_checkpoint(path)["epoch"] == 4


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("nc", "80", "its 'nc' is text, expected an integer"),
        ("nc", 0, "its 'nc' is 0, expected at least 1"),
        ("nc", True, "its 'nc' is true or false"),
        ("epoch", 2**70, "its 'epoch' is an integer of more than 64 bits"),
        ("names", {"0": "cat"}, "its 'names' is a mapping, expected a list"),
        ("names", ["cat", 5], "its 'names' has an item that is an integer, expected text"),
        ("model", [1], "its 'model' is a list, expected a mapping"),
        ("options", None, "its 'options' is nothing, expected a mapping"),
        ("version", "1", "written by a newer version"),
    ],
)
def test_values_of_the_wrong_type_are_named(tmp_path, key, value, message):
    path = save_checkpoint(tmp_path / "x.pt", {key: value})
    with pytest.raises(UserError) as error:
        load_checkpoint(path)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_the_previous_checkpoint_replaces_a_damaged_one(tmp_path, caplog):
    path = tmp_path / "last.pt"
    for epoch in range(4):
        save_checkpoint(path, {"epoch": epoch}, keep_previous=True)
        assert load_checkpoint_or_previous(path) == ({"format": "graftdet", "version": 1, "epoch": epoch}, path)
    assert sorted(os.listdir(tmp_path)) == ["last.previous.pt", "last.pt"] and not caplog.text
    path.write_bytes(path.read_bytes()[:-200])
    content, used = load_checkpoint_or_previous(path)
    assert content["epoch"] == 2 and used == previous_checkpoint(path)
    assert "is truncated or malformed" in caplog.text and "last.previous.pt of epoch 2 instead" in caplog.text
    used.unlink()
    with pytest.raises(UserError, match="is truncated or malformed"):
        load_checkpoint_or_previous(path)


def test_the_previous_checkpoint_is_kept_without_hard_links(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    path = tmp_path / "last.pt"
    for epoch in range(3):
        save_checkpoint(path, {"epoch": epoch}, keep_previous=True)
    assert load_checkpoint(path)["epoch"] == 2 and load_checkpoint(previous_checkpoint(path))["epoch"] == 1


def test_non_finite_tensors_are_named():
    state = {
        "a": torch.ones(3),
        "b": torch.tensor([1, float("nan")]),
        "c": torch.tensor(3),
        "d": torch.tensor([-np.inf]),
    }
    assert non_finite_tensors(state) == ["b", "d"]


def test_other_objects_than_plain_data_are_refused():
    with pytest.raises(TypeError, match="plain data"):
        to_plain({"x": object()})


def test_missing_weights_of_a_bare_name_are_reported_as_never_downloaded(tmp_path):
    with pytest.raises(UserError, match=r"^nowhere\.pt: no such file; weights are never downloaded"):
        load_checkpoint("nowhere.pt")
    with pytest.raises(UserError, match="no such file$"):
        load_checkpoint(tmp_path / "nowhere.pt")
