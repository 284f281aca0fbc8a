"""`check`: each broken YAML of tests/fixtures/broken has as many problems as it has mistakes, at their rows."""

import json
from pathlib import Path

import pytest

from graftdet.models.graph.modules import find_block
from graftdet.models.lint.check import check_model
from graftdet.models.spec.model_spec import ModelSpec
from graftdet.utils.config import CONFIGS

ROOT = Path(__file__).resolve().parents[3]
BROKEN = sorted((ROOT / "tests" / "fixtures" / "broken").glob("*.yaml"))
YAMLS = sorted((CONFIGS / "models").glob("*.yaml"))
YOLO = (CONFIGS / "models" / "yolov5n.yaml").read_text(encoding="utf-8")


@pytest.fixture
def check_text(tmp_path):
    """`check_text(text)`: the problems of a file with that text."""

    def check(text):
        path = tmp_path / "x.yaml"
        path.write_text(text, encoding="utf-8")
        return check_model(path)

    return check


@pytest.mark.parametrize("path", BROKEN, ids=lambda path: path.stem)
def test_each_mistake_is_one_problem_at_its_position(path):
    """The lines `#= ...` at the end of a fixture are the expected problems, less the file's name."""
    expected = [line[3:] for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("#= ")]
    problems = list(map(str, check_model(path)))
    assert len(problems) == len(expected), problems
    for text in expected:
        start, *parts = text.split(" ... ")
        assert any(line.startswith(f"{path}{start}") and all(part in line for part in parts) for line in problems), (
            text,
            problems,
        )


def test_there_are_at_least_twenty_broken_files():
    assert len(BROKEN) >= 20


def _is_large(path):
    spec = ModelSpec.read(path)
    return spec.width_multiple > 0.75 and path.stem.startswith("yolo") and path.stem != "yolov3-tiny"


@pytest.mark.parametrize("path", YAMLS, ids=lambda path: path.stem)
def test_published_yamls_are_ok(path):
    """Built without memory for the weights; the large ones have the same rows at other widths."""
    spec = ModelSpec.read(path)
    for row in spec.rows:
        find_block(row.module)
    if not _is_large(path):
        assert check_model(path) == []


def test_exit_status_and_streams(command, capsys):
    assert command("check", "yolov5n.yaml") == 0
    out, err = capsys.readouterr()
    assert not err and out.startswith("yolov5n.yaml: ok, 25 rows, 1,872,157 parameters")
    folder = ROOT / "tests" / "fixtures" / "broken"
    assert command("check", folder / "three-mistakes.yaml", folder / "unused-row.yaml") == 2
    err = capsys.readouterr().err.splitlines()
    assert [line.split(": ")[1].split("[")[0] for line in err] == ["error"] * 3 + ["warning"]
    assert err[0].startswith(f"{folder / 'three-mistakes.yaml'}:11:13: error[unknown-module] row 2 (backbone row 2): ")
    assert command("check", folder / "unused-row.yaml") == 1
    capsys.readouterr()
    assert command("check", "nothing.yaml") == 2 and command("check") == 2
    assert capsys.readouterr().err.count("\n") == 2


def test_problems_as_json(command, capsys):
    path = ROOT / "tests" / "fixtures" / "broken" / "three-mistakes.yaml"
    assert command("check", path, "--format", "json") == 2
    out, err = capsys.readouterr()
    first = json.loads(out)[0]
    assert not err and len(json.loads(out)) == 3
    assert (first["rule"], first["row"], first["line"], first["column"]) == ("unknown-module", 2, 11, 13)
    assert (
        first["file"] == str(path)
        and first["hint"] == "did you mean 'C3'? Otherwise load its class with --plugins FILE.py"
    )
    assert command("check", "yolov5n.yaml", "--format", "json") == 0 and json.loads(capsys.readouterr().out) == []


def test_problems_as_github_annotations(command, capsys, tmp_path):
    path = tmp_path / "a,b: 100%.yaml"
    path.write_text(YOLO.replace("SPPF", "SPPFF"))
    assert command("check", path, "--format", "github") == 2
    name = str(path).replace("%", "%25").replace(":", "%3A").replace(",", "%2C")
    line = f"::error file={name},line=21,col=13,title=unknown-module::row 9 (backbone row 9): 'SPPFF' is not"
    assert capsys.readouterr().out.startswith(line)


def test_a_file_name_that_contains_a_message_does_not_hide_problems(tmp_path):
    """Names such as `exp, row 3 of 9.yaml` are not taken for the row of a problem."""
    path = tmp_path / "exp, row 3 of 9, 'from' is not valid YAML.yaml"
    text = YOLO.replace("[-1, 1, Conv, [256, 3, 2]]  # 3", "[-1, 1, Convv, [256, 3, 2]]  # 3")
    path.write_text(text.replace("[[-1, 6], 1, Concat", "[[-1, p6], 1, Concat"))
    assert [(problem.rule, problem.row) for problem in check_model(path)] == [("unknown-module", 3), ("row-source", 12)]


def test_a_truncated_row_of_a_flow_list(tmp_path):
    path = tmp_path / "flow.yaml"
    path.write_text(
        "nc: 2\nanchors: 3\nbackbone:\n  # [from, number, module, args]\n"
        "  [[-1, 1, Conv, [8, 3, 2]],  # 0\n   [-1, 1, Conv, [8, 3, 2],  # 1\n   [-1, 1, Conv, [8, 3, 2]],  # 2\n  ]\n"
        "head:\n  [[[2], 1, Detect, [nc, anchors]]]\n"
    )
    message = "error[yaml-syntax] row 1 (backbone row 1): not valid YAML: a ']' is missing"
    assert list(map(str, check_model(path))) == [f"{path}:6:4: {message}"]


def test_a_forgotten_stride_is_one_problem_although_several_joins_follow(check_text):
    [problem] = check_text(YOLO.replace("[1024, 3, 2]]", "[1024, 3, 1]]"))
    assert (problem.rule, problem.row, problem.line) == ("row-misfit", 7, 19)
    assert problem.message.startswith("s=1 does not fit row 12") and problem.hint == "s=2 would fit"


def test_the_row_that_makes_an_odd_size_is_the_cause_and_not_a_good_one_after_it(check_text):
    text = (CONFIGS / "models" / "yolov3-tiny.yaml").read_text(encoding="utf-8")
    old = "[-1, 1, nn.MaxPool2d, [2, 2, 0]]  # 9"
    assert old in text
    [problem] = check_text(text.replace(old, "[-1, 1, nn.MaxPool2d, [2, 2, 1]]"))
    assert problem.row == 9 and problem.hint == "padding=0 would fit"


def test_an_unknown_module_that_downsamples_has_no_consequences(check_text):
    text = YOLO
    for row in ("[-1, 1, Conv, [256, 3, 2]]  # 3", "[-1, 1, Conv, [512, 3, 2]]  # 21", "[-1, 6, C3, [256]]  # 4"):
        assert row in text
        text = text.replace(row, row.replace("Conv", "Zebra").replace("C3,", "Zebra,").replace(", 3, 2]", "]"))
    assert [problem.row for problem in check_text(text)] == [3, 4, 21]


@pytest.mark.parametrize(
    ("old", "first"), [("  - [-1, 1, SPPF, [1024, 5]]  # 9\n", 10), ("  - [-1, 3, C3, [512, False]]  # 13\n", 14)]
)
def test_indices_that_were_not_renumbered_are_one_problem(old, first, check_text):
    assert old in YOLO
    [problem] = check_text(YOLO.replace(old, ""))
    assert problem.rule == "stale-indices" and f"the indices from {first} on are one too large" in problem.hint


@pytest.mark.parametrize(
    ("old", "first"), [("  - [-1, 1, SPPF, [1024, 5]]  # 9\n", 10), ("  - [-1, 1, Conv, [256, 1, 1]]  # 14\n", 14)]
)
def test_all_indices_that_were_not_renumbered_after_a_new_row_are_one_warning(old, first, check_text):
    assert old in YOLO
    [problem] = check_text(YOLO.replace(old, "  - [-1, 1, nn.ReLU, []]\n" + old))
    assert (problem.rule, problem.severity) == ("stale-indices", "warning")
    assert f"the indices from {first} on may be one too small" in problem.hint


def test_two_rows_of_one_name_have_no_consequences(check_text):
    text = YOLO.replace("[-1, 6, C3, [256]]  # 4", "[-1, 6, C3, [256], p3]").replace("[-1, 4], 1", "[-1, p3], 1")
    assert "p3]" in text and check_text(text) == []
    old = "[-1, 3, C3, [128]]"
    assert old in text
    assert [(p.rule, p.row) for p in check_text(text.replace(old, "[-1, 3, C3, [128], p3]"))] == [("row-name", 4)]


def test_an_unknown_key_that_may_be_the_number_of_classes_is_one_problem(check_text):
    assert [problem.rule for problem in check_text(YOLO.replace("nc: 80", "kinds: 80"))] == ["unknown-key"]
