"""Files that cost much, or end the process that opens them, do so in a process of their own."""

import hashlib
import itertools
import json
import signal
import sys

import numpy as np
import pytest

from graftdet.models.backends import BACKENDS
from graftdet.models.backends.limits import trial
from graftdet.models.backends.limits.trial import remember, try_out
from graftdet.models.backends.loading import load_model
from graftdet.utils.errors import UserError
from graftdet.utils.untrusted import limits


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GRAFTDET_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(limits, "_factor", 1)
    return tmp_path / "cache" / "tried"


def write_onnx(path, nodes, constants):
    onnx = pytest.importorskip("onnx")
    image, rows = (
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
        for name, shape in (("images", [1, 3, 64, 64]), ("output0", [1, 63, 7]))
    )
    ends = [
        onnx.helper.make_node("ReduceMax", ["large"], ["most"], keepdims=0),
        onnx.helper.make_node("Add", ["rows", "most"], ["output0"]),
    ]
    values = {"rows": np.zeros((1, 63, 7), np.float32), **constants}
    tensors = [onnx.numpy_helper.from_array(np.asarray(value), name) for name, value in values.items()]
    graph = onnx.helper.make_graph([*nodes, *ends], "graph", [image], [rows], tensors)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    metadata = {"made_by": "graftdet", "nc": "2", "stride": "32", "size": "[64, 64]", "names": "['a', 'b']"}
    onnx.helper.set_model_props(model, metadata)
    path.write_bytes(model.SerializeToString())
    return path


def doubled(times):
    node = pytest.importorskip("onnx").helper.make_node
    names = ["small", *map(str, range(times - 1)), "large"]
    return [node("Concat", [a, a], [b], axis=0) for a, b in itertools.pairwise(names)]


@pytest.mark.skipif(sys.platform != "linux", reason="memory is limited on Linux")
def test_files_that_ask_for_gigabytes_are_refused(tmp_path, cache):
    pytest.importorskip("onnxruntime")
    path = write_onnx(tmp_path / "a.onnx", doubled(32), {"small": np.ones(4, np.float32)})
    with pytest.raises(UserError, match=r"a\.onnx: .*alloc"):
        load_model(path)
    assert not cache.exists()


def test_files_that_pass_are_tried_once(tmp_path, cache, monkeypatch):
    pytest.importorskip("onnxruntime")
    path = write_onnx(tmp_path / "a.onnx", doubled(2), {"small": np.ones(4, np.float32)})
    assert load_model(path).names == ["a", "b"]
    assert len(list(cache.iterdir())) == 1
    for name in ("SECONDS", "SECONDS_PER_BYTE", "CLOCK_SECONDS"):
        monkeypatch.setattr(trial, name, 0.0)
    load_model(path)
    path.write_bytes(path.read_bytes() + b"\x2a\x00")  # an empty name of a domain
    with pytest.raises(UserError, match=r"opening and running it takes more than 0 seconds; .*--allow-large"):
        try_out(path, BACKENDS["onnx"])
    remember(path, BACKENDS["onnx"])
    try_out(path, BACKENDS["onnx"])
    path.unlink()
    limits.allow_large()
    try_out(path, BACKENDS["onnx"])


@pytest.mark.skipif(not hasattr(signal, "SIGSEGV"), reason="the system has no signals")
def test_a_graph_that_crashes_its_runtime_is_one_message(tmp_path):
    pytest.importorskip("ncnn")
    folder = tmp_path / "a_ncnn_model"
    folder.mkdir()
    contents = {
        "model.ncnn.param": b"7767517\n2 2\nInput in0 0 1 in0\nLRN a 1 1 in0 out0 0=0 1=0\n",
        "model.ncnn.bin": bytes(100),
    }
    for name, data in contents.items():
        (folder / name).write_bytes(data)
    metadata = {"made_by": "graftdet", "nc": "2", "stride": "32", "size": "[64, 64]", "names": "['a', 'b']"}
    description = {
        "input": [1, 3, 64, 64],
        "outputs": [["output0", [1, 63, 7]]],
        "metadata": metadata,
        "sha256": {name: hashlib.sha256(data).hexdigest() for name, data in contents.items()},
    }
    (folder / "metadata.json").write_text(json.dumps(description))
    with pytest.raises(UserError, match=r"a_ncnn_model: ncnn crashes on it \(SIG[A-Z]+\)"):
        load_model(folder)


def test_a_loop_without_end_is_left(tmp_path, monkeypatch):
    torch = pytest.importorskip("torch")
    module = type("Endless", (torch.jit.ScriptModule,), {})()
    module.define("def forward(self, x):\n    while bool((x > -1).any()):\n        x = x + 1\n    return x\n")
    description = {"input": [1, 3, 64, 64], "outputs": [["output0", [1, 63, 7]]], "metadata": {"made_by": "graftdet"}}
    description["metadata"] |= {"nc": "2", "size": "[64, 64]"}
    path = tmp_path / "a.torchscript"
    torch.jit.save(module, str(path), _extra_files={"graftdet.json": json.dumps(description)})
    monkeypatch.setattr(trial, "SECONDS", 3.0)
    with pytest.raises(UserError, match="takes more than 3 seconds"):
        load_model(path)
