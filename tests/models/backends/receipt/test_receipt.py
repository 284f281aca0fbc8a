"""Receipts: what is compared, which limits fail, and that nothing half-made stays."""

import json
from dataclasses import replace

import numpy as np
import pytest

from graftdet.models.backends import BACKENDS, ExportError, ExportOptions
from graftdet.models.backends.receipt.receipt import SUFFIX, Limits, default_limits, receipt_table
from graftdet.models.backends.receipt.verified_export import Evidence, export_verified
from graftdet.models.weights.transfer import build_from_weights
from graftdet.models.weights.weights_file import load_weights

pytest.importorskip("onnxruntime")
OPTIONS = ExportOptions((64, 96), dynamic=True)


@pytest.fixture(scope="module")
def images():
    random = np.random.default_rng(0)
    return [random.integers(0, 255, (height, 80, 3), np.uint8) for height in (60, 70, 40)]


@pytest.fixture
def trained(tiny_weights):
    return build_from_weights(load_weights(tiny_weights)).eval()


def test_a_receipt_states_what_was_compared(trained, images, tiny_weights, tmp_path):
    ap = {None: 0.5}
    limits = Limits(matched=0.9)  # random weights have many boxes of the same score
    evidence = Evidence(tiny_weights, images, "three", "data, val", lambda path: ap.get(path, 0.498), limits)
    path = tmp_path / "best.onnx"
    loaded, receipt = export_verified(trained, "onnx", path, OPTIONS, evidence)
    assert loaded.path == path and sorted(p.name for p in tmp_path.iterdir()) == ["best.onnx", f"best.onnx{SUFFIX}"]
    content = json.loads((tmp_path / f"best.onnx{SUFFIX}").read_text())
    assert {tuple(shape) for shape in content["inputs"]} == {
        (1, 3, 64, 96),
        (2, 3, 80, 112),
        (1, 3, 64, 96),
        (2, 3, 80, 112),
    }
    assert content["boxes"] > 10 and content["matched"] > 0.9 * content["boxes"] and content["difference"] < 1e-4
    assert content["passed"] and content["ap"] == {"torch": 0.5, "file": 0.498} and content["images"] == "3 of three"
    assert content["runtime"].startswith("onnxruntime 1.") and len(content["sha256"]) == 64
    assert content["weights_sha256"] == loaded.metadata["weights_sha256"]
    table = receipt_table([receipt])
    assert "0.5000" in table and "0.4980" in table and f"{receipt.matched} of {receipt.boxes}" in table


@pytest.mark.parametrize(
    ("limits", "average_precision", "message"),
    [
        (Limits(difference=-1.0), None, r"largest \|a-b\|/max\(1,\|b\|\) is .*, allowed is -1e\+00"),
        (Limits(matched=1.1), None, "detections match, expected are 110%"),
        (Limits(), lambda path: 0.5 if path is None else 0.49, "AP50-95 is 0.4900 instead of 0.5000"),
    ],
)
def test_nothing_stays_of_a_file_that_misses_a_limit(
    trained, tiny_weights, tmp_path, limits, average_precision, message
):
    path = tmp_path / "best.onnx"
    path.write_text("the previous file")
    evidence = Evidence(tiny_weights, average_precision=average_precision, limits=limits)
    with pytest.raises(ExportError, match=message):
        export_verified(trained, "onnx", path, replace(OPTIONS, dynamic=False), evidence)
    assert [p.name for p in tmp_path.iterdir()] == ["best.onnx"] and path.read_text() == "the previous file"


def test_detections_of_a_file_with_nms_inside_are_compared(trained, images, tiny_weights, tmp_path):
    options = replace(OPTIONS, dynamic=False, output="nms")
    _, receipt = export_verified(trained, "onnx", tmp_path / "a.onnx", options, Evidence(tiny_weights))
    assert receipt.matched > 0.9 * receipt.boxes > 5 and 0 < receipt.difference < 1e-2


def test_a_file_of_other_weights_fails(trained, images, tiny_weights, tmp_path, monkeypatch):
    backend = BACKENDS["onnx"]
    other = build_from_weights(load_weights(tiny_weights)).eval()
    other.head.m[0].bias.data += 0.5

    def export(model, path, options):
        return backend.export(other, path, options)

    monkeypatch.setitem(BACKENDS._entries, "onnx", replace(backend, export=export))
    with pytest.raises(ExportError, match="differs from the model"):
        export_verified(trained, "onnx", tmp_path / "a.onnx", OPTIONS, Evidence(tiny_weights, images))
    assert list(tmp_path.iterdir()) == []


def test_boxes_of_drawn_images_are_a_limit_only_where_values_cannot_be_compared():
    assert default_limits("decoded", drawn=True).matched is None and default_limits("decoded", drawn=True).difference
    assert default_limits("nms", drawn=True).matched == 0.9
    assert default_limits("decoded", drawn=False).matched == 0.98
