"""The outputs of an ONNX file by onnxruntime."""

import pytest


@pytest.fixture(scope="session")
def run_onnx():
    """`run_onnx(path, image)`: the outputs of an ONNX file for an image (1, 3, H, W)."""

    def run(path, image):
        onnxruntime = pytest.importorskip("onnxruntime")
        onnxruntime.set_default_logger_severity(4)
        session = onnxruntime.InferenceSession(str(path))
        return session.run(None, {session.get_inputs()[0].name: image})

    return run
