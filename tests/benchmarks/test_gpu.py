"""The benchmark of a GPU, run on the CPU with tiny sizes: what it computes does not depend on the device."""

import argparse
import sys

import pytest
import torch

from benchmarks import gpu, table, training


def rows_of(monkeypatch, tmp_path, *arguments):
    output = tmp_path / "gpu.json"
    monkeypatch.setattr(sys, "argv", ["gpu", "--output", str(output), *arguments])
    status = gpu.main()
    return status, {row["what"]: row for record in table.read_records(output) for row in record["rows"]}


def test_nothing_is_measured_without_a_gpu(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert rows_of(monkeypatch, tmp_path) == (0, {})
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_sections_add_rows(monkeypatch, tmp_path):
    """Processes are replaced, and sections that take long are left out but for their names."""
    monkeypatch.setattr(gpu, "train", lambda values, seconds: (0.7, (50.0, "1.0G")))
    run = gpu.subprocess.CompletedProcess([], 0, '[3, 0.5, "2 GB"]', "")
    monkeypatch.setattr(gpu.subprocess, "run", lambda *_, **__: run)
    monkeypatch.setattr(table, "commit", lambda: "")
    monkeypatch.setattr(gpu, "rows_of_parts", lambda *_: None)
    monkeypatch.setattr(gpu, "HALF", {"bfloat16": torch.bfloat16})  # float16 is slow on a CPU
    monkeypatch.setattr(gpu, "time_alternately", lambda calls, repeats: [call() or 0.5 for call in calls])
    status, rows = rows_of(monkeypatch, tmp_path, "--device", "cpu", "--img", "32", "--batch-size", "2")
    assert status == 0
    assert rows["training step, float32, contiguous: the reference"]["ratio"] == 1
    assert rows["training step, float16, channels-last, compiled"]["figure"] == "4 images/s, 2 GB, first step after 3 s"
    assert rows["train.py on shapes, loader and validation included"]["figure"] == "50 images/s, peak memory 1.0G"
    assert rows["the same, difference"]["verdict"] == "ok"
    for what in ("training step, bfloat16, channels-last", "inference of 1, float32", "inference of 2, bfloat16"):
        assert rows[what]["ratio"] == 1


def test_sections_without_time_are_skipped(monkeypatch, tmp_path):
    for name in ("rows_of_steps", "rows_of_inference", "rows_of_parts"):
        monkeypatch.setattr(gpu, name, lambda *_: 1.0)
    monkeypatch.setattr(gpu, "SECONDS", 10)
    _, rows = rows_of(monkeypatch, tmp_path, "--device", "cpu")
    assert [row["figure"][:7] for row in rows.values()] == ["skipped"] * 3


@pytest.mark.parametrize(("ap", "verdict"), [(0.72, "ok"), (0.5, "SHORT")])
def test_ap_is_compared_with_that_of_the_cpu(ap, verdict, monkeypatch):
    scores = {"0": ap, "cpu": 0.7}
    monkeypatch.setattr(gpu, "train", lambda values, seconds: (scores[values["device"]], (0.0, "")))
    found = table.Table("AP")
    gpu.rows_of_ap(found, argparse.Namespace(device="0"), 1.0, 100.0)
    assert found.rows[-1]["verdict"] == verdict and len(found.rows) == 3


def test_a_failure_is_a_row(monkeypatch):
    found, options = table.Table("failures"), argparse.Namespace(device="0", img=64, batch_size=2, epochs=1)
    run = gpu.subprocess.CompletedProcess([], 1, "", "Traceback\nRuntimeError: no kernel")
    monkeypatch.setattr(gpu.subprocess, "run", lambda *_, **__: run)
    monkeypatch.setattr(training, "select_device", lambda name: torch.device("cpu"))
    for section in (gpu.row_of_compilation, gpu.rows_of_ap, gpu.row_of_training):
        section(found, options, 1.0, 100.0)
    assert [row["figure"] for row in found.rows] == ["failed: RuntimeError: no kernel"] * 3


def test_the_peak_memory_that_train_prints():
    output = "epoch 1/1: peak memory 1.0G\nresults in runs/train/exp; peak memory 2.5G\nend\n"
    assert training.printed_peak_memory(output) == "2.5G"
    assert training.printed_peak_memory("nothing of the kind\n") == "unknown"
