"""Exported files that declare gigabytes are refused before memory is taken."""

import importlib.util
import resource

import numpy as np
import pytest

from graftdet.models.backends import BACKENDS
from graftdet.models.backends.limits.onnx_constants import largest_constant_shape
from graftdet.models.backends.limits.size_limits import check_label
from graftdet.utils.errors import UserError

onnx = pytest.importorskip("onnx")
OWN = {"made_by": "graftdet", "nc": "80", "names": "{}", "size": "[64, 64]", "stride": "32"}


def make_file(path, metadata=None, size=(64, 64), rows=10, columns=85, shape=None, kind="ConstantOfShape"):
    """An ONNX file whose output (1, rows, columns) is a constant of `shape`, times the largest value of the input."""
    helper = onnx.helper
    shape = shape or [1, rows, columns]
    image = helper.make_tensor_value_info("images", 1, [1, 3, *size])
    output = helper.make_tensor_value_info("output0", 1, [1, rows, columns])
    constants = [helper.make_tensor("shape", 7, [len(shape)], shape), helper.make_tensor("one", 1, [1], [1.0])]
    nodes = [
        helper.make_node("ReduceMax", ["images"], ["top"], keepdims=0),
        helper.make_node(kind, ["shape"] if kind == "ConstantOfShape" else ["one", "shape"], ["constant"]),
        helper.make_node("Mul", ["top", "constant"], ["output0"]),
    ]
    graph = helper.make_graph(nodes, "g", [image], [output], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, metadata or {})
    onnx.save(model, path)
    return path


CASES = {
    "constant": ({"shape": [1, 40_000, 40_000], "rows": 40_000, "columns": 40_000}, "more than the limit"),
    "expand": ({"shape": [40_000, 40_000, 1], "kind": "Expand", "rows": 40_000}, "more than the limit"),
    "tile": ({"shape": [100_000], "kind": "Tile", "rows": 100_000}, "more than the limit"),
    "input": ({"size": (30_000, 30_000)}, "its input has 2700000000 numbers"),
    "nc": ({"metadata": OWN | {"nc": "1000000000"}}, "its 'nc' is 1e\\+09"),
    "columns": ({"metadata": OWN | {"nc": "90000"}}, "its output has 85 columns, expected 90005"),
    "metadata": ({"metadata": OWN | {"names": "[" + "1," * 2**23 + "]"}}, "its 'names' has 16777218 characters"),
    "size": ({"metadata": OWN | {"size": "[100000, 100000]"}}, "its size is 100000x100000"),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("backend", ["onnx", "openvino"])
def test_file_that_declares_gigabytes(case, backend, tmp_path):
    pytest.importorskip({"onnx": "onnxruntime"}.get(backend, backend))
    arguments, message = CASES[case]
    path = make_file(tmp_path / "a.onnx", **arguments)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UserError, match=message):
        BACKENDS[backend].load(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 400_000  # KiB


def test_file_of_ordinary_size_is_accepted(tmp_path):
    pytest.importorskip("onnxruntime")
    model = BACKENDS["onnx"].load(make_file(tmp_path / "a.onnx", metadata=OWN))
    assert model.nc == 80 and model.predictions(np.zeros((1, 3, 64, 64), np.uint8)).shape == (1, 10, 85)


def test_shape_of_a_constant_node(tmp_path):
    helper = onnx.helper
    value = helper.make_tensor("v", 7, [2], np.array([300, -70_000]).tobytes(), raw=True)
    nodes = [
        helper.make_node("Constant", [], ["shape"], value=value),
        helper.make_node("ConstantOfShape", ["shape"], ["out"]),
    ]
    graph = helper.make_graph(nodes, "g", [], [helper.make_tensor_value_info("out", 1, [None, None])])
    assert largest_constant_shape(helper.make_model(graph).SerializeToString()) == 300 * 70_000


@pytest.mark.parametrize("data", [b"", b"\x3a\x05ab", b"\x3f", b"\xff" * 20, b"no protobuf"])
def test_malformed_files_have_no_shapes(data):
    assert largest_constant_shape(data) == 0


def test_class_index_that_no_detector_has():
    check_label("a.onnx", 79)
    with pytest.raises(UserError, match="detects class 1000000"):
        check_label("a.onnx", 1_000_000)


def test_constant_of_an_openvino_graph(tmp_path, monkeypatch):
    if importlib.util.find_spec("openvino") is None:
        pytest.skip("openvino is not installed")
    path = make_file(tmp_path / "a.onnx", shape=[1, 30_000, 30_000], rows=None, columns=None)
    monkeypatch.setattr("graftdet.models.backends.openvino.check_onnx_file", lambda path: None)
    with pytest.raises(UserError, match="constant 'constant' has 900000000 numbers"):
        BACKENDS["openvino"].load(path)


def make_loop(path, count):
    """An ONNX file that copies its input `count` times in a loop."""
    helper, value = onnx.helper, onnx.helper.make_tensor_value_info
    nodes = [helper.make_node("Identity", [a], [b]) for a, b in (("again", "again_out"), ("x", "x_out"))]
    given = [value("i", 7, []), value("again", 9, []), value("x", 1, None)]
    body = helper.make_graph(nodes, "body", given, [value("again_out", 9, []), value("x_out", 1, None)])
    loop = helper.make_node("Loop", ["count", "true", "images"], ["looped"], body=body)
    reshape = helper.make_node("Reshape", ["looped", "shape"], ["output0"])
    constants = [helper.make_tensor("count", 7, [], [count]), helper.make_tensor("true", 9, [], [True])]
    constants.append(helper.make_tensor("shape", 7, [3], [1, -1, 6]))
    image, output = value("images", 1, [1, 3, 64, 64]), value("output0", 1, [1, 2048, 6])
    graph = helper.make_graph([loop, reshape], "g", [image], [output], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, OWN | {"nc": "1", "names": '{"0": "a"}'})
    onnx.save(model, path)
    return path


def test_a_loop_without_end_is_ended(tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime")
    from graftdet.models.backends import onnx as backend

    monkeypatch.setattr(backend, "LOOP_SECONDS", 0.5)
    images = np.zeros((1, 3, 64, 64), np.float32)
    BACKENDS["onnx"].load(make_loop(tmp_path / "a.onnx", 2))._run(images)
    with pytest.raises(UserError, match="onnxruntime fails on an input of 1x3x64x64 .*terminate"):
        BACKENDS["onnx"].load(make_loop(tmp_path / "b.onnx", 2**60))._run(images)


def test_openvino_runs_no_loops(tmp_path):
    if importlib.util.find_spec("openvino") is None:
        pytest.skip("openvino is not installed")
    for count in (2, 2**60):
        with pytest.raises(
            UserError, match="a.onnx: loop '.*' may never end in OpenVINO; run the .onnx by onnxruntime"
        ):
            BACKENDS["openvino"].load(make_loop(tmp_path / "a.onnx", count))
