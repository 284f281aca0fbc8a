"""The page of which reader takes which model."""

import json
from subprocess import CompletedProcess

import pytest

from benchmarks import export_support
from benchmarks.export_support import CONVERTED, LIMIT, cell, complete_row, larger_sizes, markdown, opencv_results


def test_cells_state_yes_no_or_wrong():
    assert (cell(LIMIT / 2), cell("cannot read it"), cell(None)) == ("yes", "no", "-")
    assert cell(120.0) == "wrong (1e+02)" and cell(float("inf")).startswith("wrong")


def test_the_page_names_reasons_and_omits_dynamic_files_of_opencv_4():
    rows = {
        "a": {
            "OpenCV 4.10.0": "cannot > Node [Clip@ai.onnx]:(c) parse error",
            "OpenCV 4.5.5": "cannot > Node [Clip@ai.onnx]:(b) parse error",
            "OpenCV 4.5.5 dynamic": "x",
            "OpenCV 5.0.0 dynamic": 0.0,
            "onnx": 1e-6,
            "ncnn": "ncnn cannot run the model: layer Tensor.reshape not exists or registered",
            "coreml": CONVERTED,
        },
        "large": {"as": "a"},
        "wide": {"onnx": 0.0, "narrowed": True},
    }
    page = markdown(rows)
    assert "| model | onnx | ncnn | coreml | OpenCV 4.5.5 | OpenCV 4.10.0 | OpenCV 5.0.0 dynamic |" in page
    assert "| a, large | yes | no | converts | no | no | yes |" in page
    assert "- a: OpenCV 4.5.5, OpenCV 4.10.0: does not read the operation Clip\n" in page
    assert "- a: ncnn: ncnn lacks Tensor.reshape\n" in page
    assert "3 YAMLs" in page and page.count("wide") == 2 and "'width_multiple': 0.25}, for their size: wide." in page


def test_the_narrowest_of_equal_rows_is_tried():
    larger = larger_sizes(["yolov5s", "yolov5n", "yolov5x", "yolov5n6", "graft-n", "graft-p"])
    assert larger == {"yolov5s": "yolov5n", "yolov5x": "yolov5n"}


def test_a_version_of_opencv_has_one_name(tmp_path, monkeypatch):
    """That which it states itself and, where its process crashes, that of its package."""
    (tmp_path / "opencv_python_headless-4.8.1.78.dist-info").mkdir()
    text = "RESULT" + json.dumps({"version": "4.8.1", "fixed": 0.5, "dynamic": "cannot"})
    monkeypatch.setattr(export_support.subprocess, "run", lambda *_, **__: CompletedProcess([], 0, f"noise\n{text}\n"))
    assert opencv_results("folder", tmp_path) == {"OpenCV 4.8.1": 0.5, "OpenCV 4.8.1 dynamic": "cannot"}
    monkeypatch.setattr(export_support.subprocess, "run", lambda *_, **__: CompletedProcess([], -8, "noise\n"))
    assert opencv_results("folder", tmp_path) == {"OpenCV 4.8.1": "the process ends with status -8"}


def test_only_what_is_missing_is_tried(tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime")
    (tmp_path / "opencv_python_headless-4.8.1.78.dist-info").mkdir()
    tried = []
    monkeypatch.setattr(export_support, "result", lambda _model, name, path, *_: tried.append((name, path.name)) or 0.0)
    monkeypatch.setattr(export_support, "write_opencv_inputs", lambda *_: None)
    monkeypatch.setattr(export_support, "opencv_results", lambda _folder, packages: tried.append(packages) or {})
    row = {
        "onnx": 0.5,
        "openvino": 0.0,
        "openvino dynamic": "cannot",
        f"OpenCV {export_support.opencv_version(None)}": 0.0,
    }
    complete_row("graft-n", ["onnx", "openvino", "ncnn"], [tmp_path], row, float("inf"))
    assert tried == [("ncnn", "fixed_ncnn_model"), ("onnx", "dynamic.onnx"), tmp_path]
    assert (row["onnx"], row["ncnn"], row["narrowed"]) == (0.5, 0.0, False)
    tried.clear()
    complete_row("graft-n", ["onnx", "openvino", "ncnn"], [tmp_path], row, float("inf"))
    assert tried == [tmp_path]
    row |= {"OpenCV 4.8.1": 0.0}
    tried.clear()
    complete_row("graft-n", ["onnx", "openvino", "ncnn"], [tmp_path], row, float("inf"))
    assert tried == []
