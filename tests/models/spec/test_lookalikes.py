"""Characters in rows that look like those of YAML."""

import pytest

from graftdet.models.lint.check import check_model
from graftdet.models.spec.lookalikes import replace_lookalikes
from graftdet.utils.config import find_config

ROW = "[-1, 3, C3, [128]]"


@pytest.mark.parametrize(
    ("row", "column", "named"),
    [
        ("[-1\uff0c 3\uff0c C3\uff0c [128]]", 8, "holds a full-width comma"),
        ("[-1, 3, C3, \uff3b128\uff3d]", 17, "holds a full-width bracket"),
        ("[\u20131, 3, C3, [128]]", 6, "holds an en dash"),
        ("[-1,\u00a03, C3, [128]]", 9, "holds a non-breaking space"),
    ],
)
def test_lookalike_in_a_row_is_named_with_its_position(tmp_path, row, column, named):
    path = tmp_path / "model.yaml"
    path.write_text(find_config("yolov5n.yaml", "models").read_text().replace(ROW, row, 1), encoding="utf-8")
    (problem,) = check_model(path)
    assert (problem.rule, problem.row, problem.line, problem.column) == ("yaml-syntax", 2, 14, column)
    assert named in problem.message and problem.hint == f"write {ROW}"


def test_indentation_by_non_breaking_spaces_is_named(tmp_path):
    path = tmp_path / "model.yaml"
    text = find_config("yolov5n.yaml", "models").read_text().replace(f"  - {ROW}", f"\u00a0\u00a0- {ROW}", 1)
    path.write_text(text, encoding="utf-8")
    (problem,) = check_model(path)
    assert "non-breaking space" in problem.message


def test_comments_quoted_text_and_other_lines_stay():
    text = "# \u6ce8\u91ca\uff0c\u4e00\nnames: [\u732b\uff0c]\n- [-1, 1, A, ['\uff0c']]  # \u5c42\uff0c\u4e00\n"
    problems = []
    assert replace_lookalikes(text, "x.yaml", problems.append) == text
    assert not problems
