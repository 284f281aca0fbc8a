"""The four ends of an exported graph: every reader gives the detections of torch, and malformed files are refused."""

import itertools
import json

import numpy as np
import pytest
import torch

from graftdet.models import ModelSpec, build_model, load_model
from graftdet.models.backends import BACKENDS, ExportOptions
from graftdet.models.backends.layouts.own_outputs import NAMES, OUTPUTS, OwnOutput
from graftdet.models.backends.layouts.recognition import UnknownLayout
from graftdet.models.backends.receipt.verify import noise_images
from graftdet.models.weights.transfer import build_from_weights
from graftdet.models.weights.weights_file import load_weights
from graftdet.utils.errors import UserError

onnx = pytest.importorskip("onnx")
HEADS = {
    "Detect": "Detect, [nc, anchors]",
    "IDetect": "IDetect, [nc, anchors]",
    "AnchorFreeDetect": "AnchorFreeDetect, [nc]",
    "RTMDetHead": "RTMDetHead, [nc]",
    "OneToOneDetect": "OneToOneDetect, [nc]",
    "PicoHeadV2": "PicoHeadV2, [nc]",
    "DetectX": "DetectX, [nc]",
    "BlazeFaceHead": "BlazeFaceHead, [nc, [2, 1]]",
}


@pytest.fixture(scope="module")
def build(tiny_yaml):
    """`build(head)`: a model with signals at its outputs."""

    def make(head):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            text = tiny_yaml.replace("Detect, [nc, anchors]", HEADS[head])
            model = build_model(ModelSpec.from_text(text, "tiny.yaml"))
            model.names = ["circle", "square", "triangle"]
            with torch.no_grad():
                for _ in range(10):
                    model.train().raw_outputs(torch.rand(2, 3, 64, 64))
                for layer in model.head.modules():
                    if isinstance(layer, torch.nn.Conv2d) and layer.kernel_size == (1, 1):
                        layer.weight *= 5
                for others, classes in model.head.output_biases():
                    classes.zero_()
                    if others.shape[-1] == 5:  # x, y, w, h, objectness
                        others[:, 4] = 0
        return model.eval()

    return make


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("output", ["raw", "split"])
def test_boxes_and_scores_of_torch(build, head, output, tmp_path):
    model = build(head)
    for dynamic in (output == "raw",):
        options = ExportOptions((64, 96), dynamic=dynamic, output=output)
        loaded = load_model(BACKENDS["onnx"].export(model, tmp_path / "a.onnx", options))
        for shape in [(64, 96)] + [(32, 64)] * dynamic:
            images = noise_images(2, shape)
            with torch.no_grad():
                expected = [part.numpy() for part in model(torch.from_numpy(images))]
            found = loaded.forward(images)
            np.testing.assert_allclose(found[0], expected[0], atol=5e-2, rtol=1e-3)
            np.testing.assert_allclose(found[1], expected[1], atol=1e-3)
        assert loaded.needs_nms == model.needs_nms and loaded.names == model.names


@pytest.mark.parametrize(("backend", "output"), itertools.product(["onnx", "openvino"], OUTPUTS))
def test_the_detections_of_torch(tiny_weights, backend, output, tmp_path):
    pytest.importorskip(BACKENDS[backend].package)
    model, reference = build_from_weights(load_weights(tiny_weights)), load_model(tiny_weights)
    image = (255 * noise_images(1, (60, 90))[0].transpose(1, 2, 0)).astype(np.uint8)
    for dynamic in (False, True)[backend == "openvino" :]:
        options = ExportOptions((64, 96), dynamic=dynamic, output=output)
        path = BACKENDS[backend].export(model, tmp_path / f"a{BACKENDS[backend].suffix}", options)
        loaded = load_model(path)
        assert loaded.needs_nms == (output != "nms")
        (found,), (expected,) = (one.predict(image, conf=0.3, imgsz=(64, 96)) for one in (loaded, reference))
        assert 5 < len(found) == len(expected) and (found.labels == expected.labels).all()
        np.testing.assert_allclose(found.scores, expected.scores, atol=1e-4)
        np.testing.assert_allclose(found.boxes, expected.boxes, atol=0.05)
    several = loaded.predict([image, image[::-1], image[:20]], conf=0.3)
    assert [len(one) for one in several] == [
        len(loaded.predict(i, conf=0.3)[0]) for i in (image, image[::-1], image[:20])
    ]


def test_names_and_shapes(build, tmp_path):
    model = build("Detect")
    rows, nc = 3 * (8 * 12 + 4 * 6), 3
    expected = {
        "raw": {"output0": [1, 24, 8, 12], "output1": [1, 24, 4, 6]},
        "split": {"boxes": [1, rows, 4], "scores": [1, rows, nc]},
        "decoded": {"output0": [1, rows, 8]},
        "nms": {"boxes": [1, 20, 4], "scores": [1, 20], "classes": [1, 20], "count": [1]},
    }
    for output, shapes in expected.items():
        options = ExportOptions((64, 96), output=output, max_det=20)
        graph = onnx.load(BACKENDS["onnx"].export(model, tmp_path / "a.onnx", options)).graph
        found = {o.name: [d.dim_value for d in o.type.tensor_type.shape.dim] for o in graph.output}
        assert found == shapes, output
    cells = ExportOptions((64, 96), output="raw", raw_layout="cells")
    path = BACKENDS["onnx"].export(model, tmp_path / "a.onnx", cells)
    images = noise_images(1, (64, 96))
    with torch.no_grad():
        expected = [part.numpy() for part in model(torch.from_numpy(images))]
    loaded = BACKENDS["onnx"].load(path)
    assert [o.shape for o in loaded.session.get_outputs()] == [[1, 3, 96, 8], [1, 3, 24, 8]]
    for a, b in zip(loaded.forward(images), expected, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-2)


def test_metadata_state_the_output_and_the_anchors_in_use(build, tmp_path):
    model = build("Detect")
    model.head.set_anchors(2 * model.head.anchors * torch.tensor(model.head.strides).view(-1, 1, 1))
    path = BACKENDS["onnx"].export(model, tmp_path / "a.onnx", ExportOptions((64, 96), output="raw"))
    metadata = BACKENDS["onnx"].load(path).session.get_modelmeta().custom_metadata_map
    assert metadata["output"] == "raw" and json.loads(metadata["anchors"])[0][0] == [20, 26]
    raw = json.loads(metadata["raw"])
    assert raw["strides"] == [8, 16] and raw["anchors"] == json.loads(metadata["anchors"])
    assert len(metadata["weights_sha256"]) == 64 and json.loads(metadata["letterbox"])["padding"] == 114


def test_requests_that_cannot_be_met(build, tmp_path, monkeypatch):
    table = [
        ("AnchorFreeDetect", {"output": "raw", "raw_layout": "cells"}, "for heads with anchors"),
        ("Detect", {"output": "rows"}, "onnx has raw, split, decoded, nms"),
    ]
    for head, values, message in table:
        with pytest.raises(UserError, match=message):
            BACKENDS["onnx"].export(build(head), tmp_path / "a.onnx", ExportOptions((64, 96), **values))
    model = build("Detect")
    monkeypatch.setattr(type(model.head), "raw_format", lambda self: None)
    with pytest.raises(UserError, match="nothing decodes the raw outputs of Detect"):
        BACKENDS["onnx"].export(model, tmp_path / "a.onnx", ExportOptions((64, 96), output="raw"))
    assert list(tmp_path.iterdir()) == []


RAW = {"decoder": "anchors", "anchors": [[[1, 2]]], "strides": [8]}


@pytest.mark.parametrize(
    ("metadata", "outputs", "message"),
    [
        ({"output": "rows"}, ["output0"], "output 'rows'"),
        ({"output": "split"}, ["boxes"], "expected boxes, scores"),
        ({"output": "raw"}, ["output0"], "'raw' are missing or malformed"),
        ({"output": "raw", "raw": json.dumps({**RAW, "strides": ["x"]})}, ["output0"], "missing or malformed"),
        ({"output": "raw", "raw": json.dumps({**RAW, "decoder": "x"})}, ["output0"], "decoder 'x'"),
        ({"output": "raw", "raw": json.dumps(RAW)}, ["output0", "output1"], "2 outputs, but its metadata name 1"),
        ({"output": "decoded"}, ["output0"], "does not fit 8 columns"),
    ],
)
def test_malformed_metadata_are_refused(metadata, outputs, message):
    with pytest.raises(UnknownLayout, match=message):
        OwnOutput([(name, (1, 10, 7)) for name in outputs], metadata, 3)


def test_maps_that_do_not_fit_are_refused(build, tmp_path):
    path = BACKENDS["onnx"].export(build("Detect"), tmp_path / "a.onnx", ExportOptions((64, 96), output="raw"))
    model = onnx.load(path)
    for entry in model.metadata_props:
        if entry.key == "nc":
            entry.value = "4"
    onnx.save(model, path)
    with pytest.raises(UserError, match=r"a\.onnx: its outputs .* do not fit its metadata"):
        BACKENDS["onnx"].load(path).forward(noise_images(1, (64, 96)))
    assert set(NAMES) | {"raw"} == set(OUTPUTS)
