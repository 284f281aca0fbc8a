"""Keys of other projects' model YAMLs, and a dataset YAML in place of a model YAML."""

import pytest

from graftdet.models import build_model
from graftdet.models.lint.check import check_model
from graftdet.models.spec.model_spec import ModelSpec
from graftdet.utils.errors import UserError

ROWS = """backbone:
  - [-1, 1, Conv, [64, 3, 2]]
  - [-1, 1, Conv, [1024, 3, 2]]
head:
  - [[1], 1, Detect, [nc, anchors]]
"""
TABLE = "scales: {n: [1.0, 0.5, 128], s: [1.0, 0.5]}\n"


@pytest.mark.parametrize(
    ("keys", "widths"),
    [
        ("width_multiple: 0.5\n", [32, 512]),
        ("width_multiple: 0.5\nmax_channels: 256\n", [32, 128]),
        ("max_channels: 256\n", [64, 256]),
        ("max_channels: 1000\n", [64, 1000]),
        (f"{TABLE}max_channels: 256\n", [32, 64]),  # the table's own limit wins
        (f"{TABLE}scale: s\nmax_channels: 256\n", [32, 128]),
    ],
)
def test_max_channels_limits_widths_before_the_multiple(keys, widths):
    spec = ModelSpec.from_text(f"nc: 1\nanchors: 3\n{keys}{ROWS}", "x.yaml")
    model = build_model(spec)
    assert [model.shapes[0][0], model.shapes[1][0]] == widths
    again = ModelSpec.from_text(model.yaml_text, "other.yaml")  # as it is saved in a checkpoint
    assert again.scale_width(1024) == widths[1]


def test_a_wrong_limit_is_reported():
    with pytest.raises(UserError, match=r"x.yaml:3:1: error\[invalid-value\]: max_channels: expected 1 to 1e6, got 0"):
        ModelSpec.from_text(f"nc: 1\nanchors: 3\nmax_channels: 0\n{ROWS}", "x.yaml")


def test_the_key_loss_is_reported_as_ignored(tmp_path, capsys):
    path = tmp_path / "x.yaml"
    path.write_text(f"nc: 1\nanchors: 3\nloss: ComputeLossOTA\n{ROWS}")
    (problem,) = check_model(path)
    expected = "key 'loss' (ComputeLossOTA) is ignored: the head, Detect, has its own loss"
    assert (problem.rule, problem.severity, problem.line, problem.message) == ("ignored-key", "warning", 3, expected)
    build_model(path)
    assert capsys.readouterr().err == f"warning: {path}:3:1: {problem.text}\n"


def test_a_hyperparameter_yaml_is_recognized(tmp_path):
    path = tmp_path / "hyp.yaml"
    path.write_text("lr0: 0.01\nlrf: 0.1\nmomentum: 0.9\n")
    (problem,) = check_model(path)
    assert problem.message == "is a hyperparameter YAML (lr0), not a model YAML"
    assert problem.hint == "give it as --hyp, and the model YAML as --cfg"


def test_a_saved_web_page_is_recognized(tmp_path):
    path = tmp_path / "yolov5s.yaml"
    path.write_text("<!DOCTYPE html>\n<html><body>blob</body></html>\n")
    (problem,) = check_model(path)
    assert problem.message == "expected a mapping of keys, got an HTML page; download the file itself (Raw)"


@pytest.mark.parametrize(
    "text",
    [
        "path: shapes\ntrain: images/train\nval: images/val\nnames: [a, b]\n",
        "train: ../train/images\nval: ../valid/images\nnc: 2\nnames: [a, b]\n",
    ],
)
def test_a_dataset_yaml_is_recognized(tmp_path, text):
    path = tmp_path / "data.yaml"
    path.write_text(text)
    (problem,) = check_model(path)
    assert problem.rule == "missing-section" and problem.message.startswith("is a dataset YAML (")
    assert problem.hint == "give it as --data, and the model YAML as --cfg"
    with pytest.raises(UserError, match="is a dataset YAML .*give it as --data, and the model YAML as --cfg"):
        build_model(path)
