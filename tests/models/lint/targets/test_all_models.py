"""Every YAML of `configs/models` can be exported to ONNX, row by row, and opened by onnxruntime."""

import pytest

from graftdet.models import build_model
from graftdet.models.lint.targets import onnx
from graftdet.utils.config import CONFIGS

NAMES = sorted(path.name for path in (CONFIGS / "models").glob("*.yaml"))


@pytest.mark.parametrize("name", NAMES)
def test_onnx_takes_every_model(name):
    model = build_model(name, nc=3).eval()
    assert list(onnx.find(model, model.trial_shape[1:])) == []
