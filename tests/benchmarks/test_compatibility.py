"""The table of compatibility: the outcome of each input, and that tracebacks and slow inputs miss the limit."""

import json
import time
from pathlib import Path

import numpy as np
import pytest

from benchmarks import compatibility
from benchmarks.compatibility import STOPPED, TRACEBACK, Result, add_rows, attempt
from benchmarks.table import Table
from graftdet.utils.errors import UserError
from graftdet.utils.images.io import write_image

MODEL = """nc: 2
anchors: 3
backbone:
  - [-1, 1, Conv, [16, 3, 2]]
head:
  - [-1, 1, {module}, [16, 3, 2]]
  - [[1], 1, Detect, [nc, anchors]]
"""


@pytest.fixture
def inputs(tmp_path):
    """A folder per kind of input."""
    for name, module in (("good", "Conv"), ("unknown", "NoSuchBlock")):
        (tmp_path / "yamls").mkdir(exist_ok=True)
        (tmp_path / f"yamls/{name}.yaml").write_text(MODEL.format(module=module))
    write_image(tmp_path / "data/images/a.png", np.zeros((20, 40, 3), np.uint8))
    (tmp_path / "data/images/a.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    (tmp_path / "data/set.yaml").write_text("train: images\nval: images\nnames: [dog]\n")
    (tmp_path / "data/notes.yaml").write_text("author: nobody\n")
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights/broken.pt").write_text("hello")
    (tmp_path / "commands.txt").write_text("$ python train.py --epochs 3 --quad  # comment\nwget something\n")
    return tmp_path


def test_every_input_has_an_outcome(inputs, monkeypatch):
    arguments = ["--yamls", "yamls", "--data", "data", "--weights", "weights", "--commands", "commands.txt"]
    arguments += ["--output", "table.json", "--inputs", "inputs.json"]
    monkeypatch.chdir(inputs)
    monkeypatch.setattr("sys.argv", ["compatibility", *arguments])
    assert compatibility.main() == 0
    results = {result["name"]: result for result in json.loads((inputs / "inputs.json").read_text())}
    outcomes = {name: result["outcome"] for name, result in results.items() if result["kind"] != "command"}
    assert outcomes == {
        "yamls/good.yaml": "builds",
        "yamls/unknown.yaml": "unknown module reported",
        "weights/broken.pt": "refused with one message",
        "data/set.yaml": "read, with warnings",
    }
    assert results["train.py --epochs 3 --quad"]["outcome"] == "refused with one message"
    assert results["train.py --adam"]["outcome"] == results["val.py --img 640"]["outcome"] == "accepted"
    assert "model: builds | 1 of 2" in (inputs / "table.md").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--yamls", "yamls", "missing"], "missing: no such folder"),
        (["--weights", "missing"], "missing: no such folder"),
        (["--data", "data/set.yaml"], "is a file, expected a folder"),
        (["--commands", "missing.txt"], "missing.txt: no such file"),
    ],
)
def test_missing_folders_are_errors(arguments, message, inputs, monkeypatch, capsys):
    monkeypatch.chdir(inputs)
    monkeypatch.setattr("sys.argv", ["compatibility", *arguments])
    monkeypatch.setattr(compatibility, "run_inputs", lambda options: pytest.fail("inputs were run"))
    with pytest.raises(SystemExit) as stop:
        compatibility.main()
    assert stop.value.code == 2 and message in capsys.readouterr().err


def test_tracebacks_refusals_and_endless_inputs(monkeypatch):
    def failing(error):
        raise error

    monkeypatch.setattr(compatibility, "LIMIT", 1)
    assert attempt("model", "a", lambda: failing(KeyError("x"))).outcome == TRACEBACK
    assert attempt("model", "a", lambda: failing(UserError("no"))).detail == "no"
    assert attempt("model", "a", lambda: time.sleep(5)).outcome == STOPPED


def test_limits(capsys):
    table = Table("compatibility")
    add_rows(table, [Result("model", "a", TRACEBACK, "", 1.0), Result("model", "b", "builds", "", 20.0)])
    assert table.short == [f"model: {TRACEBACK}", "model: slowest"]


def test_flags_of_the_table_all_parse_or_are_refused():
    results = [
        attempt("command", "", lambda script=script, words=words: compatibility.command_outcome(script, words))
        for script, words in compatibility.published_commands()
    ]
    assert len(results) > 100 and TRACEBACK not in {result.outcome for result in results}
    assert all(result.detail.count("error:") == 1 for result in results if result.outcome != "accepted")


def test_documented_command_lines_parse_or_are_refused():
    path = Path(__file__).parents[1] / "fixtures" / "yolov5_commands.txt"
    commands = list(compatibility.read_commands(path))
    results = [
        attempt("command", "", lambda script=script, words=words: compatibility.command_outcome(script, words))
        for script, words in commands
    ]
    assert len(commands) == path.read_text().count("\npython")
    assert {result.outcome for result in results} == {"accepted", "refused with one message"}
    assert [result.detail.count("error:") for result in results] == [result.outcome != "accepted" for result in results]
