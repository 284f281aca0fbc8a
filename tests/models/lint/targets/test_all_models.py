"""Every YAML of `configs/models` can be exported to ONNX, row by row, and opened by onnxruntime."""

import re

import pytest

from graftdet.models import ModelSpec, build_model
from graftdet.models.lint.targets import onnx
from graftdet.utils.config import CONFIGS

NAMES = sorted(path.name for path in (CONFIGS / "models").glob("*.yaml"))


@pytest.mark.parametrize("name", NAMES)
def test_onnx_takes_every_model(name):
    text = (CONFIGS / "models" / name).read_text(encoding="utf-8")
    if re.fullmatch(r"yolov[35].*\.yaml", name):  # the same rows, wider and deeper: as narrow as yolov5n
        text = re.sub(r"(?m)^(width_multiple|depth_multiple):.*$", r"\1: 0.25", text)
    model = build_model(ModelSpec.from_text(text, name), nc=3).eval()
    assert list(onnx.find(model, model.trial_shape[1:])) == []
