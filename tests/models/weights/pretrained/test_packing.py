"""`models weights`: the tables, and a finished run as a file with its card."""

import json

import pytest
import torch

from graftdet.models.__main__ import main
from graftdet.models.weights.pretrained.card import WeightsCard, card_markdown
from graftdet.models.weights.pretrained.files import read_card
from graftdet.models.weights.safetensors_file import read_header
from graftdet.models.weights.weights_file import load_weights
from graftdet.utils.checkpoint import load_checkpoint, save_checkpoint
from graftdet.utils.errors import UserError

CARD = ["--card", "license=Apache-2.0", "trained_on=synthetic contours"]


@pytest.fixture
def finished(tiny_weights, tmp_path):
    """`finished(**content)`: the folder of a finished run of 3 epochs, the second one best."""

    def make(name="run", **content):
        folder = tmp_path / name
        checkpoint = load_checkpoint(tiny_weights)
        options = {
            "cfg": "/home/x/tiny.yaml",
            "data": "contours.yaml",
            "img": 64,
            "seed": 5,
            "epochs": 3,
            "weights": "none",
        }
        options |= {"set": ["mosaic=0", "lr0=0.01"], "batch_size": 16, "project": "runs"}
        state = {"ema": checkpoint["model"], "model": None, "epoch": 2, "finished": True}
        checkpoint |= {"options": options, "versions": {"commit": "abc123"}, "train_images": 1000, **state, **content}
        save_checkpoint(folder / "weights" / "best.pt", checkpoint)
        (folder / "results.csv").write_text("epoch,time,lr\n1,1800,0.1\n2,3600,0.1\n3,5400,0.1\n")
        return folder

    return make


def packed(*arguments):
    main(["weights", "pack", *map(str, arguments)])
    path = next(argument for argument in arguments if str(argument).endswith(".safetensors"))
    return load_weights(path)


def test_a_run_becomes_a_file_and_its_card(finished, tiny_weights, tmp_path, capsys):
    out = tmp_path / "tiny-n.safetensors"
    weights = packed(finished(), out, *CARD, "limits=Few = many.", "--ap", "BCCD test=0.62/0.591")
    card = weights.card
    assert (card.model, card.license, card.trained_on, card.size) == (
        "tiny.yaml",
        "Apache-2.0",
        "synthetic contours",
        64,
    )
    assert card.limits == "Few = many." and card.parameters > 1000
    (run,) = card.runs
    assert (run.seed, run.epochs, run.images, run.hours, run.commit, run.start) == (5, 2, 2000, 1.0, "abc123", "")
    assert run.command == (
        "python train.py --cfg tiny.yaml --weights none --data contours.yaml --set mosaic=0 lr0=0.01 --img 64 --epochs 3 "
        "--batch-size 16 --seed 5"
    )
    (result,) = card.ap
    assert (result.dataset, result.pretrained, result.scratch) == ("BCCD test", 0.62, 0.591)
    original = load_weights(tiny_weights)
    assert weights.names == original.names and weights.state.keys() == original.state.keys()
    assert all(
        torch.allclose(value, original.state[name], rtol=1e-3, atol=1e-6) for name, value in weights.state.items()
    )
    assert out.with_suffix(".md").read_text(encoding="utf-8") == card_markdown("tiny-n", card)
    assert "2,000 images, Apache-2.0" in capsys.readouterr().out


def test_the_runs_of_earlier_weights_come_first(finished, tmp_path):
    first = tmp_path / "first.safetensors"
    packed(finished(), first, *CARD)
    again = finished("again", initial_weights=str(first))
    card = packed(again, tmp_path / "second.safetensors", *CARD).card
    assert [run.start for run in card.runs] == ["", "first"] and card.images == 4000 and card.hours == 2
    first.unlink()
    with pytest.raises(UserError, match="first.safetensors: no such file"):
        packed(again, tmp_path / "second.safetensors", *CARD)


def test_a_start_from_other_weights_is_named(finished, tmp_path):
    card = packed(finished(initial_weights="/gone/yolov5n.pt"), tmp_path / "a.safetensors", *CARD).card
    assert [run.start for run in card.runs] == ["yolov5n"]


def test_the_card_of_a_packed_file_can_be_changed(finished, tmp_path):
    out = tmp_path / "tiny.safetensors"
    before = packed(finished(), out, *CARD, "--ap", "BCCD=0.6/0.5", "shapes=0.9/0.8")
    after = packed(out, out, "--card", "images=5", "hours=1e-1", "--ap", "BCCD=0.7/0.5")
    assert {one.dataset: one.pretrained for one in after.card.ap} == {"shapes": 0.9, "BCCD": 0.7}
    assert after.card.images == 5 and after.card.hours == 0.1 and after.card.trained_on == "synthetic contours"
    assert all(torch.equal(tensor, after.state[name]) for name, tensor in before.state.items())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "its card has no license; give it with --card license="),
        (["--card", "license=MIT"], "its card has no trained_on"),
        (["--card", "licence=MIT"], "--card licence: is not a field; did you mean 'license'"),
        (["--card", "images=many"], "--card images: expected a whole number, got 'many'"),
    ],
)
def test_fields_that_are_missing_or_unknown(arguments, message, finished, tmp_path):
    with pytest.raises(UserError, match=message):
        packed(finished(), tmp_path / "a.safetensors", *arguments)
    assert not (tmp_path / "a.safetensors").exists()


def test_a_run_that_is_not_finished(finished, tmp_path):
    folder = finished(optimizer={}, finished=False)
    with pytest.raises(UserError, match="the run is not finished"):
        packed(folder, tmp_path / "a.safetensors", *CARD)


@pytest.mark.parametrize("arguments", [["--ap", "BCCD=0.6"], ["--ap", "BCCD=62/59"], ["--card", "license"]])
def test_malformed_arguments(arguments, finished, tmp_path, capsys):
    with pytest.raises(SystemExit):
        packed(finished(), tmp_path / "a.safetensors", *arguments)
    assert f"got '{arguments[1]}'" in capsys.readouterr().err


def test_the_list(shipped, capsys):
    main(["weights"])
    assert "none in this installation" in capsys.readouterr().out
    path = shipped("tiny-n")
    main(["weights"])
    lines = capsys.readouterr().out.splitlines()
    row, scores = (line for line in lines if line.startswith("tiny-n"))
    for text in ("tiny.yaml", "1,000", "synthetic contours", "12,000", "Apache-2.0"):
        assert text in row
    assert scores.split("  ")[1:2] == ["BCCD test, 30 epochs"] and scores.split()[-2:] == ["0.620", "0.591"]
    assert any(line.startswith("YOLOv5-Lite ") and "GPL-3.0" in line for line in lines)
    main(["weights", "--format", "json"])
    listed = json.loads(capsys.readouterr().out)
    assert listed["pretrained"][0]["bytes"] == path.stat().st_size and len(listed["loadable"]) > 3


def test_a_card_survives_json_and_ignores_unknown_keys(shipped, make_card):
    card = read_card(read_header(shipped("tiny-n")))
    assert card == make_card()
    assert WeightsCard.from_dict({**make_card().as_dict(), "later": 1}) == make_card()


def test_the_page_of_a_card(make_card):
    text = card_markdown("tiny-n", make_card())
    for part in (
        "# tiny-n",
        "12,000 images of 320 px",
        "| 1 | 7 | 8 | 12,000 | 0.8 | random | 0123456789ab |",
        "Small objects.",
    ):
        assert part in text
    assert "| BCCD test, 30 epochs | 0.620 | 0.591 |" in text
    assert "repeats all runs" not in text
    assert "`make all` repeats all runs." in card_markdown("tiny-n", make_card(reproduce="make all"))
    assert "Not evaluated." in card_markdown("tiny-n", make_card(ap=[]))
