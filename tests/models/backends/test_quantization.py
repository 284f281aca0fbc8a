"""int8: what is quantized, what stays in float32, and the loss that is allowed."""

import importlib.util
import logging

import numpy as np
import pytest

from graftdet.models.backends import BACKENDS, ExportError, ExportOptions
from graftdet.models.backends.quantization import export_int8, float_nodes, layer_sensitivity
from graftdet.models.backends.receipt.receipt import Limits
from graftdet.models.backends.receipt.verified_export import Evidence, export_verified
from graftdet.models.weights.transfer import build_from_weights
from graftdet.models.weights.weights_file import load_weights
from graftdet.utils.errors import UserError

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
OPTIONS = ExportOptions((64, 64))


@pytest.fixture
def trained(tiny_weights):
    return build_from_weights(load_weights(tiny_weights)).eval()


@pytest.fixture(scope="module")
def images():
    return [np.random.default_rng(seed).integers(0, 255, (60, 70, 3), np.uint8) for seed in range(4)]


def test_the_last_convolutions_and_the_decoding_stay_in_float32(trained, images, tmp_path, caplog):
    source = BACKENDS["onnx"].export(trained, tmp_path / "float.onnx", OPTIONS)
    graph = onnx.load(source).graph
    kept = set(float_nodes(graph))
    convolutions = [node.name for node in graph.node if node.op_type == "Conv"]
    last = [name for name in convolutions if name in kept]
    assert len(last) == 2 and all("/model.8/m." in name for name in last)  # one per level of the head
    assert graph.node[-1].name in kept and graph.node[0].name not in kept
    handlers = logging.getLogger().handlers[:]
    path = export_int8(trained, "onnx", tmp_path / "int8.onnx", OPTIONS, images, "minmax")
    assert logging.getLogger().handlers == handlers
    quantized = onnx.load(path).graph
    int8 = [one for one in quantized.initializer if one.data_type == onnx.TensorProto.INT8 and len(one.dims) == 4]
    assert len(int8) == len(convolutions) - 2
    scales = {len(one.dims) and one.dims[0] for one in quantized.initializer if one.data_type == 1}
    assert {one.dims[0] for one in int8} <= scales  # one scale per output channel
    loaded, reference = BACKENDS["onnx"].load(path), BACKENDS["onnx"].load(source)
    before = {key: value for key, value in reference.metadata.items() if key != "file_sha256"}
    assert before.items() <= loaded.metadata.items() and not caplog.records  # with a new digest
    batch = np.stack([image[:60, :60].transpose(2, 0, 1) for image in images[:1]])
    batch = np.pad(batch, ((0, 0), (0, 0), (2, 2), (2, 2)))
    (boxes, scores), (expected_boxes, expected) = loaded.forward(batch), reference.forward(batch)
    assert 0 < abs(scores - expected).mean() < 0.15 and abs(boxes - expected_boxes).mean() < 4


def test_the_loss_decides_and_the_layers_are_listed(trained, images, tiny_weights, tmp_path, caplog):
    ap = {None: 0.5}
    evidence = Evidence(
        tiny_weights,
        images,
        data="data, val",
        average_precision=lambda path: ap.get(path, 0.47 if "moving" in str(path) else 0.48),
        limits=Limits(None, None, 0.03),
        calibration=images,
    )
    _, receipt = export_verified(trained, "onnx", tmp_path / "a.onnx", OPTIONS, evidence)
    assert (
        receipt.precision == "int8"
        and receipt.method == "minmax"
        and receipt.calibration == "minmax on 4 images"
        and receipt.ap["file"] == 0.48
    )
    (tmp_path / "a.onnx").unlink(), (tmp_path / "a.onnx.receipt.json").unlink()
    lenient = Evidence(**{**vars(evidence), "limits": Limits(None, None, 0.05), "accepted_loss": 0.04})
    assert export_verified(trained, "onnx", tmp_path / "a.onnx", OPTIONS, lenient)[1].method == "moving-average"
    (tmp_path / "a.onnx").unlink(), (tmp_path / "a.onnx.receipt.json").unlink()
    strict = Evidence(**{**vars(evidence), "limits": Limits(None, None, 0.01)})
    with pytest.raises(ExportError, match=r"AP50-95 is 0.4800 instead of 0.5000, allowed is a loss of 0.01"):
        export_verified(trained, "onnx", tmp_path / "a.onnx", OPTIONS, strict)
    assert "layer quantized alone" in caplog.text and "/conv/Conv  " in caplog.text
    assert list(tmp_path.iterdir()) == []


def test_sensitivity_is_sorted(trained, images, tmp_path):
    source = BACKENDS["onnx"].export(trained, tmp_path / "float.onnx", OPTIONS)
    found = layer_sensitivity(source, images, OPTIONS)
    assert len(found) > 5 and found[0].difference > found[-1].difference >= 0


def test_openvino_runs_the_same_graph(trained, images, tmp_path):
    if importlib.util.find_spec("openvino") is None:
        pytest.skip("openvino is not installed")
    paths = [tmp_path / name for name in ("a.onnx", "a.xml")]
    for name, path in zip(("onnx", "openvino"), paths):
        export_int8(trained, name, path, OPTIONS, images, "moving-average")
    batch = np.zeros((1, 3, 64, 64), np.uint8)
    batch[..., 20:40, 20:40] = 200
    (_, scores), (_, other) = (
        BACKENDS[name].load(path).forward(batch) for name, path in zip(("onnx", "openvino"), paths)
    )
    assert abs(scores - other).mean() < 0.05


def test_requests_that_cannot_be_met(trained, images, tmp_path):
    with pytest.raises(UserError, match="--int8: needs --opset 13"):
        export_int8(trained, "onnx", tmp_path / "a.onnx", ExportOptions((64, 64), opset=12), images, "minmax")
    with pytest.raises(UserError, match="formats onnx and openvino, not torchscript"):
        export_int8(trained, "torchscript", tmp_path / "a.onnx", OPTIONS, images, "minmax")
    assert list(tmp_path.iterdir()) == []
