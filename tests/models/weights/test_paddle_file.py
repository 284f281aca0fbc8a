"""Files of PaddlePaddle: arrays of every spelling, torch's names, refusal of anything else. Nothing is executed."""

import os
import pickle

import numpy as np
import pytest
import torch

from graftdet.models import BLOCKS
from graftdet.models.weights.paddle_file import read_paddle
from graftdet.models.weights.weights_file import load_weights
from graftdet.utils.errors import UserError


def write(path, content, protocol=4):
    path.write_bytes(pickle.dumps(content, protocol))
    return path


class Variable:
    """Pickles as newer versions of PaddlePaddle pickle a tensor: as tuple((name, array))."""

    def __init__(self, array):
        self.array = array

    def __reduce__(self):
        return tuple, (("conv2d_0.w_0", self.array),)


class Attack:
    def __reduce__(self):
        return os.mkdir, ("executed",)


@pytest.mark.parametrize("protocol", [2, 3, 4])
@pytest.mark.parametrize("wrap", [np.asarray, Variable])
def test_arrays_of_all_protocols_are_read_under_torchs_names(tmp_path, protocol, wrap):
    random = np.random.default_rng(0)
    arrays = {
        "conv1.conv.weight": random.random((4, 3, 3, 3), np.float32),
        "conv1.bn._mean": random.random(4, np.float32),
        "conv1.bn._variance": random.random(4).astype(np.float16),
        "fc.weight": np.asfortranarray(random.random((4, 5))),
        "steps": np.asarray(7, np.int64),
    }
    content = {name: wrap(array) for name, array in arrays.items()}
    path = write(tmp_path / "lcnet.pdparams", content | {"StructuredToParameterName@@": {"a": "b"}}, protocol)
    state = load_weights(path).state
    expected = ["conv1.conv.weight", "conv1.bn.running_mean", "conv1.bn.running_var", "fc.weight", "steps"]
    assert list(state) == expected and state["steps"] == 7
    for name, (old, array) in zip(expected[:4], arrays.items(), strict=False):
        wanted = array.T if old == "fc.weight" else array  # stored as (in, out)
        assert state[name].dtype == torch.float32
        np.testing.assert_array_equal(state[name].numpy(), wanted.astype(np.float32))


def test_a_whole_backbone_comes_back_equal(tmp_path):
    own = BLOCKS["MobileNetV1"](3, 0.25).state_dict()
    paddle = {"running_mean": "_mean", "running_var": "_variance"}
    content = {}
    for name, tensor in own.items():
        layer, _, kind = name.rpartition(".")
        if kind != "num_batches_tracked":  # which PaddlePaddle does not have
            content[f"{layer}.{paddle.get(kind, kind)}"] = tensor.numpy()
    state = read_paddle(write(tmp_path / "x.pdparams", content)).state
    assert state.keys() == {name for name in own if not name.endswith("num_batches_tracked")}
    assert all(torch.equal(state[name], own[name]) for name in state)


@pytest.mark.parametrize("protocol", [2, 4])
def test_anything_but_arrays_is_refused_and_not_executed(tmp_path, monkeypatch, protocol):
    monkeypatch.chdir(tmp_path)
    path = write(tmp_path / "x.pdparams", {"a": np.zeros(2), "b": Attack()}, protocol)
    with pytest.raises(UserError, match=r"x\.pdparams: refused: it names '\w+\.mkdir'.*nothing in it was executed"):
        load_weights(path)
    with pytest.raises(UserError, match=r"array of an unknown type"):
        load_weights(write(path, {"a": np.array([None], dtype=object)}, protocol))
    assert not (tmp_path / "executed").exists()


def test_damaged_and_empty_files_are_reported(tmp_path):
    path = write(tmp_path / "x.pdparams", {"a": np.arange(100.0)})
    data = path.read_bytes()
    path.write_bytes(data[:-40])
    with pytest.raises(UserError, match=r"x\.pdparams: is truncated or malformed"):
        load_weights(path)
    path.write_bytes(data.replace(b"K\x64\x85", b"K\x65\x85"))  # a shape of 101
    with pytest.raises(UserError, match=r"array of shape \(101,\) holds 800 bytes"):
        load_weights(path)
    for content in ({}, [1], {"a": 1}):
        with pytest.raises(UserError, match=r"x\.pdparams: holds no arrays"):
            load_weights(write(path, content))


def test_many_names_of_one_array_are_limited(tmp_path):
    array = np.ones(100_000, np.float32)
    assert len(read_paddle(write(tmp_path / "few.pdparams", {str(name): array for name in range(4)})).state) == 4
    with pytest.raises(UserError, match="arrays are much larger than the file"):
        read_paddle(write(tmp_path / "many.pdparams", {str(name): array for name in range(40)}))
