"""`check`: each broken YAML of tests/fixtures/broken is told in as many lines as it has mistakes, with its row."""

from pathlib import Path

import pytest
from graftdet.models.__main__ import main
from graftdet.models.graph.row_builder import find_block
from graftdet.models.lint.check import find_mistakes
from graftdet.models.spec.model_spec import ModelSpec
from graftdet.utils import cli
from graftdet.utils.config import CONFIGS

ROOT = Path(__file__).resolve().parents[3]
BROKEN = sorted((ROOT / "tests" / "fixtures" / "broken").glob("*.yaml"))
YAMLS = sorted((CONFIGS / "models").glob("*.yaml"))


@pytest.mark.parametrize("path", BROKEN, ids=lambda path: path.stem)
def test_each_mistake_is_told_once_with_its_row(path):
    """The lines `#= ...` at the end of a fixture are what must be told, and nothing else is."""
    expected = [line[3:] for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("#= ")]
    problems, warnings = find_mistakes(path)
    found = [*problems, *warnings]
    assert len(found) == len(expected), found
    for text in expected:
        parts = text.split(" ... ")
        assert any(all(part in line for part in parts) and line.startswith(str(path)) for line in found), (text, found)


def test_there_are_at_least_twenty_of_them():
    assert len(BROKEN) >= 20


def _is_large(path):
    spec = ModelSpec.read(path)
    return spec.width_multiple > 0.75 and path.stem.startswith("yolo") and path.stem != "yolov3-tiny"


@pytest.mark.parametrize("path", YAMLS, ids=lambda path: path.stem)
def test_published_yamls_are_ok(path):
    """Built without memory for the weights; the large ones have the same rows at other widths."""
    spec = ModelSpec.read(path)
    for row in spec.rows:
        find_block(row.word)
    if not _is_large(path):
        assert find_mistakes(path) == ([], [])


def check(capsys, *args):
    """Exit status, lines on standard output and on standard error of the command."""
    status = 0
    try:
        cli.run(lambda: main(["check", *map(str, args)]))
    except SystemExit as stop:
        status = stop.code
    return status, *(text.splitlines() for text in capsys.readouterr())


def test_exit_status_and_streams(capsys):
    status, out, err = check(capsys, "yolov5n.yaml")
    assert status == 0 and not err and out[0].startswith("yolov5n.yaml: ok, 25 rows, 1,872,157 parameters")
    folder = ROOT / "tests" / "fixtures" / "broken"
    status, out, err = check(capsys, folder / "three-mistakes.yaml", folder / "unused-row.yaml")
    assert status == 2 and [line.split(":")[0] for line in err] == ["error"] * 3 + ["warning"]
    assert check(capsys, folder / "unused-row.yaml")[0] == 1
    status, out, err = check(capsys, "nothing.yaml")
    assert status == 2 and len(err) == 1 and not out


FLOW = """
nc: 2
anchors: 3
backbone:
  # [from, number, module, args]
  [[-1, 1, Conv, [8, 3, 2]],  # 0
   [-1, 1, Conv, [8, 3, 2],  # 1
   [-1, 1, Conv, [8, 3, 2]],  # 2
  ]
head:
  [[[2], 1, Detect, [nc, anchors]]]
"""


def test_torn_row_of_a_flow_list(tmp_path):
    path = tmp_path / "flow.yaml"
    path.write_text(FLOW, encoding="utf-8")
    problems, _ = find_mistakes(path)
    assert problems == [f"{path}, row 1 (backbone row 1), line 7: not valid YAML: a ']' is missing"]


def test_a_forgotten_stride_is_one_line_although_several_joins_follow():
    text = (CONFIGS / "models" / "yolov5n.yaml").read_text(encoding="utf-8").replace("[1024, 3, 2]]", "[1024, 3, 1]]")
    problems, _ = find_mistakes(ModelSpec.from_text(text, "x.yaml"))
    assert len(problems) == 1 and problems[0].startswith("x.yaml, row 7 (backbone row 7) Conv: s=1 does not fit row 12")


def test_the_row_that_makes_an_odd_size_is_to_blame_and_not_a_good_one_behind_it():
    text = (CONFIGS / "models" / "yolov3-tiny.yaml").read_text(encoding="utf-8")
    old = "[-1, 1, nn.MaxPool2d, [2, 2, 0]]  # 9"
    assert old in text
    problems, _ = find_mistakes(ModelSpec.from_text(text.replace(old, "[-1, 1, nn.MaxPool2d, [2, 2, 1]]"), "x.yaml"))
    assert (
        len(problems) == 1 and problems[0].startswith("x.yaml, row 9 ") and problems[0].endswith("padding=0 would fit")
    )


def test_unknown_block_downsampling_is_understood():
    text = (CONFIGS / "models" / "yolov5n.yaml").read_text(encoding="utf-8")
    for row in ("[-1, 1, Conv, [256, 3, 2]]  # 3", "[-1, 1, Conv, [512, 3, 2]]  # 21", "[-1, 6, C3, [256]]  # 4"):
        assert row in text
        text = text.replace(row, row.replace("Conv", "Zebra").replace("C3,", "Zebra,").replace(", 3, 2]", "]"))
    problems, warnings = find_mistakes(ModelSpec.from_text(text, "x.yaml"))
    assert [line.split(" (")[0] for line in problems] == [
        "x.yaml, row 3",
        "x.yaml, row 4",
        "x.yaml, row 21",
    ] and not warnings


@pytest.mark.parametrize(
    "old, least", [("  - [-1, 1, SPPF, [1024, 5]]  # 9\n", 10), ("  - [-1, 3, C3, [512, False]]  # 13\n", 14)]
)
def test_indices_that_were_not_renumbered_are_one_line(old, least, tmp_path):
    text = (CONFIGS / "models" / "yolov5n.yaml").read_text(encoding="utf-8")
    assert old in text
    path = tmp_path / "x.yaml"
    path.write_text(text.replace(old, ""), encoding="utf-8")
    problems, _ = find_mistakes(path)
    assert len(problems) == 1 and f"the indices from {least} on are one too large" in problems[0]


@pytest.mark.parametrize(
    "place, least", [("  - [-1, 1, SPPF, [1024, 5]]  # 9\n", 10), ("  - [-1, 1, Conv, [256, 1, 1]]  # 14\n", 14)]
)
def test_all_indices_that_were_not_renumbered_behind_a_new_row_are_told(place, least):
    text = (CONFIGS / "models" / "yolov5n.yaml").read_text(encoding="utf-8")
    assert place in text
    text = text.replace(place, "  - [-1, 1, nn.ReLU, []]\n" + place)
    problems, warnings = find_mistakes(ModelSpec.from_text(text, "x.yaml"))
    assert not problems and len(warnings) == 1 and f"the indices from {least} on may be one too small" in warnings[0]
