"""Flags of train.py: what they do, and errors."""

import csv
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from graftdet import train
from graftdet.data import training_data
from graftdet.data.dataset import DetectionDataset
from graftdet.models.editing.editor import insert_row
from graftdet.utils import cli
from graftdet.utils.checkpoint import load_checkpoint

ROOT = Path(train.__file__).parent


@pytest.fixture(scope="module")
def trained(workspace, train_arguments):
    """Weights of a run of one epoch, which is finished."""
    train.main(train_arguments("--name", "trained", "--epochs", 1))
    return workspace / "runs" / "trained" / "weights" / "best.pt"


def rows(folder):
    with open(folder / "results.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_targets_are_checked_before_the_first_epoch(run_train_until, monkeypatch):
    asked = []
    monkeypatch.setattr(train, "report_targets", lambda model, targets: asked.append((type(model).__name__, targets)))
    folder = run_train_until(1, "targets", "--epochs", 2, "--target", "onnx", "rknn")
    assert asked == [("DetectionModel", ["onnx", "rknn"])]
    train.main(["--resume", str(folder)])
    assert asked[1:] == [("DetectionModel", [])]  # the run was warned about


def test_noval_validates_after_the_last_epoch_only(run_train):
    folder = run_train("noval", "--epochs", 2, "--noval", "--save-period", 1)
    first, last = rows(folder)
    assert first["val/AP50"] == "" and last["val/AP50"] != ""
    assert sorted(path.name for path in (folder / "weights").iterdir()) == [
        "best.pt",
        "epoch1.pt",
        "epoch2.pt",
        "last.pt",
    ]


@pytest.mark.parametrize(
    ("flags", "rect"),
    [
        ([], True),
        (["--set", "mosaic=0", "scale=0", "translate=0"], False),
        (["--rect", "--set", "mosaic=0", "scale=0", "translate=0"], True),
    ],
)
def test_square_letterboxing_in_validation_without_geometric_augmentation(run_train, monkeypatch, flags, rect):
    seen = {}

    def watched(split, *, label, **how):
        seen[label] = how.get("rect", False)
        return DetectionDataset(split, label=label, **how)

    monkeypatch.setattr(training_data, "open_dataset", watched)
    run_train("square", "--epochs", 1, *flags)
    assert seen == {"train": "--rect" in flags, "val": rect}


@pytest.mark.parametrize(
    "flags",
    [
        ["--multi-scale", "--cos-lr", "--optimizer", "AdamW", "--set", "lr0=1e-3"],
        ["--rect", "--image-weights", "--set", "close_mosaic=1", "mixup=0.5"],
        ["--single-cls", "--amp", "on", "--imgsz", "50"],
        ["--set", "anchors=2", "--cache", "disk", "--patience", "1"],
    ],
    ids=" ".join,
)
def test_flags(run_train, flags):
    folder = run_train("flags", "--epochs", 2, *flags)
    assert len(rows(folder)) == 2
    best = load_checkpoint(folder / "weights" / "best.pt")
    assert best["names"] == (["object"] if "--single-cls" in flags else ["circle", "square", "triangle"])
    anchors = next(tensor for name, tensor in best["ema"].items() if name.endswith("anchors"))
    assert anchors.shape == (2, 2 if "anchors=2" in flags else 3, 2)
    assert best["options"]["img"] == 64  # 50 is no multiple of the stride
    from graftdet.models import load_model

    load_model(folder / "weights" / "best.pt")


def test_weights_of_other_classes_and_frozen_rows(trained, run_train, capsys):
    weights = trained
    folder = run_train("tuned", "--epochs", 1, "--weights", weights, "--single-cls", "--freeze", "4", "--cfg", "")
    assert "class outputs: 0 of 1 matched by name" in capsys.readouterr().out
    before, after = load_checkpoint(weights)["ema"], load_checkpoint(folder / "weights" / "last.pt")["ema"]
    for name, tensor in after.items():
        row = int(name.split(".")[1])
        if row < 4:
            assert torch.equal(tensor, before[name]), name
    assert not torch.equal(after["model.7.cv1.conv.weight"], before["model.7.cv1.conv.weight"])


@pytest.mark.parametrize("flag", ["--identity-init", "--no-identity-init"])
def test_inserted_rows_pass_their_input_through_unless_switched_off(
    flag, trained, run_train, tiny_yaml, tmp_path, capsys
):
    model = tmp_path / "grafted.yaml"
    model.write_text(insert_row(tiny_yaml, 3, "[-1, 1, Conv, [16, 3, 1]]"))
    run_train("inserted", "--epochs", 1, "--weights", trained, "--cfg", model, flag)
    initialized = "new rows: 4 initialized to pass their input through (least squares; relative error"
    assert (initialized if flag == "--identity-init" else "new rows: 4 start from random weights") in (
        capsys.readouterr().out
    )


def test_plugin_block_trains_and_resumes(
    workspace, run_train_until, tiny_yaml, tmp_path, capsys, monkeypatch, restore_registry
):
    plugin = tmp_path / "my_blocks.py"
    plugin.write_text(
        "import torch.nn as nn\nclass Doubling(nn.Module):\n    def forward(self, x):\n        return 2 * x\n"
    )
    model = tmp_path / "model.yaml"
    model.write_text(tiny_yaml.replace("[-1, 1, C3, [16]]", "[-1, 1, Doubling, []]"))
    folder = run_train_until(1, "plugin", "--cfg", model, "--plugins", plugin, "--epochs", 2)
    loaded = []
    monkeypatch.setattr("graftdet.train.load_plugins", loaded.extend)

    lone = tmp_path / "lone" / "last.pt"  # as a stranger would send it
    lone.parent.mkdir()
    shutil.copy(folder / "weights" / "last.pt", lone)
    message = (
        f"last.pt: this run used --cfg {model} --data '{workspace / 'data.yaml'}' --plugins {plugin}; give them again"
    )
    assert_message(["--resume", lone], message, capsys)
    assert not loaded and list(lone.parent.iterdir()) == [lone]

    train.main(["--resume", str(folder)])
    assert len(rows(folder)) == 2 and loaded == [str(plugin)]
    again = ["--cfg", str(model), "--data", str(workspace / "data.yaml"), "--plugins", str(plugin)]
    train.main(["--resume", str(lone), *again])
    assert (lone.parent / "weights" / "last.pt").exists()


def test_plugins_are_found_from_elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in ("parts", "my_package"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "__init__.py").write_text("")
    (tmp_path / "my_blocks.py").write_text("")
    arguments = ["my_blocks.py", "parts/", "my_package", "my_package.parts", "no.py"]
    given = train.make_parser().parse_args(["--plugins", *arguments]).plugins
    assert given == [str(tmp_path / "my_blocks.py"), str(tmp_path / "parts"), *arguments[2:]]


def assert_message(flags, message, capsys):
    """`train.py flags` ends with exit status 2 and one line on standard error that holds `message`."""
    with pytest.raises(SystemExit) as end:
        cli.run(lambda: train.main([str(flag) for flag in flags]))
    error = capsys.readouterr().err
    assert end.value.code == 2 and message in error and len(error.strip().splitlines()) == 1, error


def test_resuming_a_finished_run_reports_that_it_is_finished(trained, capsys, monkeypatch):
    assert_message(["--resume", trained.parent], "finished, with these weights after epoch 1", capsys)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--epocs", "3"], "did you mean '--epochs'"),
        (["--epochs", "0"], "expected a whole number of at least 1, got '0'"),
        (["--img", "big"], "got 'big'"),
        (["--optimizer", "Sgd2"], "--optimizer"),
        (["--cfg", "yolov5q.yaml"], "yolov5q.yaml: no such file"),
        (["--data", "shape.yaml"], "did you mean 'shapes.yaml'"),
        (["--hyp", "yolo.yaml"], "no such file"),
        (["--set", "lro=1"], "unknown hyperparameter 'lro'"),
        (["--weights", "no.pt"], "no.pt: no such file"),
        (["--device", "cuda:77"], "--device cuda:77"),
        (["--freeze", "99"], "rows 0 to 8"),
        (["--plugins", "no.py"], "no.py"),
        (["--resume", "nowhere"], "nowhere"),
        (["--resume", "--search", "x.yaml"], "to resume a search, repeat its --search command"),
        (["--name", "../x"], "--name"),
        (["--set", "distill_logits=2"], "needs a --teacher, which is not given"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_errors_are_reported_in_one_line(flags, message, workspace, train_arguments, capsys, monkeypatch):
    start = [] if "--resume" in flags else train_arguments("--epochs", 1)
    assert_message(start + flags, message, capsys)
    assert "--name" in flags or not (workspace / "runs" / "exp").exists()


def test_a_model_for_gray_images_is_refused(workspace, train_arguments, tiny_yaml, capsys, monkeypatch):
    (workspace / "gray.yaml").write_text(f"ch: 1\n{tiny_yaml}", encoding="utf-8")
    assert_message(
        train_arguments("--cfg", workspace / "gray.yaml"),
        "gray.yaml: ch is 1, but images are read with 3 channels",
        capsys,
    )


def test_text_file_named_like_weights(workspace, train_arguments, capsys, monkeypatch):
    fake = workspace / "fake.pt"
    fake.write_text("no weights")
    assert_message(train_arguments("--weights", fake), str(fake), capsys)


def test_the_script_ends_with_status_2_and_one_line(train_arguments):
    done = subprocess.run(
        [sys.executable, str(ROOT / "train.py"), *train_arguments("--data", "none.yaml")],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2 and len(done.stderr.strip().splitlines()) == 1 and "none.yaml" in done.stderr


def test_weights_of_a_backbone_go_into_their_row(workspace, run_train, capsys):
    from graftdet.models.blocks import BLOCKS

    torch.manual_seed(5)
    published = {name: tensor + 1 for name, tensor in BLOCKS["Conv"](3, 8, 6, 2, 2).state_dict().items()}
    torch.save(published, workspace / "backbone.pt")
    run_train(
        "into",
        "--epochs",
        1,
        "--weights",
        workspace / "backbone.pt",
        "--into",
        0,
        "--set",
        "lr0=0",
        "warmup_bias_lr=0",
        "lrf=0",
    )
    assert "into row 0" in capsys.readouterr().out
    state = load_checkpoint(workspace / "runs/into/weights/best.pt")["ema"]
    assert torch.equal(state["model.0.conv.weight"], published["conv.weight"])
    pair = ("--weights", workspace / "backbone.pt", "--into", 0)
    run_train(
        "pairs", "--epochs", 1, "--noval", *pair, "--weights", workspace / "runs/into/weights/best.pt", "--into", "1-3"
    )
    lines = capsys.readouterr().out
    assert "backbone.pt into row 0, " in lines and "best.pt into rows 1-3, " in lines
    with pytest.raises(cli.UserError, match=r"--weights best.pt: no --into follows"):
        run_train("into", "--epochs", 1, *pair, "--weights", "best.pt")
    for flags in (["--into", 0], ["--min-transfer", 0.5]):
        with pytest.raises(cli.UserError, match="--weights"):
            run_train("into", "--epochs", 1, *flags)
    with pytest.raises(cli.UserError, match="row 99: the model has no such row"):
        run_train("into", "--epochs", 1, "--weights", workspace / "backbone.pt", "--into", 99)
