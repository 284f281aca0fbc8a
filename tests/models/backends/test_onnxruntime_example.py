"""The program of docs/exported-files.md gives the detections of detect.py."""

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from graftdet import detect
from graftdet.models import ModelSpec, build_model
from graftdet.models.backends import BACKENDS, ExportOptions
from graftdet.models.weights.transfer import build_from_weights
from graftdet.models.weights.weights_file import load_weights
from graftdet.utils.images.io import read_image, write_image

pytest.importorskip("onnxruntime")
EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "onnxruntime_minimal.py"
SHAPES = [(64, 96), (97, 41), (333, 250), (20, 30)]  # enlarged, narrow, shrunk to less than half, odd sides


@pytest.fixture(scope="module")
def example():
    """The program as a module."""
    spec = importlib.util.spec_from_file_location("onnxruntime_minimal", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def images(tmp_path_factory, workspace):
    """Noise of several shapes, and a drawn scene."""
    folder = tmp_path_factory.mktemp("images")
    for index, shape in enumerate(SHAPES):
        noise = np.random.default_rng(index).integers(0, 256, (*shape, 3), np.uint8)
        write_image(folder / f"noise{index}.png", noise)
    shutil.copy(next((workspace / "shapes" / "images" / "val").iterdir()), folder)
    return folder


@pytest.fixture(scope="module")
def models(tiny_weights, tiny_yaml):
    """A detector whose output needs non-maximum suppression, and one whose output does not."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        text = tiny_yaml.replace("Detect, [nc, anchors]", "OneToOneDetect, [nc]")
        nms_free = build_model(ModelSpec.from_text(text, "nms_free.yaml"))
        nms_free.names = ["circle", "square", "triangle"]
        with torch.no_grad():
            for _ in range(20):  # batch statistics, so that signals reach the head
                nms_free.train().raw_outputs(torch.rand(2, 3, 64, 64))
            for layer in nms_free.head.modules():
                if isinstance(layer, torch.nn.Conv2d) and layer.out_channels == nms_free.nc:
                    layer.weight *= 40
                    layer.bias.zero_()
    return {True: build_from_weights(load_weights(tiny_weights)), False: nms_free.eval()}


def detections_of_script(path, images, folder, conf):
    detect.main(
        [
            "--weights",
            str(path),
            "--source",
            str(images),
            "--project",
            str(folder),
            "--save-json",
            "--no-save",
            "--conf",
            str(conf),
            "--device",
            "cpu",
        ]
    )
    return json.loads((folder / "exp" / "detections.json").read_text())


@pytest.mark.parametrize("needs_nms", [True, False], ids=["nms", "nms-free"])
@pytest.mark.parametrize(("size", "dynamic"), [((64, 64), False), ((64, 96), False), ((64, 96), True)])
def test_the_minimal_program_gives_the_detections_of_detect(
    example, models, images, tmp_path, size, dynamic, needs_nms
):
    """The same classes in the same order, boxes within a pixel, scores within 0.001."""
    model = models[needs_nms]
    assert model.needs_nms is needs_nms
    path = BACKENDS["onnx"].export(model, tmp_path / "model.onnx", ExportOptions(size, dynamic=dynamic))
    records = detections_of_script(path, images, tmp_path, 0.3)
    assert len(records) == len(SHAPES) + 1
    for record in records:
        expected = record["detections"]
        detections = example.detect(str(path), read_image(record["source"]), conf=0.3)
        assert 3 < len(expected) == len(detections), record["source"]
        assert [name for name, _, _ in detections] == [one["name"] for one in expected]
        np.testing.assert_allclose([score for _, score, _ in detections], [one["score"] for one in expected], atol=1e-3)
        np.testing.assert_allclose([box for _, _, box in detections], [one["box"] for one in expected], atol=1)


def test_the_minimal_program_prints_detections(models, images, tmp_path):
    path = BACKENDS["onnx"].export(models[True], tmp_path / "model.onnx", ExportOptions((64, 64)))
    command = [sys.executable, EXAMPLE, path, images / "noise0.png"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split()[0] in ("circle", "square", "triangle")


def test_the_minimal_program_is_short():
    code = [line for line in EXAMPLE.read_text(encoding="utf-8").splitlines() if line.strip()]
    body = code[code.index(next(line for line in code if line.startswith("def "))) + 2 :]
    assert len(body) <= 35
