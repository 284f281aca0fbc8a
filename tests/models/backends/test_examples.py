"""The programs in examples/ give the detections of detect.py."""

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
EXAMPLES = Path(__file__).resolve().parents[3] / "examples"
SHAPES = [(64, 96), (97, 41), (333, 250), (20, 30)]  # enlarged, narrow, shrunk to less than half, odd sides


def load_example(name):
    """The program as a module."""
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
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
@pytest.mark.parametrize(
    ("name", "size", "dynamic"),
    [
        ("onnxruntime_numpy", (64, 64), False),
        ("onnxruntime_numpy", (64, 96), False),
        ("onnxruntime_numpy", (64, 96), True),
        ("opencv_dnn", (64, 64), False),
        ("opencv_dnn", (64, 96), False),
    ],
)
def test_the_program_gives_the_detections_of_detect(models, images, tmp_path, name, size, dynamic, needs_nms):
    """The same classes, boxes within a pixel, scores within 0.001."""
    example, model = load_example(name), models[needs_nms]
    assert model.needs_nms is needs_nms
    path = BACKENDS["onnx"].export(model, tmp_path / "model.onnx", ExportOptions(size, dynamic=dynamic))
    records = detections_of_script(path, images, tmp_path, 0.3)
    assert len(records) == len(SHAPES) + 1
    for record in records:
        expected = record["detections"]
        detections = example.detect(str(path), read_image(record["source"]), conf=0.3)
        assert 3 < len(expected) == len(detections), record["source"]
        assert_same(detections, expected)


def assert_same(detections, expected):
    """The same objects; those of equal scores (within 0.001) may be in another order."""
    left = list(detections)
    for one in expected:
        near = [
            other
            for other in left
            if other[0] == one["name"]
            and abs(other[1] - one["score"]) < 1e-3
            and np.allclose(other[2], one["box"], rtol=0, atol=1)
        ]
        assert near, f"{one} is not among {left}"
        left.remove(near[0])
    scores = [score for _, score, _ in detections]
    assert not left and scores == sorted(scores, reverse=True)


@pytest.mark.parametrize("name", ["onnxruntime_numpy", "opencv_dnn"])
def test_the_program_prints_and_draws_detections(models, images, tmp_path, name):
    path = BACKENDS["onnx"].export(models[True], tmp_path / "model.onnx", ExportOptions((64, 64)))
    command = [sys.executable, EXAMPLES / f"{name}.py", path, images / "noise0.png", tmp_path / "boxes.png"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split()[0] in ("circle", "square", "triangle")
    drawn, image = read_image(tmp_path / "boxes.png"), read_image(images / "noise0.png")
    assert drawn.shape == image.shape and (drawn != image).any()


@pytest.mark.parametrize("name", ["onnxruntime_numpy", "opencv_dnn"])
def test_files_with_another_output_are_refused(models, images, tmp_path, name):
    options = ExportOptions((64, 64), output="split")
    path = BACKENDS["onnx"].export(models[True], tmp_path / "model.onnx", options)
    with pytest.raises(SystemExit, match="export it without --output"):
        load_example(name).detect(str(path), read_image(images / "noise0.png"))


def test_opencv_refuses_dynamic_files(models, images, tmp_path):
    path = BACKENDS["onnx"].export(models[True], tmp_path / "model.onnx", ExportOptions((64, 64), dynamic=True))
    with pytest.raises(SystemExit, match="export it without --dynamic"):
        load_example("opencv_dnn").detect(str(path), read_image(images / "noise0.png"))


def test_the_onnxruntime_program_is_short():
    assert len((EXAMPLES / "onnxruntime_numpy.py").read_text(encoding="utf-8").splitlines()) <= 60


HEADERS = any(Path(folder, "opencv4").is_dir() for folder in ("/usr/include", "/usr/local/include"))


@pytest.mark.skipif(not (shutil.which("cmake") and HEADERS), reason="needs CMake and the headers of OpenCV")
def test_the_cpp_program_gives_the_detections_of_detect(models, images, tmp_path):
    for step in (["-S", EXAMPLES / "cpp", "-B", tmp_path / "build"], ["--build", tmp_path / "build"]):
        result = subprocess.run(["cmake", *map(str, step)], capture_output=True, text=True)
        assert result.returncode == 0, result.stdout + result.stderr
    path = BACKENDS["onnx"].export(models[True], tmp_path / "model.onnx", ExportOptions((64, 96)))
    (record,) = detections_of_script(path, images / "noise2.png", tmp_path, 0.25)
    command = [tmp_path / "build" / "opencv_example", path, images / "noise2.png", tmp_path / "boxes.png"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    detections = []
    for line in result.stdout.splitlines():
        name, score, *box = line.replace("[", "").replace("]", "").replace(",", "").split()
        detections.append((name, float(score), [float(side) for side in box]))
    assert len(detections) > 3 and (tmp_path / "boxes.png").is_file()
    assert_same(detections, record["detections"])
