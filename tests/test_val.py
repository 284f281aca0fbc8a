"""val.py: what it writes, for .pt and .onnx."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from graftdet import export, val
from graftdet.models import load_model
from graftdet.models.backends import BACKENDS, ExportOptions
from graftdet.models.weights.transfer import build_from_weights
from graftdet.models.weights.weights_file import load_weights
from graftdet.utils.checkpoint import load_checkpoint, save_checkpoint
from graftdet.utils.images.io import write_image

ROOT = Path(__file__).resolve().parents[1]
NAMES = ["circle", "square", "triangle"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A small COCO dataset: category ids with gaps, image ids that are no indices, one image without boxes."""
    folder = tmp_path_factory.mktemp("dàta set")
    random = np.random.default_rng(0)
    images, annotations = [], []
    for number, (height, width) in enumerate(((64, 96), (96, 64), (50, 80), (64, 64), (120, 90))):
        name = f"{number} é.png"
        write_image(folder / "images" / name, random.integers(0, 256, (height, width, 3), np.uint8))
        images.append({"id": 1000 + 7 * number, "file_name": name, "width": width, "height": height})
        for category in (3, 20)[: number % 3]:
            box = [4 + number, 6, 30, 25 + number]
            annotations.append(
                {"id": len(annotations), "image_id": 1000 + 7 * number, "category_id": category, "bbox": box}
            )
    categories = [{"id": id_, "name": name} for id_, name in zip((3, 7, 20), NAMES)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "val.json").write_text(json.dumps(content))
    split = "{images: images, annotations: val.json}"
    (folder / "tiny.yaml").write_text(f"format: coco\npath: '{folder.as_posix()}'\ntrain: {split}\nval: {split}\n")
    return folder / "tiny.yaml"


@pytest.fixture(scope="module")
def exported(tiny_weights, tmp_path_factory):
    """Files of one size (a square) and dynamic."""
    folder, model = tmp_path_factory.mktemp("onnx"), build_from_weights(load_weights(tiny_weights))
    return {
        d: BACKENDS["onnx"].export(model, folder / f"{d}.onnx", ExportOptions((96, 96), dynamic=d))
        for d in (False, True)
    }


def run(weights, data, tmp_path, *more):
    weights = weights if isinstance(weights, list) else [weights]
    argv = ["--weights", *weights, "--data", data, "--project", tmp_path, *"--img 96 --workers 0 --device cpu".split()]
    return val.main([str(argument) for argument in [*argv, *more]])


def test_files_that_validation_writes(tiny_weights, data, tmp_path, capsys):
    result = run(tiny_weights, data, tmp_path)
    predictions = json.loads((tmp_path / "exp" / "predictions.json").read_text())
    assert predictions and {p["image_id"] for p in predictions} <= {1000, 1007, 1014, 1021, 1028}
    assert {p["category_id"] for p in predictions} <= {3, 7, 20}
    assert all(set(p) == {"image_id", "category_id", "bbox", "score"} for p in predictions)
    metrics = json.loads((tmp_path / "exp" / "metrics.json").read_text())
    assert metrics["AP50-95"] == result.metrics["AP50-95"] and [c["name"] for c in metrics["per_class"]] == NAMES
    assert metrics["per_class"][1]["AP50"] is None  # no such object there: not a number, and JSON has none
    images = {"PR_curve.png", "confusion_matrix.png", "val_batch0_labels.jpg", "val_batch0_pred.jpg"}
    assert images <= {path.name for path in (tmp_path / "exp").iterdir()}
    printed = capsys.readouterr().out
    assert "circle" in printed and "AP50-95" in printed and "tiny näme.pt" in printed
    run(tiny_weights, data, tmp_path)
    run(tiny_weights, data, tmp_path, "--exist-ok")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["exp", "exp2"]


def test_labels_of_predictions(tiny_weights, data, tmp_path):
    result = run(tiny_weights, data, tmp_path, "--save-txt", "--save-conf", "--conf", "0.2")
    files = {path.name: path.read_text().splitlines() for path in (result.folder / "labels").iterdir()}
    assert set(files) <= {f"{number} é.txt" for number in range(5)}
    assert sum(map(len, files.values())) == len(result.predictions) > 0
    label, cx, cy, w, h, score = map(float, files["0 é.txt"][0].split())  # of an image of 96x64 pixels
    first = next(p for p in result.predictions if p["image_id"] == 1000)
    assert [3, 7, 20][int(label)] == first["category_id"] and score == pytest.approx(first["score"], abs=1e-5)
    box = [(cx - w / 2) * 96, (cy - h / 2) * 64, w * 96, h * 64]
    np.testing.assert_allclose(box, first["bbox"], atol=1e-3)


def test_images_go_to_the_device_of_the_model(tiny_weights, exported, data, tmp_path, monkeypatch):
    class Stop(Exception):
        pass

    asked, load_models = [], val.load_models

    def load(*arguments):
        model = load_models(*arguments)
        if model.backend == "torch":
            model.device = torch.device("cuda", 1)
        return model

    def evaluate(model, loader, device="cpu", **_):
        asked.append(str(device))
        raise Stop

    monkeypatch.setattr(val, "load_models", load)
    monkeypatch.setattr(val, "evaluate", evaluate)
    for weights in (tiny_weights, exported[True]):
        with pytest.raises(Stop):
            run(weights, data, tmp_path)
    assert asked == ["cuda:1", "cpu"]


@pytest.mark.parametrize(
    ("recipe", "options", "squares"),
    [
        (
            {"mosaic": 0, "scale": 0.0, "translate": 0, "degrees": 0, "shear": 0, "perspective": 0, "fliplr": 0.5},
            {},
            True,
        ),
        ({"mosaic": 0, "scale": 0, "translate": 0, "degrees": 0, "shear": 0, "perspective": 0}, {"rect": True}, False),
        ({"mosaic": 0, "scale": 0.5, "translate": 0, "degrees": 0, "shear": 0, "perspective": 0}, {}, False),
        ({"mosaic": 0}, {}, False),
    ],
)
def test_models_trained_with_square_letterboxing_are_validated_with_it(
    recipe, options, squares, tiny_weights, data, tmp_path
):
    """Without geometric augmentation the network overfits to the borders of the training images."""
    path = save_checkpoint(
        tmp_path / "w.pt", {**load_checkpoint(tiny_weights), "hyperparameters": recipe, "options": options}
    )
    run(path, data, tmp_path, "--name", "usual")
    run(path, data, tmp_path, "--name", "square", "--square")
    usual, square = ((tmp_path / name / "predictions.json").read_text() for name in ("usual", "square"))
    assert (usual == square) == squares
    if squares:  # whatever runs the weights
        run([path, path], data, tmp_path, "--name", "both")
        run([path, path], data, tmp_path, "--name", "both-square", "--square")
        export.main(["--weights", str(path), "--img", "96", "--dynamic", "--include", "onnx", "openvino"])
        for name in ("w.onnx", "w.xml"):
            assert load_model(path.with_name(name)).square_letterbox
        both, square = ((tmp_path / name / "predictions.json").read_text() for name in ("both", "both-square"))
        assert both == square and load_model(path, backend="onnx").square_letterbox


def test_boxes_are_in_the_frame_of_the_source(tiny_weights, data, tmp_path):
    run(tiny_weights, data, tmp_path, "--square")
    predictions = json.loads((tmp_path / "exp" / "predictions.json").read_text())
    model = load_model(tiny_weights)
    image = data.parent / "images" / "3 é.png"  # a square: letterboxed by both in the same way
    (found,) = model.predict(image, imgsz=96, conf=0.3, iou=0.6)
    assert len(found)
    best = max((p for p in predictions if p["image_id"] == 1021 and min(p["bbox"][2:]) > 0), key=lambda p: p["score"])
    x, y, w, h = best["bbox"]
    assert (3, 7, 20)[found.labels[0]] == best["category_id"]
    np.testing.assert_allclose([x, y, x + w, y + h], found.boxes[0], atol=0.01)
    assert best["score"] == pytest.approx(float(found.scores[0]), abs=1e-4)
    sizes = {1000 + 7 * number: size for number, size in enumerate(((64, 96), (96, 64), (50, 80), (64, 64), (120, 90)))}
    for prediction in predictions:
        x, y, w, h = prediction["bbox"]
        height, width = sizes[prediction["image_id"]]
        assert x >= 0 and y >= 0 and x + w <= width + 0.01 and y + h <= height + 0.01


def test_onnx_and_torch_have_equal_ap(tiny_weights, exported, data, tmp_path):
    by_torch = run(tiny_weights, data, tmp_path, "--square")
    for path in exported.values():
        by_onnx = run(path, data, tmp_path, "--square")
        assert by_onnx.metrics["AP50-95"] == pytest.approx(by_torch.metrics["AP50-95"], abs=1e-3)
        assert len(by_onnx.predictions) == pytest.approx(len(by_torch.predictions), abs=5)
    assert run(exported[True], data, tmp_path).images == 5


def test_ensembles_and_augmentation_run(tiny_weights, exported, data, tmp_path):
    one = run(tiny_weights, data, tmp_path, "--square")
    two = run([tiny_weights, exported[False]], data, tmp_path)
    assert two.metrics["AP50-95"] == pytest.approx(one.metrics["AP50-95"], abs=1e-3)  # twice the same model
    assert run([tiny_weights, tiny_weights], data, tmp_path, "--augment").images == 5


def test_no_detections_give_zero_ap(tiny_weights, data, tmp_path):
    content = load_checkpoint(tiny_weights)
    for name, value in content["model"].items():
        if name.startswith("model.8.m") and name.endswith("bias"):
            value[:] = -100
        elif name.startswith("model.8.m"):
            value[:] = 0
    result = run(save_checkpoint(tmp_path / "blind.pt", content), data, tmp_path)
    assert result.metrics["AP50-95"] == 0 and result.metrics["AP50"] == 0
    assert json.loads((tmp_path / "exp" / "predictions.json").read_text()) == []


def test_classes_in_another_order_are_matched_by_name(tiny_weights, data, tmp_path, capsys):
    """The dataset lists its classes in another order than the weights: same boxes, same ids, same scores."""
    by_order = run(tiny_weights, data, tmp_path)
    text = data.read_text() + "names: [triangle, circle, square]\n"
    (tmp_path / "other.yaml").write_text(text)
    assert "matched by name" not in capsys.readouterr().out
    by_name = run(tiny_weights, tmp_path / "other.yaml", tmp_path)
    assert "matched by name" in capsys.readouterr().out
    assert by_name.predictions == by_order.predictions and by_name.metrics == by_order.metrics
    assert [entry["name"] for entry in by_name.per_class] == NAMES


@pytest.mark.parametrize("script", ["val", "detect"])
def test_half_warns_where_it_has_no_effect(script, tiny_weights, exported, data, tmp_path, capsys, monkeypatch):
    from graftdet import detect

    monkeypatch.setattr("graftdet.models.inference.torch_model.has_bfloat16", lambda: False)
    weights = [tiny_weights, exported[True]]
    if script == "val":
        run(weights, data, tmp_path, "--half")
    else:
        arguments = [
            "--weights",
            *weights,
            "--source",
            data.parent / "images",
            "--project",
            tmp_path,
            "--device",
            "cpu",
            "--half",
        ]
        detect.main([str(argument) for argument in [*arguments, "--backend", "torch"]])
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(";")[0] for line in lines] == [f"warning: --half: has no effect on {path}" for path in weights]


@pytest.mark.skipif(sys.platform != "linux", reason="file names are text there")
def test_a_name_that_is_not_utf8_loses_nothing(tiny_weights, tmp_path):
    """Its id is percent-encoded."""
    for number, name in enumerate((b"caf\xe9", b"b")):
        stem = os.fsdecode(os.fsencode(tmp_path) + b"/images/" + name)
        write_image(stem + ".png", np.random.default_rng(number).integers(0, 256, (64, 96, 3), np.uint8))
        Path(stem.replace("/images/", "/labels/")).parent.mkdir(exist_ok=True)
        Path(stem.replace("/images/", "/labels/") + ".txt").write_text("0 0.5 0.5 0.25 0.25\n")
    (tmp_path / "d.yaml").write_text("format: yolo\nval: images\nnames: [circle, square, triangle]\n")
    flags = [
        "--weights",
        tiny_weights,
        "--data",
        tmp_path / "d.yaml",
        "--project",
        tmp_path / "runs",
        "--device",
        "cpu",
    ]
    command = [sys.executable, ROOT / "val.py", *flags, "--workers", 0]
    done = subprocess.run([str(argument) for argument in command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    predictions = json.loads((tmp_path / "runs" / "exp" / "predictions.json").read_text(encoding="utf-8"))
    assert {found["image_id"] for found in predictions} == {"caf%E9", "b"}
    assert json.loads((tmp_path / "runs" / "exp" / "metrics.json").read_text(encoding="utf-8"))["AP50"] is not None


def test_slices_are_validated_in_pixels_of_the_images(exported, data, tmp_path):
    """A square image that fits into one window has the same detections as without; smaller windows have others."""

    def of_square_image(*flags):
        found = run(exported[False], data, tmp_path, "--max-det", 3000, *flags).predictions
        inside = (one for one in found if one["image_id"] == 1021 and min(one["bbox"][2:]) > 0)
        return sorted((one["category_id"], one["score"], *one["bbox"]) for one in inside)

    plain, whole = of_square_image(), of_square_image("--slice", 200)
    assert len(plain) > 50
    np.testing.assert_allclose(whole, plain, atol=1e-3)
    sliced = of_square_image("--slice", 48, "--slice-overlap", 0.3)
    assert len(sliced) > 50 and not {one[1] for one in sliced} <= {one[1] for one in plain}
