"""val.py: wrong input ends in one line, also as a command; one class."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from graftdet import val
from graftdet.models import ModelSpec, build_model
from graftdet.models.backends import BACKENDS, ExportOptions
from graftdet.models.weights.transfer import build_from_weights
from graftdet.models.weights.weights_file import load_weights
from graftdet.utils import cli
from graftdet.utils.checkpoint import load_checkpoint, save_checkpoint

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def data(workspace):
    """The YAML of a dataset of circles, squares and triangles."""
    return workspace / "data.yaml"


def test_one_class(tiny_yaml, tiny_weights, data, tmp_path):
    model = build_model(ModelSpec.from_text(tiny_yaml, "tiny.yaml"), nc=1)
    content = {"yaml": tiny_yaml, "names": ["object"], "nc": 1, "model": model.state_dict()}
    path = save_checkpoint(tmp_path / "one.pt", content)
    named = save_checkpoint(tmp_path / "named.pt", {**content, "names": ["cell"]})
    for weights in (path, named):
        result = val.validate_model(weights=weights, data=data, single_cls=True, img=96, workers=0, project=tmp_path)
        assert len(result.per_class) == 1
    assert "--single-cls" in ends_with_2(["--weights", path, "--data", data])
    assert "trained with it" in ends_with_2(["--weights", tiny_weights, "--data", data, "--single-cls"])


def ends_with_2(argv):
    """Run val.py on `argv` as its own process would; it must end with status 2. Returns its standard error."""
    with pytest.raises(SystemExit) as ended, pytest.MonkeyPatch.context() as patch:
        output = []
        patch.setattr(
            sys,
            "stderr",
            type("Stream", (), {"write": lambda self, text: output.append(text), "flush": lambda self: None})(),
        )
        cli.run(lambda: val.main([str(argument) for argument in argv]))
    assert ended.value.code == 2
    text = "".join(output)
    assert text.count("\n") == 1 and "Traceback" not in text
    return text


def test_wrong_input_ends_in_one_line(tiny_weights, data, tmp_path):
    model = build_from_weights(load_weights(tiny_weights))
    exported = BACKENDS["onnx"].export(model, tmp_path / "fixed.onnx", ExportOptions((96, 96)))
    content = load_checkpoint(tiny_weights)
    truncated, text, bad = tmp_path / "truncated.pt", tmp_path / "text.pt", tmp_path / "bad.pt"
    truncated.write_bytes(tiny_weights.read_bytes()[:3000])
    text.write_text("hello")
    torch.save({"model": Runs()}, bad)
    other = save_checkpoint(tmp_path / "names.pt", {**content, "names": ["circle", "star", "square"]})
    (tmp_path / "truncated.yaml").write_text("path: [")
    (tmp_path / "gone.yaml").write_text("path: /nowhere/at/all\nformat: coco\nval: {images: a, annotations: b.json}\n")
    common = ["--data", data, "--project", tmp_path / "runs"]
    table = [
        (["--weights", tmp_path / "missing.pt", *common], "no such file"),
        (["--weights", truncated, *common], "truncated.pt"),
        (["--weights", text, *common], "text.pt"),
        (["--weights", bad, *common], "refused"),
        (["--weights", other, *common], "class 1 is 'star' in the weights and 'square'"),
        (["--weights", tiny_weights, "--data", tmp_path / "truncated.yaml"], "truncated.yaml"),
        (["--weights", tiny_weights, "--data", tmp_path / "gone.yaml"], "gone.yaml"),
        (["--weights", tiny_weights, "--data", "shape.yaml"], "did you mean 'shapes.yaml'"),
        (["--weights", tiny_weights, *common, "--split", "test"], "has no split 'test'"),
        (["--weights", tiny_weights, *common, "--split", "tset"], "invalid choice"),
        (["--weights", tiny_weights, *common, "--imgg", "3"], "unknown argument '--imgg'"),
        (["--weights", tiny_weights, *common, "--conf", "1.5"], "from 0 to 1"),
        (["--weights", tiny_weights, *common, "--batch-size", "0"], "at least 1"),
        (["--weights", tiny_weights, *common, "--device", "9"], "9"),
        (["--weights", tiny_weights, *common, "--plugins", tmp_path / "none.py"], "none.py"),
        (["--weights", exported, *common, "--img", "64"], "exported for 96x96"),
    ]
    for argv, message in table:
        assert message in ends_with_2(argv), argv
    assert not (tmp_path / "runs").exists()


def test_weights_of_another_number_of_classes(tiny_weights, tmp_path, datasets_dir):
    output = ends_with_2(["--weights", tiny_weights, "--data", "coco_tiny.yaml"])
    assert "3 classes" in output and "80" in output


class Runs:
    def __reduce__(self):
        return print, ("executed",)


def test_val_runs_as_a_command(tmp_path):
    command = [sys.executable, str(ROOT / "val.py"), "--weights", "missing.pt"]
    result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert result.returncode == 2
    assert result.stderr.startswith("error: missing.pt: no such file; weights are never downloaded")
