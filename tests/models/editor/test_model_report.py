"""What the page shows of good and broken texts."""

import xml.etree.ElementTree as ElementTree

import pytest

from graftdet.models import build_model
from graftdet.models.analysis.summary import summarize, totals
from graftdet.models.editor import model_report
from graftdet.models.editor.catalog import module_list
from graftdet.models.editor.edited_file import model_text
from graftdet.models.editor.model_report import element_end, report_model
from graftdet.models.lint.check import check_model
from graftdet.models.lint.rule import EXAMPLE_MODEL
from graftdet.models.lint.rules import RULES

pytestmark = pytest.mark.usefixtures("restore_registry")  # a plugin leaves all rows to torch


def report(text):
    return report_model(text, "model.yaml")


def errors(text):
    return [problem for problem in report(text)["problems"] if problem["severity"] == "error"]


def test_good_model_has_rows_totals_and_a_graph():
    text = model_text("yolov5n.yaml")
    found, model = report(text), build_model("yolov5n.yaml")
    expected = summarize(model)
    assert found["problems"] == []
    assert [row["params"] for row in found["rows"]] == [row.params for row in expected]
    assert [row["macs"] for row in found["rows"]] == [row.macs for row in expected]
    assert found["totals"]["params"] == totals(expected)["params"] and not found["totals"]["incomplete"]
    assert found["totals"]["strides"] == [8, 16, 32]
    row = found["rows"][16]
    assert row["inputs"] == [(64, 80, 80), (64, 80, 80)] and row["shapes"] == [(128, 80, 80)] and row["stride"] == 8
    assert text.splitlines()[row["line"] - 1].strip() == "- [[-1, 4], 1, Concat, [1]]  # 16"
    boxes = ElementTree.fromstring(found["svg"]).findall("{http://www.w3.org/2000/svg}g")
    assert [int(box.get("data-row")) for box in boxes] == list(range(25))


@pytest.mark.parametrize("rule", sorted({*RULES} - {"unsupported-target"}))  # which needs --target
def test_problems_are_those_of_the_command(rule, tmp_path):
    path = tmp_path / "model.yaml"
    path.write_text(RULES[rule].example)
    found = report(RULES[rule].example)["problems"]
    expected = [(one.rule, one.severity, one.row, one.line, one.column, one.text) for one in check_model(path)]
    assert rule in {one["rule"] for one in found}
    keys = ("rule", "severity", "row", "line", "column", "message")
    assert [tuple(one[key] for key in keys) for one in found] == expected


FIXED = {
    "unknown-module": "C33",
    "unknown-key": "ncs",
    "row-format": "[-1, C3, [32]]",
    "size-mismatch": "[-1, 2]",
    "row-misfit": "[3, 1, 0]",
    "written-width": "[32]",
}


@pytest.mark.parametrize("rule", FIXED)
def test_fix_resolves_the_problem(rule):
    text = RULES[rule].example
    (problem,) = [one for one in report(text)["problems"] if one["rule"] == rule]
    assert text[problem["start"] : problem["end"]] == FIXED[rule]
    fix = problem["fix"]
    fixed = text[: fix["start"]] + fix["text"] + text[fix["end"] :]
    assert report(fixed)["problems"] == []


def test_rows_that_cannot_be_built_are_drawn_with_a_likely_shape():
    found = report(EXAMPLE_MODEL.replace("C3, [32]]", "C33, [32]]"))
    row = found["rows"][2]
    assert row["shapes"] == [(32, 160, 160)] and not row["known"] and row["params"] == 0 and row["stride"] == 4
    assert [row["stride"] for row in found["rows"]] == [2, 4, 4, 8, 16, 8, 8, 8, 16, 16, 16, 16]
    assert found["rows"][1]["known"]
    assert found["totals"]["incomplete"] and found["totals"]["strides"] is None
    assert "C33" in found["svg"]


@pytest.mark.parametrize(
    "text", ["", "[", "nc: 3", "- a\n- b", "\x00", "nc: 3\nbackbone: 5\nhead: [[", "{" * 2000, "a: &a [*a]"]
)
def test_texts_that_are_no_model_are_reported(text):
    found = report(text)
    assert found["problems"] and found["rows"] == [] and found["svg"] is None
    assert all(0 <= one["start"] <= one["end"] <= len(text) for one in found["problems"])


def test_names_are_escaped_in_the_graph():
    text = EXAMPLE_MODEL.replace("[48, 3, 2], p3]", "[48, 3, 2], '<b onload=\"x\">']").replace("[-1, p3]", "[-1, 3]")
    svg = report_model(text, "<script>.yaml")["svg"]
    names = {element.tag.split("}")[1] for element in ElementTree.fromstring(svg).iter()}
    assert names <= {"svg", "defs", "marker", "path", "rect", "text", "g", "title"}
    assert "<script>" not in svg and "&lt;b onload" in svg


def test_large_models_are_refused_before_memory_is_taken():
    (problem,) = errors(EXAMPLE_MODEL.replace("C3, [32]]", "C3, [1000000]]"))
    assert problem["rule"] == "model-size"


@pytest.mark.parametrize(
    ("text", "element"),
    [
        ("[1, [2, 3]]  # c", "[1, [2, 3]]"),
        ("{k: 1}, 2", "{k: 1}"),
        ("Conv, [1]", "Conv"),
        ("'a, b', 3", "'a, b'"),
        ("nc: 3", "nc"),
        ("80  # classes", "80"),
        ("[1, 2\n[3]", "[1, 2"),
        ("'a", "'a"),
        ("", ""),
    ],
)
def test_elements_end_where_yaml_ends_them(text, element):
    assert text[: element_end(text, 0)] == element


def test_modules_have_signature_purpose_and_source():
    modules = {module["name"]: module for module in module_list()}
    assert modules["C3"]["signature"].startswith("C3(c2") and modules["C3"]["purpose"] and modules["C3"]["example"]
    assert modules["Detect"]["kind"] == "head" and modules["nn.Upsample"]["kind"] == "layer"
    assert {argument["name"] for argument in modules["Conv"]["arguments"]} >= {"c2", "k", "s"}
    sourced = [module for module in modules.values() if module["kind"] != "layer" and module["source"]]
    assert len(sourced) > 100


def test_rows_that_the_arithmetic_does_not_know_are_built(monkeypatch):
    expected = report(EXAMPLE_MODEL)
    monkeypatch.setattr(model_report, "row_costs", lambda spec: [None] * len(spec.rows))
    found = report(EXAMPLE_MODEL)
    assert found["totals"] == expected["totals"] and all(row["known"] for row in found["rows"])
    assert [row["shapes"] for row in found["rows"][:-1]] == [row["shapes"] for row in expected["rows"][:-1]]
