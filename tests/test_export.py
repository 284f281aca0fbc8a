"""export.py: a verified file beside the weights or where requested, and how it ends on invalid input."""

import argparse
import dataclasses
import importlib.util
import inspect
import json
import re
from pathlib import Path

import pytest

from graftdet import export
from graftdet.__main__ import main
from graftdet.models import load_model
from graftdet.models.backends.receipt import receipt as receipt_module
from graftdet.models.backends.receipt.receipt import Limits
from graftdet.utils import cli
from graftdet.utils.checkpoint import load_checkpoint, save_checkpoint
from graftdet.utils.errors import UserError


@pytest.fixture
def weights(tiny_weights, tmp_path):
    path = tmp_path / "my wéights" / "best.pt"
    path.parent.mkdir()
    path.write_bytes(tiny_weights.read_bytes())
    return path


def run(*argv):
    export.main([str(argument) for argument in argv])


def test_default_path_and_size(weights, capsys):
    run("--weights", weights)
    output = capsys.readouterr().out
    differences = [float(n) for n in re.findall(r"[\d.]+e-\d+|0\.00e\+00", output)]
    assert "largest |a-b|/max(1,|b|)" in output and "dnn: reads it" in output
    assert len(differences) == 3 and max(differences) < 1e-3
    loaded = load_model(weights.with_suffix(".onnx"))
    assert loaded.fixed_size == (64, 64) and loaded.fixed_batch == 1
    assert sorted(path.name for path in weights.parent.iterdir()) == ["best.onnx", "best.onnx.receipt.json", "best.pt"]


@pytest.mark.parametrize(
    ("flags", "size", "batch", "opset"),
    [
        (("--img", 70, 90, "--batch-size", 2), (80, 96), 2, 17),
        (("--img", 32, "--dynamic", "--opset", 18), None, None, 18),
    ],
)
def test_flags(weights, tmp_path, flags, size, batch, opset):
    onnx = pytest.importorskip("onnx")
    run("--weights", weights, *flags, "--out", tmp_path / "out.onnx")
    loaded = load_model(tmp_path / "out.onnx")
    assert (loaded.fixed_size, loaded.fixed_batch) == (size, batch)
    assert onnx.load(str(tmp_path / "out.onnx")).opset_import[0].version == opset


def test_two_formats_at_once(weights, capsys):
    if not importlib.util.find_spec("openvino"):
        pytest.skip("openvino is not installed")
    run("--weights", weights, "--include", "onnx", "openvino")
    output = capsys.readouterr().out
    assert sorted(path.suffix for path in weights.parent.iterdir()) == [
        ".bin",
        ".json",
        ".json",
        ".onnx",
        ".pt",
        ".xml",
    ]
    assert re.search(r"openvino: largest .*e-0[4-9]", output) and "best.xml: 0." in output
    assert load_model(weights.with_suffix(".xml")).fixed_size == (64, 64)


def test_export_model_takes_the_flags_as_keywords(weights, tmp_path):
    result = export.export_model(weights, include="onnx", img=[64, 96], dynamic=True, out=tmp_path / "a.onnx")
    assert (result.weights, result.size, result.names) == (weights, (64, 96), ["circle", "square", "triangle"])
    (file,) = result.files
    assert (file.format, file.path) == ("onnx", tmp_path / "a.onnx") and file.path.is_file()
    assert 0 <= file.difference < 1e-3 and file.megabytes == pytest.approx(file.path.stat().st_size / 1e6)
    assert load_model(file.path).fixed_size is None
    for keywords, message in [
        ({"include": "onx"}, "did you mean 'onnx'"),
        ({"batch_size": 0}, "batch size of 1 or more"),
        ({"img": 0}, "--img 0 0"),
        ({"out": "a.txt"}, "ends in .onnx"),
    ]:
        with pytest.raises(UserError, match=message):
            export.export_model(weights, **keywords)


def test_arguments_of_export_model_are_the_flags():
    flags = {action.dest for action in export.make_parser()._actions} - {"help", argparse.SUPPRESS}
    assert flags == set(inspect.signature(export.export_model).parameters)


def test_output_into_a_folder(weights, tmp_path):
    (tmp_path / "folder").mkdir()
    run("--weights", weights, "--out", tmp_path / "folder")
    assert (tmp_path / "folder" / "best.onnx").is_file()
    run("--weights", weights, "--out", f"{tmp_path.as_posix()}/new/")
    assert (tmp_path / "new" / "best.onnx").is_file()


def test_a_file_with_other_outputs_than_the_model_is_an_error(weights, monkeypatch, capsys):
    backend = export.BACKENDS["onnx"]
    wrong = load_checkpoint(weights)
    wrong["model"]["model.8.m.0.bias"] += 1
    other = export.build_from_weights(export.load_weights(save_checkpoint(weights.with_name("wrong.pt"), wrong)))
    wrong_export = dataclasses.replace(backend, export=lambda model, *args: backend.export(other, *args))
    monkeypatch.setitem(export.BACKENDS._entries, "onnx", wrong_export)
    with pytest.raises(SystemExit) as ended:
        cli.run(lambda: run("--weights", weights))
    assert ended.value.code == 2 and "differs from the model" in capsys.readouterr().err
    assert sorted(path.name for path in weights.parent.iterdir()) == ["best.pt", "wrong.pt"]


def test_a_diverged_model_is_reported(weights, capsys):
    wrong = load_checkpoint(weights)
    wrong["model"]["model.8.m.0.bias"] += float("nan")
    path = save_checkpoint(weights.with_name("nan.pt"), wrong)
    with pytest.raises(SystemExit):
        cli.run(lambda: run("--weights", path))
    assert "the model's own output contains NaN or infinity" in capsys.readouterr().err


def test_invalid_input_ends_in_one_line(weights, tmp_path, capfd):
    (tmp_path / "text.pt").write_text("hello")
    unknown = {**load_checkpoint(weights), "yaml": load_checkpoint(weights)["yaml"].replace("C3, [16]", "Mine, [16]")}
    save_checkpoint(tmp_path / "unknown.pt", unknown)
    (tmp_path / "file").write_text("in the way")
    table = [
        (["--weights", tmp_path / "missing.pt"], "no such file"),
        (["--weights", tmp_path / "text.pt"], "text.pt"),
        (["--weights", "yolov5n.yaml"], "yolov5n.yaml: no such file, and a YAML by its name; expected trained weights"),
        (
            ["--weights", Path(__file__).parents[1] / "configs/models/yolov5n.yaml"],
            "yolov5n.yaml: is a YAML file; expected trained weights",
        ),
        (["--weights", weights, "--include", "onnx", "torchscrip"], "did you mean 'torchscript'"),
        (["--weights", tmp_path / "unknown.pt"], "--plugins"),
        (["--weights", weights, "--include", "onx"], "did you mean 'onnx'"),
        (["--weights", weights, "--opset", "9"], "11 to 20"),
        (["--weights", weights, "--img", "-5"], "--img"),
        (["--weights", weights, "--batch-size", "0"], "at least 1"),
        (["--weights", weights, "--out", tmp_path / "a.txt"], ".onnx"),
        (["--weights", weights, "--out", tmp_path / "file" / "a.onnx"], "cannot be written"),
        (["--weights", weights, "--dynamik"], "did you mean '--dynamic'"),
    ]
    for argv, message in table:
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.run(lambda argv=argv: run(*argv))
        output = capfd.readouterr().err
        assert ended.value.code == 2 and output.count("\n") == 1 and message in output, (argv, output)
    assert [path.name for path in weights.parent.iterdir()] == ["best.pt"]  # checked before anything was written


def test_formats_whose_package_is_missing_are_refused_before_anything_is_written(weights, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == "openvino" else find(name))
    with pytest.raises(UserError, match="--include openvino: needs openvino; install it"):
        export.export_model(weights, include=["onnx", "openvino"])
    assert [path.name for path in weights.parent.iterdir()] == ["best.pt"]


def test_an_exported_file_is_not_accepted_as_weights(weights):
    run("--weights", weights)
    with pytest.raises(ValueError, match="best.onnx"):
        run("--weights", Path(weights).with_suffix(".onnx"))


def test_a_receipt_is_made_again(weights, tmp_path, capsys):
    run("--weights", weights, "--output", "split", "--dynamic")
    onnx_file, receipt = weights.with_suffix(".onnx"), weights.with_name("best.onnx.receipt.json")
    first = json.loads(receipt.read_text())
    receipt.unlink()
    main(["receipt", str(onnx_file), "--weights", str(weights)])
    assert json.loads(receipt.read_text()) == first and first["output"] == "split"
    assert "boxes matched" in capsys.readouterr().out
    wrong = load_checkpoint(weights)
    wrong["model"]["model.8.m.0.bias"] += 1
    other = save_checkpoint(tmp_path / "other.pt", wrong)
    for argv, message in [
        (["--receipt", onnx_file, "--weights", other], "it was not exported from .*other.pt"),
        (["--receipt", weights, "--weights", weights], "expected an exported file"),
        (["--receipt", tmp_path / "no.onnx", "--weights", weights], "no such file"),
    ]:
        with pytest.raises(UserError, match=message):
            run(*argv)


def test_ap_of_file_and_weights_is_compared(weights, workspace, capsys, monkeypatch):
    monkeypatch.setattr(receipt_module, "Limits", lambda: Limits(matched=0.9))  # random weights: many equal scores
    run("--weights", weights, "--data", workspace / "data.yaml")
    receipt = json.loads(weights.with_name("best.onnx.receipt.json").read_text())
    assert set(receipt["ap"]) == {"torch", "file"} and abs(receipt["ap"]["torch"] - receipt["ap"]["file"]) < 0.005
    output = capsys.readouterr().out
    assert receipt["images"].startswith("6 of ") and "AP50-95 torch" in output
    assert re.search(r"^best.pt on .*data.yaml, val: AP50-95 0\.\d{4}$", output, re.MULTILINE)
    assert "predictions" not in output  # of the validations: one line each


def test_anchors_in_use_are_printed(weights, capsys):
    run("--weights", weights, "--output", "raw")
    assert "anchors in use, per level [pixels]: [[[10.0, 13.0], [16.0, 30.0]" in capsys.readouterr().out


def test_int8_needs_a_dataset_and_names_its_file(weights, workspace, monkeypatch):
    with pytest.raises(UserError, match="--int8: needs --data"):
        run("--weights", weights, "--int8")
    run("--weights", weights, "--int8", "--int8-drop", 1, "--data", workspace / "data.yaml", "--calibration-images", 3)
    receipt = json.loads(weights.with_name("best-int8.onnx.receipt.json").read_text())
    assert receipt["precision"] == "int8" and receipt["calibration"] == "moving-average on 3 images"
    assert weights.with_name("best-int8.onnx").is_file() and receipt["limits"]["ap_drop"] == 1
