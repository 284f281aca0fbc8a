"""Lines and columns of keys and rows, found in the one parse of a model YAML."""

import pytest
import yaml

from graftdet.models.spec.model_spec import ModelSpec
from graftdet.models.spec.problems import Problem, ProblemError

TEXT = """\
# a comment
nc: 3
scales: {n: [0.33, 0.25], s: [0.33, 0.5]}
backbone:
  - [-1, 1, Conv, [16, 3, 2], stem]
  - - -1
    - 1
    - Conv
    - [16]
head:
  [[[-1, stem], 1, Concat, [1]],
   [[2, -2], 1, AnchorFreeDetect, [nc]]]
"""


def test_rows_and_their_elements():
    spec = ModelSpec.from_text(TEXT, "x.yaml")
    positions = [spec.positions.find(row.path) for row in spec.rows]
    assert positions == [(5, 5), (6, 5), (11, 4), (12, 4)]
    modules = [spec.positions.find(row.path_of("module")) for row in spec.rows]
    assert modules == [(5, 13), (8, 7), (11, 20), (12, 17)]


def test_keys():
    positions = ModelSpec.from_text(TEXT, "x.yaml").positions
    assert [positions.find(path) for path in (("nc",), ("scales", "s"), ("head",))] == [(2, 1), (3, 27), (10, 1)]
    assert positions.find(("head", 0, 3, 0, 0, 0)) == (11, 29) and positions.find(("anchors",)) == (None, None)


def test_a_key_that_is_misspelled_is_found_under_the_key_that_is_meant():
    problems = []
    spec = ModelSpec.from_text(TEXT.replace("head:", "heads:"), "x.yaml", problems.append)
    assert [str(problem)[:30] for problem in problems] == ["x.yaml:10:1: error[unknown-key]"[:30]]
    assert spec.problem("unknown-module", "?", row=spec.rows[2], part="module").line == 11


def test_the_position_of_an_alias_is_where_it_is_written():
    text = TEXT.replace("- [-1, 1, Conv, [16, 3, 2], stem]", "- &row [-1, 1, Conv, [16, 3, 1]]\n  - *row")
    spec = ModelSpec.from_text(text.replace("[-1, stem]", "[-1, 0]"), "x.yaml")
    assert spec.positions.find(spec.rows[1].path) == (6, 5)


def test_a_mapping_has_no_positions():
    with pytest.raises(ProblemError) as caught:
        ModelSpec.read({**yaml.safe_load(TEXT), "nc": "three"})
    assert str(caught.value) == "model: error[invalid-value]: nc: expected a whole number, got 'three'"


def test_the_text_is_parsed_once(monkeypatch):
    calls = []
    parse = yaml.SafeLoader.get_single_node
    monkeypatch.setattr(yaml.SafeLoader, "get_single_node", lambda loader: calls.append(1) or parse(loader))
    spec = ModelSpec.from_text(TEXT.replace("[nc]", "[nc, anchors]"), "x8s.yaml")
    assert spec.size == "s" and spec.with_anchors(3).with_classes(5).text and len(calls) == 1


def test_text_of_problems():
    about = {"file": "a.yaml", "section": "head", "section_row": 10, "name": "p4"}
    problem = Problem(
        "unknown-module", "error", 19, 31, 12, "'Cnv' is not\n a known module", "did you mean 'Conv'?", **about
    )
    row = "row 19 (head row 10) 'p4'"
    text = "'Cnv' is not a known module; did you mean 'Conv'?"
    assert str(problem) == f"a.yaml:31:12: error[unknown-module] {row}: {text}"
    assert problem.github() == f"::error file=a.yaml,line=31,col=12,title=unknown-module::{row}: {text}"
    error = ProblemError(problem, Problem("strides", "error", None, None, None, "?"))
    assert error.describe().split("\n") == [str(problem), "model: error[strides]: ?"]
