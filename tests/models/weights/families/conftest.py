"""Real published files, where they are present, and the outputs of an ONNX file by onnxruntime."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def published_file():
    """`published_file(name)`: the path of a file in WEIGHTS_DIR, else beside the datasets; skips where it is absent."""

    def find(name):
        datasets = Path(os.environ.get("DATASETS_DIR", Path(__file__).resolve().parents[4] / "datasets"))
        path = Path(os.environ.get("WEIGHTS_DIR", datasets.parent / "weights")) / name
        if not path.is_file():
            pytest.skip(f"needs {path}")
        return path

    return find


@pytest.fixture(scope="session")
def run_onnx():
    """`run_onnx(path, image)`: the outputs of an ONNX file for an image (1, 3, H, W)."""

    def run(path, image):
        onnxruntime = pytest.importorskip("onnxruntime")
        onnxruntime.set_default_logger_severity(4)
        session = onnxruntime.InferenceSession(str(path))
        return session.run(None, {session.get_inputs()[0].name: image})

    return run
