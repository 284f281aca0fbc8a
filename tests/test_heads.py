"""Heads without anchors through all four scripts: one module of a YAML changes; suppression follows the head."""

import csv

import pytest
import torch

from graftdet import detect, export, train, val
from graftdet.models import load_model
from graftdet.utils import cli
from graftdet.utils.checkpoint import load_checkpoint
from graftdet.utils.errors import UserError

LOSSES = {
    "AnchorFreeDetect": ["box", "cls", "dfl"],
    "PicoHead": ["box", "cls", "dfl"],
    "DetectX": ["box", "obj", "cls"],
    "OneToOneDetect": ["box", "cls", "dfl", "o2o_cls"],
}


@pytest.fixture(scope="module")
def trained(workspace, train_arguments, tiny_yaml):
    """`trained(head)`: the best.pt of a run of two epochs with that head, trained once."""
    done = {}

    def run(head):
        if head not in done:
            cfg = workspace / f"{head}.yaml"
            cfg.write_text(tiny_yaml.replace("Detect, [nc, anchors]", f"{head}, [nc]"), encoding="utf-8")
            train.main(train_arguments("--name", head, "--cfg", cfg, "--epochs", 2, "--freeze", 1))
            done[head] = workspace / "runs" / head / "weights" / "best.pt"
        return done[head]

    return run


@pytest.fixture
def count(workspace, tmp_path):
    """`count(weights, *flags)`: how many detections val.py finds."""

    def run(weights, *flags):
        weights = weights if isinstance(weights, list) else [weights]
        arguments = [
            "--weights",
            *weights,
            "--data",
            workspace / "data.yaml",
            "--workers",
            0,
            "--device",
            "cpu",
            "--project",
            tmp_path,
        ]
        return len(
            val.main(
                [str(argument) for argument in (*arguments, "--conf", 0, "--iou", 0.1, "--max-det", 9999, *flags)]
            ).predictions
        )

    return run


@pytest.mark.parametrize("head", LOSSES)
def test_all_four_scripts_run_with_each_head(head, trained, count, workspace, tmp_path, capsys):
    weights = trained(head)
    rows = list(csv.DictReader((weights.parents[1] / "results.csv").open()))
    columns = [key.strip() for key in rows[0]]
    assert len(rows) == 2 and all(any(name == c.split("/")[-1] for c in columns) for name in LOSSES[head]), columns
    free = head == "OneToOneDetect"
    assert load_model(weights).needs_nms is not free
    export.main(["--weights", str(weights), "--dynamic", "--out", str(tmp_path / "w.onnx")])
    assert "largest |a-b|" in capsys.readouterr().out
    for file in (weights, tmp_path / "w.onnx"):
        plain, suppressed, none = count(file), count(file, "--nms", "standard"), count(file, "--nms", "none")
        assert plain == (none if free else suppressed) and suppressed < none
        assert count(file, "--augment") == count(file, "--augment", "--nms", "standard")  # several views, several boxes
        assert count([file, file]) == count([file, file], "--nms", "standard")  # and several models


def detected(weights, workspace, tmp_path, *flags):
    arguments = [
        "--weights",
        weights,
        "--source",
        workspace / "shapes" / "images" / "val",
        "--conf",
        0.0,
        "--iou",
        0.1,
        "--no-save",
    ]
    arguments += ["--backend", "torch"]
    detect.main(
        [
            str(argument)
            for argument in (*arguments, "--save-csv", "--project", tmp_path, "--exist-ok", "--device", "cpu", *flags)
        ]
    )
    return list(csv.DictReader((tmp_path / "exp" / "detections.csv").open()))


def test_detect_applies_nms_if_the_head_needs_it(trained, workspace, tmp_path):
    weights = trained("OneToOneDetect")
    all_boxes = detected(weights, workspace, tmp_path)
    assert len(detected(weights, workspace, tmp_path, "--agnostic")) == len(all_boxes)  # nothing is suppressed
    suppressed = detected(weights, workspace, tmp_path, "--nms", "standard")
    assert (
        len(detected(weights, workspace, tmp_path, "--nms", "standard", "--agnostic"))
        <= len(suppressed)
        < len(all_boxes)
    )
    labels = {row["label"] for row in all_boxes}
    one = sorted(labels)[0]
    only = detected(weights, workspace, tmp_path, "--classes", one)
    assert only == [row for row in all_boxes if row["label"] == one]
    assert len(detected(weights, workspace, tmp_path, "--max-det", 5)) == 5 * len({row["source"] for row in all_boxes})


def test_the_other_branch_is_validated_with_nms(trained, count, workspace, tmp_path):
    weights = trained("OneToOneDetect")
    assert count(weights, "--branch", "one_to_many") == count(weights, "--branch", "one_to_many", "--nms", "standard")
    assert count(weights, "--branch", "one_to_one") == count(weights)
    with pytest.raises(UserError, match=r"best.pt: branch 'one_to_man': expected one of .*did you mean 'one_to_many'"):
        count(weights, "--branch", "one_to_man")
    with pytest.raises(UserError, match=r"best.pt: branch 'one_to_many': this head has no branches \(PicoHead\)"):
        count(trained("PicoHead"), "--branch", "one_to_many")
    export.main(["--weights", str(weights), "--out", str(tmp_path / "w.onnx")])
    with pytest.raises(UserError, match=r"w.onnx: branch 'one_to_many': an exported file contains one branch only"):
        count(tmp_path / "w.onnx", "--branch", "one_to_many")


@pytest.mark.parametrize("head", ["OneToOneDetect", "PicoHead"])
def test_an_interrupted_run_is_resumed(head, trained, run_train_until, workspace):
    """Both branches, moments and averages are in the checkpoint: the result is that of an uninterrupted run."""
    finished_run = trained(head).parent
    weights = (
        run_train_until(1, f"{head} broken", "--cfg", workspace / f"{head}.yaml", "--epochs", 2, "--freeze", 1)
        / "weights"
    )
    train.main(["--resume", str(weights.parent)])
    one, other = (load_checkpoint(folder / "last.pt")["ema"] for folder in (finished_run, weights))
    assert list(one) == list(other) and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ("[nc, anchors]", "takes no anchors; write [nc]"),
        ("[nc, 16, maybe]", "argument 'light' must be True or False, got 'maybe'"),
        ("[ncc]", "argument 'nc' must be a number, got 'ncc'"),
    ],
)
def test_wrong_args_are_reported_in_one_line(args, message, workspace, train_arguments, tiny_yaml, tmp_path, capsys):
    (tmp_path / "wrong.yaml").write_text(tiny_yaml.replace("Detect, [nc, anchors]", f"AnchorFreeDetect, {args}"))
    with pytest.raises(SystemExit):
        cli.run(lambda: train.main(train_arguments("--cfg", tmp_path / "wrong.yaml")))
    output = capsys.readouterr().err
    assert (
        output.count("\n") == 1
        and "wrong.yaml:16:35: error[invalid-arguments] row 8 (head row 3) AnchorFreeDetect: " in output
        and message in output
    )
