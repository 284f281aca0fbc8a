"""Heads without anchors through all four scripts: one word of a YAML is all that changes; suppression follows the head."""

import csv

import pytest
import torch
from graftdet.models import load_model
from graftdet.utils import cli
from graftdet.utils.checkpoint import load_checkpoint
from graftdet.utils.errors import UserError

from graftdet import detect, export, train, val

LOSSES = {"AnchorFreeDetect": ["box", "cls", "dfl"], "PicoHead": ["box", "cls", "dfl"],
          "OneToOneDetect": ["box", "cls", "dfl", "o2o_cls"]}  # fmt: skip


@pytest.fixture(scope="module")
def trained(place, train_words, tiny_yaml):
    """`trained(word)`: the best.pt of a run of two epochs with that head, trained once."""
    done = {}

    def run(word):
        if word not in done:
            cfg = place / f"{word}.yaml"
            cfg.write_text(tiny_yaml.replace("Detect, [nc, anchors]", f"{word}, [nc]"), encoding="utf-8")
            train.main(train_words("--name", word, "--cfg", cfg, "--epochs", 2, "--freeze", 1))
            done[word] = place / "runs" / word / "weights" / "best.pt"
        return done[word]

    return run


@pytest.fixture
def measure(place, tmp_path):
    """`measure(weights, *flags)`: how many detections val.py finds."""

    def run(weights, *flags):
        weights = weights if isinstance(weights, list) else [weights]
        words = [
            "--weights",
            *weights,
            "--data",
            place / "data.yaml",
            "--workers",
            0,
            "--device",
            "cpu",
            "--project",
            tmp_path,
        ]
        return len(
            val.main([str(word) for word in (*words, "--conf", 0, "--iou", 0.1, "--max-det", 9999, *flags)]).predictions
        )

    return run


@pytest.mark.parametrize("word", LOSSES)
def test_all_four_scripts(word, trained, measure, place, tmp_path, capsys):
    weights = trained(word)
    rows = list(csv.DictReader((weights.parents[1] / "results.csv").open()))
    columns = [key.strip() for key in rows[0]]
    assert len(rows) == 2 and all(any(name == c.split("/")[-1] for c in columns) for name in LOSSES[word]), columns
    free = word == "OneToOneDetect"
    assert load_model(weights).needs_nms is not free
    export.main(["--weights", str(weights), "--dynamic", "--out", str(tmp_path / "w.onnx")])
    assert "largest |a-b|" in capsys.readouterr().out
    for file in (weights, tmp_path / "w.onnx"):
        plain, kept, none = measure(file), measure(file, "--nms", "standard"), measure(file, "--nms", "none")
        assert plain == (none if free else kept) and kept < none
        assert measure(file, "--augment") == measure(
            file, "--augment", "--nms", "standard"
        )  # several looks, several boxes
        assert measure([file, file]) == measure([file, file], "--nms", "standard")  # and several models


def detected(weights, place, tmp_path, *flags):
    words = [
        "--weights",
        weights,
        "--source",
        place / "pictures" / "images" / "val",
        "--conf",
        0.0,
        "--iou",
        0.1,
        "--no-save",
    ]
    words += ["--backend", "torch"]
    detect.main(
        [str(word) for word in (*words, "--save-csv", "--project", tmp_path, "--exist-ok", "--device", "cpu", *flags)]
    )
    return list(csv.DictReader((tmp_path / "exp" / "detections.csv").open()))


def test_detect_suppresses_where_the_model_needs_it(trained, place, tmp_path):
    weights = trained("OneToOneDetect")
    all_boxes = detected(weights, place, tmp_path)
    assert len(detected(weights, place, tmp_path, "--agnostic")) == len(all_boxes)  # nothing competes
    kept = detected(weights, place, tmp_path, "--nms", "standard")
    assert len(detected(weights, place, tmp_path, "--nms", "standard", "--agnostic")) <= len(kept) < len(all_boxes)
    labels = {row["label"] for row in all_boxes}
    one = sorted(labels)[0]
    only = detected(weights, place, tmp_path, "--classes", one)
    assert only == [row for row in all_boxes if row["label"] == one]
    assert len(detected(weights, place, tmp_path, "--max-det", 5)) == 5 * len({row["source"] for row in all_boxes})


def test_the_other_branch_is_measured_by_suppression(trained, measure, place, tmp_path):
    weights = trained("OneToOneDetect")
    assert measure(weights, "--branch", "one_to_many") == measure(
        weights, "--branch", "one_to_many", "--nms", "standard"
    )
    assert measure(weights, "--branch", "one_to_one") == measure(weights)
    with pytest.raises(UserError, match=r"best.pt: branch 'one_to_man': expected one of .*did you mean 'one_to_many'"):
        measure(weights, "--branch", "one_to_man")
    with pytest.raises(UserError, match=r"best.pt: branch 'one_to_many': this head has no branches \(PicoHead\)"):
        measure(trained("PicoHead"), "--branch", "one_to_many")
    export.main(["--weights", str(weights), "--out", str(tmp_path / "w.onnx")])
    with pytest.raises(UserError, match=r"w.onnx: branch 'one_to_many': an exported file holds one branch only"):
        measure(tmp_path / "w.onnx", "--branch", "one_to_many")


@pytest.mark.parametrize("word", ["OneToOneDetect", "PicoHead"])
def test_an_interrupted_run_goes_on(word, trained, go_until, place):
    """Both branches, moments and averages are in the checkpoint: the end is that of a run in one go."""
    whole = trained(word).parent
    weights = go_until(1, f"{word} broken", "--cfg", place / f"{word}.yaml", "--epochs", 2, "--freeze", 1) / "weights"
    train.main(["--resume", str(weights.parent)])
    one, other = (load_checkpoint(folder / "last.pt")["ema"] for folder in (whole, weights))
    assert list(one) == list(other) and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(
    ("args", "told"),
    [
        ("[nc, anchors]", "takes no anchors: write [nc]"),
        ("[nc, 16, maybe]", "True or False, got 'maybe'"),
        ("[ncc]", "got 'ncc'"),
    ],
)
def test_wrong_args_are_told_in_one_line(args, told, place, train_words, tiny_yaml, tmp_path, capsys):
    (tmp_path / "wrong.yaml").write_text(tiny_yaml.replace("Detect, [nc, anchors]", f"AnchorFreeDetect, {args}"))
    with pytest.raises(SystemExit):
        cli.run(lambda: train.main(train_words("--cfg", tmp_path / "wrong.yaml")))
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "wrong.yaml, row 8 (head row 3) AnchorFreeDetect: " in said and told in said
