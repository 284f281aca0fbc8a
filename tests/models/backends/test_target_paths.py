"""Where exports are written, and formats that cannot be written."""

from pathlib import Path

import pytest

from graftdet.models.backends import BACKENDS
from graftdet.models.backends.target_paths import check_formats, output_path
from graftdet.utils.errors import UserError

WEIGHTS = Path("runs/best.pt")


@pytest.mark.parametrize(
    ("name", "out", "expected"),
    [
        ("ncnn", None, "runs/best-int8_ncnn_model"),
        ("ncnn", "mine_ncnn_model", "mine_ncnn_model"),
        ("ncnn", "new/", "new/best-int8_ncnn_model"),
        ("coreml", "a/b.mlpackage", "a/b.mlpackage"),
        ("coreml", "a/b.mlpackage/", "a/b.mlpackage"),
        ("litert", "a/b.tflite", "a/b.tflite"),
        ("onnx", "a/b.ONNX", "a/b.ONNX"),
        ("onnx", "b.onnx/", "b.onnx/best-int8.onnx"),
    ],
)
def test_paths(name, out, expected):
    assert output_path(out, WEIGHTS, "-int8", BACKENDS[name], 1) == Path(expected)


def test_an_export_replaces_a_folder_instead_of_lying_in_it(tmp_path):
    for name in ("old_ncnn_model", "other"):
        (tmp_path / name).mkdir()
    ncnn = BACKENDS["ncnn"]
    assert output_path(tmp_path / "old_ncnn_model", WEIGHTS, "", ncnn, 1) == tmp_path / "old_ncnn_model"
    assert output_path(tmp_path / "other", WEIGHTS, "", ncnn, 1) == tmp_path / "other" / "best_ncnn_model"
    with pytest.raises(UserError, match="expected a folder name that ends in _ncnn_model, or a folder"):
        output_path("best.ncnn", WEIGHTS, "", ncnn, 1)
    with pytest.raises(UserError, match="expected a file name that ends in .onnx"):
        output_path("a_ncnn_model", WEIGHTS, "", BACKENDS["onnx"], 1)


def test_formats_that_cannot_be_written(monkeypatch):
    with pytest.raises(UserError, match="--include mnn: is converted by its own tool .*'Other tools' in docs/export"):
        check_formats(["onnx", "mnn"], None, WEIGHTS)
    with pytest.raises(UserError, match="--include TFLite: is named litert here; use --include litert"):
        check_formats(["onnx", "TFLite"], None, WEIGHTS)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(
        UserError, match="--include ncnn: needs ncnn and pnnx; install them with 'pip install ncnn pnnx'"
    ):
        check_formats(["ncnn"], None, WEIGHTS)
