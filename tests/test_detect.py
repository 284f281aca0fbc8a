"""detect.py: what it writes for images and videos, and how it ends on invalid input."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from graftdet import detect
from graftdet.models.backends import BACKENDS, ExportOptions
from graftdet.models.weights.transfer import build_from_weights
from graftdet.models.weights.weights_file import load_weights
from graftdet.utils import cli
from graftdet.utils.images.io import read_image, write_image

ROOT = Path(__file__).resolve().parents[1]


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


@pytest.fixture
def images(tmp_path):
    """A folder with two valid images, a truncated one and a text file."""
    folder = tmp_path / "my imägés"
    write_image(folder / "a b.png", noise(64, 96))
    write_image(folder / "ç.jpg", noise(80, 60, 1))
    (folder / "broken.jpg").write_bytes((folder / "ç.jpg").read_bytes()[:300])
    (folder / "notes.txt").write_text("not an image")
    return folder


def test_all_outputs_for_a_folder(run_detect, tiny_weights, images, capsys):
    folder = run_detect(tiny_weights, images, "--save-txt", "--save-conf", "--save-json", "--save-csv", "--save-crop")
    output = capsys.readouterr()
    assert "broken.jpg" in output.err and "skipped" in output.err and output.err.count("\n") == 1
    assert {path.name for path in folder.iterdir()} == {
        "a b.png",
        "ç.jpg",
        "labels",
        "crops",
        "detections.json",
        "detections.csv",
    }
    records = json.loads((folder / "detections.json").read_text(encoding="utf-8"))
    assert [(Path(r["source"]).name, r["width"], r["height"]) for r in records] == [
        ("a b.png", 96, 64),
        ("ç.jpg", 60, 80),
    ]
    detections = records[0]["detections"]
    assert detections and detections == sorted(detections, key=lambda d: -d["score"])
    lines = [line.split() for line in (folder / "labels" / "a b.txt").read_text().splitlines()]
    assert len(lines) == len(detections)
    for line, one in zip(lines, detections):
        x1, y1, x2, y2 = one["box"]
        expected = [(x1 + x2) / 2 / 96, (y1 + y2) / 2 / 64, (x2 - x1) / 96, (y2 - y1) / 64, one["score"]]
        assert int(line[0]) == one["label"]
        np.testing.assert_allclose([float(v) for v in line[1:]], expected, atol=1e-5)
    rows = list(csv.DictReader(open(folder / "detections.csv", newline="", encoding="utf-8")))
    assert len(rows) == sum(len(r["detections"]) for r in records) and rows[0]["class"] == detections[0]["name"]
    assert len(list((folder / "crops").rglob("*.jpg"))) == len(rows)
    assert (read_image(folder / "a b.png") != read_image(images / "a b.png")).any()
    assert f"2 images, {len(rows)} detections" in output.out and "a b.png: " in output.out


def test_several_sources_as_a_shell_expands_them(run_detect, tiny_weights, images, capsys):
    folder = run_detect(tiny_weights, images / "ç.jpg", "--source", images / "ç.jpg", images / "a b.png")
    assert {path.name for path in folder.iterdir()} == {"a b.png", "ç.jpg"}
    assert "ç.jpg and 1 more" in capsys.readouterr().out


def test_options(run_detect, tiny_weights, images, tmp_path):
    def records(*more):
        folder = run_detect(tiny_weights, images / "a b.png", "--save-json", *more)
        return json.loads((folder / "detections.json").read_text())[0]["detections"], folder

    every, _ = records()
    some = every[0]["name"]
    only, _ = records("--classes", some)
    assert only and {one["name"] for one in only} == {some}
    assert len(records("--max-det", "1")[0]) == 1
    assert records("--conf", "0.99")[0] == []
    assert len(records("--agnostic")[0]) <= len(every)
    assert records("--augment")[0] != every
    assert records("--img", "128")[0] != every
    assert abs(len(records("--batch-size", "4", "--half")[0]) - len(every)) <= 3  # bfloat16, where the CPU has it
    (labels,) = (records("--save-conf")[1] / "labels").iterdir()  # without --save-txt, too
    assert {len(line.split()) for line in labels.read_text().splitlines()} == {6}
    _, folder = records("--no-save", "--name", "named")
    assert folder.name == "named" and [path.name for path in folder.iterdir()] == ["detections.json"]
    names = sorted(path.name for path in (tmp_path / "runs").iterdir())
    assert names[:3] == ["exp", "exp2", "exp3"]
    before = len(names)
    records("--exist-ok")
    assert len(list((tmp_path / "runs").iterdir())) == before


def test_the_last_line_says_whether_anything_is_saved(run_detect, tiny_weights, images, capsys):
    folder = run_detect(tiny_weights, images / "a b.png", "--nosave")
    assert capsys.readouterr().out.endswith("; nothing saved\n") and not list(folder.iterdir())
    folder = run_detect(tiny_weights, images / "a b.png", "--nosave", "--save-csv")
    assert capsys.readouterr().out.endswith(f"; saved to {folder}\n")


def test_labels_of_an_earlier_run_are_removed(run_detect, tiny_weights, images, capsys):
    folder = run_detect(tiny_weights, images, "--save-txt", "--save-crop", "--exist-ok")
    assert list((folder / "labels").iterdir()) and "earlier run" not in capsys.readouterr().err
    assert run_detect(tiny_weights, images, "--save-txt", "--save-crop", "--exist-ok", "--conf", "0.99") == folder
    assert (
        not list((folder / "labels").iterdir())
        and "crops: also contains crops of an earlier run" in capsys.readouterr().err
    )


def test_onnx_and_ensembles(run_detect, tiny_weights, images, tmp_path):
    model = build_from_weights(load_weights(tiny_weights))
    path = BACKENDS["onnx"].export(model, tmp_path / "m.onnx", ExportOptions((64, 64), dynamic=True))
    by_file = []
    for weights in (tiny_weights, path, [tiny_weights, path]):
        folder = run_detect(weights, images / "a b.png", "--save-json", "--img", "64")
        by_file.append(json.loads((folder / "detections.json").read_text())[0]["detections"])
    assert len(by_file[0]) == len(by_file[1]) == len(by_file[2])
    for a, b in zip(by_file[0], by_file[1]):
        assert a["label"] == b["label"] and a["box"] == pytest.approx(b["box"], abs=0.05)


@pytest.mark.parametrize("display", ["", ":0"])
def test_view_without_a_display_warns_and_continues(run_detect, display, tiny_weights, images, capsys, monkeypatch):
    def no_display(*_):
        if not display:  # the real one ends the process here
            pytest.fail("a window was opened although there is no display")
        raise cv2.error("no display")

    for name in ("WAYLAND_DISPLAY", "QT_QPA_PLATFORM"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DISPLAY", display)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(cv2, "namedWindow", no_display)
    folder = run_detect(tiny_weights, images, "--view")
    assert capsys.readouterr().err.count("--view") == 1 and (folder / "a b.png").exists()


def test_view_ends_with_q(run_detect, tiny_weights, images, window):
    window.press = lambda milliseconds: ord("q")
    run_detect(tiny_weights, images, "--view")
    assert [image.shape for _, image in window.shown] == [(64, 96, 3)]


def test_a_contact_sheet_has_all_images(run_detect, tiny_weights, images):
    folder = run_detect(tiny_weights, images, "--grid", "--no-save")
    (sheet,) = folder.iterdir()
    assert sheet.name == "grid.jpg" and read_image(sheet).shape[1] == 4 + 2 * (384 + 4)  # one of three is truncated


class Runs:
    def __reduce__(self):
        return print, ("executed",)


def test_invalid_input_ends_in_one_line(tiny_weights, images, tmp_path, capfd):
    (tmp_path / "text.jpg").write_text("hello")
    (tmp_path / "empty").mkdir()
    (tmp_path / "only text").mkdir()
    (tmp_path / "only text" / "a.txt").write_text("hello")
    (tmp_path / "truncated.mp4").write_bytes(b"\x00\x00\x00\x18ftypmp42" + bytes(100))
    (tmp_path / "truncated.pt").write_bytes(tiny_weights.read_bytes()[:5000])
    (tmp_path / "text.onnx").write_text("hello")
    torch.save({"model": Runs()}, tmp_path / "bad.pt")
    torch.save({"layer.weight": torch.zeros(2)}, tmp_path / "foreign.pt")
    good = ["--weights", tiny_weights, "--source", images]
    table = [
        (["--weights", tmp_path / "missing.pt", "--source", images], "missing.pt"),
        (["--weights", tmp_path / "truncated.pt", "--source", images], "truncated"),
        (["--weights", tmp_path / "bad.pt", "--source", images], "refused"),
        (["--weights", tmp_path / "foreign.pt", "--source", images], "--cfg"),
        (["--weights", tmp_path / "text.onnx", "--source", images], "text.onnx"),
        (["--weights", tiny_weights, "--source", tmp_path / "nothing.jpg"], "nothing.jpg"),
        (["--weights", tiny_weights, "--source", tmp_path / "text.jpg"], "text.jpg"),
        (["--weights", tiny_weights, "--source", tmp_path / "empty"], "no images"),
        (["--weights", tiny_weights, "--source", tmp_path / "only text"], "no images"),
        (["--weights", tiny_weights, "--source", tmp_path / "truncated.mp4"], "truncated.mp4"),
        (["--weights", tiny_weights], "--source"),
        ([*good, "--clases", "circle"], "did you mean '--classes'"),
        ([*good, "--classes", "cirle"], "did you mean 'circle'"),
        ([*good, "--conf", "high"], "from 0 to 1"),
        ([*good, "--img", "0"], "--img"),
        ([*good, "--img", "1", "2", "3"], "--img"),
        ([*good, "--name", "../up"], "--name"),
        ([*good, "--device", "tpu"], "tpu"),
    ]
    for argv, message in table:
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.run(lambda argv=argv: detect.main([str(w) for w in [*argv, "--project", tmp_path / "runs"]]))
        output = capfd.readouterr()
        assert ended.value.code == 2 and output.err.count("\n") == 1 and message in output.err, (argv, output.err)
        assert "executed" not in output.out
    assert not (tmp_path / "runs").exists()


def test_without_weights_the_newest_run_is_used(tiny_weights, images, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        cli.run(lambda: detect.main(["--source", str(images)]))
    assert "--weights" in capsys.readouterr().err
    best = tmp_path / "runs" / "train" / "exp" / "weights" / "best.pt"
    best.parent.mkdir(parents=True)
    best.write_bytes(tiny_weights.read_bytes())
    detect.main(["--source", str(images), "--device", "cpu"])
    assert str(Path("runs/train/exp/weights/best.pt")) in capsys.readouterr().out
    assert (tmp_path / "runs" / "detect" / "exp" / "a b.png").is_file()


@pytest.mark.parametrize("suffix", [".onnx", ".pt"])
def test_an_exported_model_runs_without_torch(run_detect, suffix, tiny_weights, images, tmp_path):
    """The whole script, in a process where torch cannot be imported; for a .pt after its export is cached."""
    weights = tmp_path / f"m{suffix}"
    if suffix == ".onnx":
        BACKENDS["onnx"].export(build_from_weights(load_weights(tiny_weights)), weights, ExportOptions((64, 64)))
    else:
        weights.write_bytes(tiny_weights.read_bytes())
        for _ in range(2):  # the first start with few images makes no export
            run_detect(weights, images, "--backend", "auto")
    code = (
        "import sys; sys.modules['torch'] = None; from graftdet import detect; from graftdet.utils import cli; "
        "cli.run(detect.main)"
    )
    command = [sys.executable, "-c", code, "--weights", weights.name, "--source", str(images), "--save-csv"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "runs" / "detect" / "exp" / "detections.csv").is_file()


@pytest.mark.skipif(sys.platform != "linux", reason="file names are text there")
def test_a_file_name_that_is_not_utf8(tiny_weights, tmp_path):
    """It is percent-encoded, in files and as the name of files."""
    name = Path(os.fsdecode(os.fsencode(tmp_path) + b"/in/caf\xe9.png"))
    write_image(name, noise(64, 96))
    write_image(name.with_name("b.png"), noise(64, 96, 1))
    flags = [
        "--weights",
        tiny_weights,
        "--source",
        tmp_path / "in",
        "--project",
        tmp_path / "runs",
        "--device",
        "cpu",
        "--conf",
        0.3,
    ]
    flags += ["--backend", "torch", "--save-txt", "--save-json", "--save-csv", "--save-crop"]
    command = [sys.executable, ROOT / "detect.py", *flags]
    done = subprocess.run([str(argument) for argument in command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "runs" / "exp"
    sources = [record["source"] for record in json.loads((folder / "detections.json").read_text(encoding="utf-8"))]
    assert sources == [str(tmp_path / "in" / "b.png"), str(tmp_path / "in" / "caf%E9.png")]
    with open(folder / "detections.csv", encoding="utf-8", newline="") as file:
        assert {row["source"] for row in csv.DictReader(file)} == set(sources)
    assert (folder / "caf%E9.png").exists() and (folder / "labels" / "caf%E9.txt").exists()
    assert any(path.name == "caf%E9.jpg" for path in (folder / "crops").rglob("*"))
