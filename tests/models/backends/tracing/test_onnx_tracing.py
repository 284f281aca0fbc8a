"""Simplified graphs: constants folded, contiguous weights, and a warning where onnxslim is not installed."""

import sys

import numpy as np
import pytest
import torch

from graftdet.models import build_model
from graftdet.models.backends import BACKENDS, ExportOptions
from graftdet.models.backends.receipt.verify import verify
from graftdet.models.backends.tracing.export_module import ExportModule

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
