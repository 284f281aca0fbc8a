"""int8 by NNCF: which layers stay in float32, metadata, and the order of the methods."""

import subprocess
import sys

import numpy as np
import pytest

from graftdet.models import ModelSpec, build_model
from graftdet.models.backends import BACKENDS, ExportOptions
from graftdet.models.backends import nncf_quantization as module
from graftdet.models.backends.quantization import METHODS, export_int8, float_nodes, methods_for
from graftdet.models.weights.transfer import build_from_weights
from graftdet.models.weights.weights_file import load_weights
from graftdet.utils.errors import UserError

OPTIONS = ExportOptions((64, 64))


@pytest.fixture(scope="module")
def trained(tiny_weights):
    return build_from_weights(load_weights(tiny_weights)).eval()


@pytest.fixture(scope="module")
def images():
    return [np.random.default_rng(seed).integers(0, 255, (60, 70, 3), np.uint8) for seed in range(4)]


def test_the_file_is_quantized_but_for_the_last_layers(trained, images, tmp_path):
    pytest.importorskip("nncf")
    path = export_int8(trained, "openvino", tmp_path / "a.xml", OPTIONS, images, "nncf")
    assert sorted(one.name for one in tmp_path.iterdir()) == ["a.bin", "a.xml"]
    network = module.import_without_telemetry("openvino").Core().read_model(path)
    kept = set(module.float_operations(network))
    kinds = {}
    for one in network.get_ordered_ops():
        if one.get_type_name().endswith("Convolution"):
            weights = one.input_value(1).get_node()
            while weights.get_type_name() != "Constant":
                weights = weights.input_value(0).get_node()
            kinds[one.get_friendly_name()] = weights.get_element_type().get_type_name() == "i8"
    assert len(kinds) > 10 and {name for name, is_int8 in kinds.items() if not is_int8} == set(kinds) & kept
    assert len(set(kinds) & kept) == 2  # one per level of the head
    source = BACKENDS["openvino"].export(trained, tmp_path / "float.xml", OPTIONS)
    loaded, reference = (BACKENDS["openvino"].load(one) for one in (path, source))
    assert loaded.metadata == reference.metadata and loaded.names == trained.names
    batch = np.stack([image[:60, :60].transpose(2, 0, 1) for image in images[:1]])
    assert 0 < abs(loaded.forward(batch)[1] - reference.forward(batch)[1]).mean() < 0.05


DYNAMIC = """
nc: 2
backbone: [[-1, 1, Conv, [8, 3, 2]], [-1, 1, C3_GhostModule, [16]], [-1, 1, Conv, [16, 3, 2]], [-1, 1, Conv, [16]]]
head: [[[3], 1, AnchorFreeDetect, {nc: nc}]]
"""


def test_products_of_matrices_stay_in_float32(images, tmp_path):
    """Kernels that a dynamic convolution mixes for each image are an activation, of one scale for all channels."""
    pytest.importorskip("nncf")
    model = build_model(ModelSpec.from_text(DYNAMIC, "dynamic.yaml")).eval()
    path = export_int8(model, "openvino", tmp_path / "a.xml", OPTIONS, images, "nncf")
    network = module.import_without_telemetry("openvino").Core().read_model(path)
    products = [one for one in network.get_ordered_ops() if one.get_type_name() == "MatMul"]
    inputs = [one.input_value(port).get_node().get_type_name() for one in products for port in (0, 1)]
    assert len(products) > 4 and "FakeQuantize" not in inputs
    onnx = pytest.importorskip("onnx")
    graph = onnx.load(BACKENDS["onnx"].export(model, tmp_path / "a.onnx", OPTIONS)).graph
    names = {node.name for node in graph.node if node.op_type in ("MatMul", "Gemm")}
    assert len(names) > 4 and names <= set(float_nodes(graph))


def test_activations_stay_one_operation_and_the_graph_is_short(trained, images, tmp_path):
    pytest.importorskip("nncf")
    path = export_int8(trained, "openvino", tmp_path / "a.xml", OPTIONS, images, "nncf")
    network = module.import_without_telemetry("openvino").Core().read_model(path)
    kept, kinds = set(module.float_operations(network)), {}
    for one in network.get_ordered_ops():
        kinds.setdefault(one.get_type_name(), []).append(one)
    assert len(kinds["Swish"]) > 10 and "ShapeOf" not in kinds
    assert all(one.get_friendly_name() in kept for one in kinds["Sigmoid"])  # those of the scores
    for one in kinds["FakeQuantize"]:
        limits = [one.input_value(port).get_node().get_friendly_name() for port in (1, 2, 3, 4)]
        assert limits[:2] == limits[2:]
    assert max(len(one.get_friendly_name()) for one in kinds["Convolution"]) < 6
    assert b"\n\t" not in path.read_bytes()


def test_the_full_range_has_eight_bits_in_the_first_layer(trained, images, tmp_path):
    """Seven bits keep the sums of processors without VNNI from overflowing."""
    pytest.importorskip("nncf")
    largest = {}
    for method in module.METHODS:
        path = export_int8(trained, "openvino", tmp_path / f"{method}.xml", OPTIONS, images, method)
        network = module.import_without_telemetry("openvino").Core().read_model(path)
        first = next(one for one in network.get_ordered_ops() if one.get_type_name() == "Convolution")
        weights = first.input_value(1).get_node()
        while weights.get_type_name() != "Constant":
            weights = weights.input_value(0).get_node()
        largest[method] = int(np.abs(weights.get_data().astype(int)).max())
    assert largest["nncf"] <= 64 < largest["nncf-full-range"] <= 128


def test_nncf_is_imported_without_telemetry():
    pytest.importorskip("nncf")
    code = (
        "import sys\nfrom graftdet.models.backends.nncf_quantization import import_without_telemetry\n"
        "import_without_telemetry('nncf')\nassert 'openvino_telemetry' not in sys.modules\n"
        "from nncf.telemetry.wrapper import telemetry\nprint(type(telemetry).__name__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip().endswith("Mock"), done.stderr


def test_the_order_of_the_methods(monkeypatch):
    monkeypatch.setattr(module, "is_installed", lambda: True)
    assert methods_for("openvino") == [*module.METHODS, *METHODS] and methods_for("onnx") == list(METHODS)
    monkeypatch.setattr(module, "is_installed", lambda: False)
    assert methods_for("openvino") == list(METHODS)


def test_without_the_package(trained, images, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "nncf", None)
    with pytest.raises(UserError, match="a.xml: needs nncf; install it with 'pip install nncf'"):
        export_int8(trained, "openvino", tmp_path / "a.xml", OPTIONS, images, "nncf")
