"""Core ML packages: conversion, damaged packages, the receipt where they cannot be run, and a stand-in for macOS."""

import json
import shutil
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from graftdet.models import load_model
from graftdet.models.backends import BACKENDS, ExportOptions
from graftdet.models.backends.coreml import WEIGHTS, CoreMlModel, read_description, without_aliases
from graftdet.models.backends.layouts.description import Description
from graftdet.models.backends.metadata import make_metadata
from graftdet.models.backends.receipt.receipt import receipt_table
from graftdet.models.backends.receipt.verified_export import Evidence, export_verified
from graftdet.models.weights.transfer import build_from_weights
from graftdet.models.weights.weights_file import load_weights
from graftdet.utils.errors import UserError

BACKEND = BACKENDS["coreml"]
OPTIONS = ExportOptions((64, 96))


@pytest.fixture(scope="module")
def trained(tiny_weights):
    return build_from_weights(load_weights(tiny_weights)).eval()


@pytest.fixture(scope="module")
def exported(trained, tmp_path_factory):
    """The package and its receipt."""
    pytest.importorskip("coremltools")
    path = tmp_path_factory.mktemp("coreml") / "ä b.mlpackage"
    _, receipt = export_verified(trained, "coreml", path, OPTIONS, Evidence("best.pt"))
    return path, receipt


def test_the_package_states_input_output_and_metadata(trained, exported):
    import coremltools

    path, _ = exported
    description = coremltools.utils.load_spec(str(path)).description
    assert [list(one.type.multiArrayType.shape) for one in description.input] == [[1, 3, 64, 96]]
    assert [(one.name, list(one.type.multiArrayType.shape)) for one in description.output] == [("output0", [1, 360, 8])]
    assert description.metadata.userDefined["names"] == "{0: 'circle', 1: 'square', 2: 'triangle'}"
    assert read_description(coremltools, path).outputs == [("output0", [1, 360, 8])]
    assert sorted(one.name for one in path.iterdir()) == ["Data", "Manifest.json"]


@pytest.mark.skipif(sys.platform == "darwin", reason="runs on macOS")
def test_the_receipt_says_that_it_was_not_run(exported):
    path, receipt = exported
    assert receipt.runtime == "not run, which needs macOS" and not receipt.was_run and receipt.problems() == []
    assert receipt_table([receipt]).splitlines()[-1].endswith("not run")
    content = json.loads(path.with_name(f"{path.name}.receipt.json").read_text(encoding="utf-8"))
    assert content["passed"] is None and content["difference"] is None and content["megabytes"] > 0
    with pytest.raises(UserError, match="Core ML runs on macOS only"):
        load_model(path)


def test_a_new_export_replaces_the_folder(trained, exported):
    path, receipt = exported
    (path / "stale").write_text("")
    _, again = export_verified(trained, "coreml", path, ExportOptions((64, 64)), Evidence("best.pt"))
    assert not (path / "stale").exists() and again.sha256 != receipt.sha256
    assert {one.name for one in path.parent.iterdir()} == {path.name, f"{path.name}.receipt.json"}


@pytest.mark.parametrize("name", [WEIGHTS, "Data/com.apple.CoreML/model.mlmodel", "Manifest.json"])
@pytest.mark.parametrize("damage", ["missing", "empty", "truncated"])
def test_damaged_packages_are_one_line(exported, tmp_path, name, damage):
    path = shutil.copytree(exported[0], tmp_path / "a.mlpackage")
    file = path / name
    data = file.read_bytes()
    file.write_bytes(b"" if damage == "empty" else data[: len(data) // 2])
    if damage == "missing":
        file.unlink()
    with pytest.raises(UserError, match="valid Core ML package|is damaged|was not exported") as error:
        load_model(path)
    assert "\n" not in str(error.value)


def test_outputs_of_core_ml_are_read_by_name(trained):
    with torch.no_grad():
        boxes, scores = (part.numpy() for part in trained(torch.zeros(1, 3, 64, 96)))
    metadata = make_metadata(trained, ExportOptions((64, 96), output="split"))
    outputs = [("boxes", list(boxes.shape)), ("scores", list(scores.shape))]
    fake = SimpleNamespace(predict=lambda inputs: {"scores": scores, "boxes": boxes} if "images" in inputs else {})
    model = CoreMlModel(fake, "a.mlpackage", Description([1, 3, 64, 96], outputs, metadata))
    found = model.forward(np.zeros((1, 3, 64, 96), np.float32))
    np.testing.assert_array_equal(found[0], boxes)
    np.testing.assert_array_equal(found[1], scores)
    fake.predict = lambda inputs: {}
    with pytest.raises(UserError, match="a.mlpackage: Core ML fails on an input of 1x3x64x96"):
        model.forward(np.zeros((1, 3, 64, 96), np.float32))


def test_without_the_package(trained, tmp_path, monkeypatch):
    with pytest.raises(UserError, match="a.mlpackage: no such folder"):
        load_model(tmp_path / "a.mlpackage")
    monkeypatch.setitem(sys.modules, "coremltools", None)
    (tmp_path / "a.mlpackage").mkdir()
    with pytest.raises(UserError, match=r"not a valid Core ML package \(Manifest.json: No such file"):
        load_model(tmp_path / "a.mlpackage")
    (tmp_path / "a.mlpackage" / "Manifest.json").write_text("{}")
    for call in (
        lambda: load_model(tmp_path / "a.mlpackage"),
        lambda: BACKEND.export(trained, tmp_path / "a.mlpackage", OPTIONS),
    ):
        with pytest.raises(UserError, match="need coremltools; install it with 'pip install coremltools'"):
            call()
    with pytest.raises(UserError, match="--device 0: Core ML runs on the devices cpu and mps"):
        load_model(tmp_path / "a.mlpackage", device="0")


def test_programs_have_one_name_per_tensor():
    """`A2C2f` and `PSA` give alias operations, which coremltools does not know."""
    module, x = torch.nn.Module(), torch.rand(2, 3)
    module.forward = lambda x: torch.ops.aten.alias.default(x + 1) * 2
    program = torch.export.export(module, (x,)).run_decompositions({})
    assert "aten.alias" in str(program.graph)
    program = without_aliases(program)
    assert "aten.alias" not in str(program.graph)
    torch.testing.assert_close(program.module()(x), (x + 1) * 2)
