"""Simplified graphs: constants folded, contiguous weights, and a warning where onnxslim is not installed."""

import sys

import numpy as np
import pytest
import torch

from graftdet.models import build_model
from graftdet.models.backends import BACKENDS, ExportOptions
from graftdet.models.backends.receipt.verify import verify
from graftdet.models.backends.tracing.export_module import ExportModule
from graftdet.models.backends.tracing.onnx_tracing import simplified, trace_to_onnx

onnx = pytest.importorskip("onnx")
BACKEND = BACKENDS["onnx"]
SIZE_OPERATIONS = {"Shape", "Gather", "Range", "ConstantOfShape", "Identity", "Constant", "Mod", "Expand"}


def operations(path):
    return {node.op_type for node in onnx.load(str(path)).graph.node}


@pytest.mark.parametrize("name", ["yolov5n.yaml", "graft-p.yaml"])
def test_a_fixed_file_computes_no_sizes(name, tmp_path):
    """Grid and anchors are constants; readers such as OpenCV 4.5 know no operations on shapes."""
    pytest.importorskip("onnxslim")
    model, options = build_model(name, nc=3).eval(), ExportOptions((64, 64))
    path = BACKEND.export(model, tmp_path / "a.onnx", options)
    assert not operations(path) & SIZE_OPERATIONS
    graph = onnx.load(str(path)).graph
    ranks = {value.name: len(value.dims) for value in graph.initializer}
    for node in graph.node:  # constants of another rank are broadcast wrongly by OpenCV before 4.9
        if node.op_type in ("Mul", "Add", "Sub"):
            assert not {ranks[name] for name in node.input if name in ranks} & {1, 2}, node


def test_without_onnxslim_a_warning_names_it_and_the_file_is_right(model, tmp_path, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "onnxslim", None)
    options = ExportOptions((64, 96))
    path = BACKEND.export(model, tmp_path / "a.onnx", options)
    assert "pip install onnxslim" in caplog.text
    assert verify(model, BACKEND.load(path), path, options) < 1e-4


def test_exported_weights_are_contiguous(model):
    module = ExportModule(model.to(memory_format=torch.channels_last))
    assert all(tensor.is_contiguous() for tensor in module.state_dict().values())


def test_heads_without_objectness_rank_by_it(tmp_path):
    model = build_model("graft-p.yaml", nc=3).eval()
    with torch.no_grad():
        for _, classes in model.head.output_biases():
            classes.copy_(torch.tensor([0.0, 1.0, -1.0]))
    path = BACKEND.export(model, tmp_path / "a.onnx", ExportOptions((64, 64)))
    images = np.random.default_rng(0).random((1, 3, 64, 64), np.float32)
    rows = BACKEND.load(path).predictions(images)
    scores = rows[..., 4:5] * rows[..., 5:]
    np.testing.assert_allclose(rows[..., 4], scores.max(-1), atol=1e-6)
    assert rows[..., 4].max() < 0.9 and abs(rows[..., 5:].max(-1) - 1).max() < 1e-5
    with torch.no_grad():
        np.testing.assert_allclose(scores, model(torch.from_numpy(images))[1], atol=1e-5)


@pytest.mark.parametrize("opset", [12, 17])
def test_axes_are_inserted_one_by_one(opset):
    """OpenCV 4 reads no Unsqueeze of several axes, which onnxslim makes of two."""
    pytest.importorskip("onnxslim")
    gate = torch.nn.Module()
    gate.forward = lambda x: x.mean((2, 3)).unsqueeze(-1).unsqueeze(-1) * x
    x = torch.rand(1, 3, 4, 4)
    traced = trace_to_onnx(gate, (x,), opset_version=opset, input_names=["x"], output_names=["y"])
    data = simplified(traced, False)
    graph = onnx.load_model_from_string(data)
    onnx.checker.check_model(graph)
    assert [node.op_type for node in graph.graph.node].count("Unsqueeze") == 2
    read = {name for node in graph.graph.node for name in node.input}
    assert {tensor.name for tensor in graph.graph.initializer} <= read
    session = pytest.importorskip("onnxruntime").InferenceSession(data, providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(session.run(None, {"x": x.numpy()})[0], gate(x).numpy(), rtol=1e-5)


@pytest.mark.parametrize("has_onnxslim", [True, False])
def test_zeros_around_a_pool_of_negative_values(has_onnxslim, monkeypatch):
    """onnxruntime would take the padding of the pool, minus infinity, for that of the row before it, zero."""
    onnxruntime = pytest.importorskip("onnxruntime")
    if has_onnxslim:
        pytest.importorskip("onnxslim")
    else:
        monkeypatch.setitem(sys.modules, "onnxslim", None)
    pool = torch.nn.Sequential(torch.nn.ZeroPad2d((0, 1, 0, 1)), torch.nn.MaxPool2d(2, 1))
    x = -torch.rand(1, 3, 4, 4) - 1
    traced = trace_to_onnx(pool, (x,), opset_version=17, input_names=["x"], output_names=["y"])
    session = onnxruntime.InferenceSession(simplified(traced, False), providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(session.run(None, {"x": x.numpy()})[0], pool(x).numpy(), atol=1e-6)
