"""`export.py --benchmark`: rows per format and precision, measured in processes of their own, and what is written."""

import dataclasses
import json

import cv2
import numpy as np
import pytest

from graftdet.export import export_model
from graftdet.models.analysis.benchmark.measurement import Measurement, measure_in_process, peak_megabytes
from graftdet.models.analysis.benchmark.report import HEADER, benchmark_table, cells, draw_benchmark, write_report
from graftdet.models.analysis.benchmark.rows import BATCH, BenchmarkRow, batch_of
from graftdet.models.backends import BACKENDS, ExportError
from graftdet.models.backends.receipt import receipt as receipt_module
from graftdet.models.backends.receipt.receipt import Limits
from graftdet.utils.errors import UserError

MEASURED = Measurement("onnxruntime", False, 0.5, 12.0, 15.0, 11.0, 50, None, 120.0)


@pytest.fixture
def rows():
    return [
        BenchmarkRow("pt", "float32", 7.1, dataclasses.replace(MEASURED, images_per_second=100.0), 0.5),
        BenchmarkRow("onnx", "int8", 2.0, MEASURED, 0.49),
        BenchmarkRow("ncnn", "float32", reason="no such layer"),
    ]


def test_formats_are_measured_and_one_that_fails_has_its_reason(tiny_weights, tmp_path, monkeypatch, capsys):
    def fail(model, path, options):
        raise ExportError(path, "no such layer")

    broken = dataclasses.replace(BACKENDS["torchscript"], export=fail)
    monkeypatch.setitem(BACKENDS._entries, "torchscript", broken)
    result = export_model(tiny_weights, include=["onnx", "torchscript"], benchmark=True, out=f"{tmp_path}/new/x.json")
    assert result.files == [] and sorted(p.name for p in (tmp_path / "new").iterdir()) == ["x.json", "x.md"]
    found = {(row.format, row.precision): row for row in result.benchmark}
    assert {key for key in found if key[1] == "float32"} == {(f, "float32") for f in ("pt", "onnx", "torchscript")}
    for key in (("pt", "float32"), ("onnx", "float32")):
        row = found[key]
        assert row.measured.cpu_ms > 0
        assert 0 < row.measured.latency_ms <= row.measured.p95_ms and row.measured.images_per_second > 0
        assert row.megabytes > 0 and row.ap is None
    assert found["onnx", "float32"].measured.peak_megabytes < found["pt", "float32"].measured.peak_megabytes
    assert "no such layer" in found["torchscript", "float32"].reason
    content = json.loads((tmp_path / "new" / "x.json").read_text())
    assert content["rows"][0]["format"] == "pt" and content["machine"]["cores"] > 0 and content["size"] == [64, 64]
    assert "not run: " in (tmp_path / "new" / "x.md").read_text()


def test_a_dataset_adds_ap_and_int8(tiny_weights, workspace, tmp_path, monkeypatch):
    def measure(file, images, precision, plugins):
        return MEASURED if precision == "float32" else None

    monkeypatch.setattr("graftdet.models.analysis.benchmark.rows.measure_in_process", measure)
    monkeypatch.setattr(receipt_module, "Limits", lambda: Limits(matched=0.9))  # random weights: many equal scores
    flags = {"data": str(workspace / "data.yaml"), "calibration_images": 2}
    result = export_model(tiny_weights, include="onnx", benchmark=True, out=tmp_path, **flags)
    kinds = [(row.format, row.precision) for row in result.benchmark]
    assert kinds == [("pt", "float32"), ("onnx", "float32"), ("onnx", "int8")]
    assert [row.reason for row in result.benchmark] == [""] * 3 and None not in [row.ap for row in result.benchmark]
    name = f"{tiny_weights.stem}.benchmark"
    assert {path.name for path in tmp_path.iterdir()} >= {f"{name}.json", f"{name}.md", f"{name}.png"}


def test_table_and_chart(rows, tmp_path):
    assert cells(rows[1])[7] == "-" and cells(rows[0])[7] == "100" and cells(rows[2])[-1] == "not run: no such layer"
    assert all(len(cells(row)) == len(HEADER) for row in rows)
    assert benchmark_table(rows).splitlines()[2].split()[:5] == ["onnx", "int8", "2.0", "0.50", "12.0"]
    about = {"weights": "best.pt", "size": [320, 320], "data": None}
    names = [path.name for path in write_report(rows, about, tmp_path / "best.benchmark")]
    assert names == ["best.benchmark.json", "best.benchmark.md", "best.benchmark.png"]
    assert (cv2.imread(str(tmp_path / names[2])) < 250).mean() > 0.005
    without = [dataclasses.replace(row, ap=None) for row in rows]
    assert draw_benchmark(without, "best.pt", tmp_path / "none.png") == [] and not (tmp_path / "none.png").exists()


def test_memory_is_that_of_the_measured_process(tiny_weights, tmp_path):
    np.save(tmp_path / "images.npy", batch_of((), (64, 64)))
    held = np.ones(100_000_000)  # 800 MB in this process
    measured = measure_in_process(tiny_weights, tmp_path / "images.npy")
    assert peak_megabytes() > 800 > measured.peak_megabytes > 50
    assert held[0] and measured.runtime == "torch" and measured.calls >= 10


def test_a_file_that_cannot_be_run_is_one_line(tmp_path):
    np.save(tmp_path / "images.npy", batch_of((), (64, 64)))
    (tmp_path / "broken.onnx").write_bytes(b"hello")
    with pytest.raises(UserError, match=r"broken\.onnx: is not a valid ONNX file"):
        measure_in_process(tmp_path / "broken.onnx", tmp_path / "images.npy")


def test_images_are_letterboxed_and_repeated():
    images = [np.full((20, 40, 3), value, np.uint8) for value in (10, 200)]
    batch = batch_of(images, (64, 64))
    assert batch.shape == (BATCH, 3, 64, 64) and batch.dtype == np.uint8
    assert (batch[:, 0, 32, 32] == [10, 200] * 4).all() and (batch[:, 0, 0, 0] == 114).all()
