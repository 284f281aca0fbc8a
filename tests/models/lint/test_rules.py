"""The table of rules: each example violates its rule and nothing else, and every problem has a rule of the table."""

import ast
from pathlib import Path

import pytest

from graftdet.models.lint import rules
from graftdet.models.lint.check import check_model
from graftdet.models.lint.explanations import explain, rules_markdown
from graftdet.models.lint.rule import EXAMPLE_MODEL
from graftdet.models.lint.rules import RULES
from graftdet.utils.errors import UserError

MODELS = Path(rules.__file__).parents[1]


def problems_of(tmp_path, text, targets=()):
    path = tmp_path / "x.yaml"
    path.write_text(text)
    return [(problem.rule, problem.severity) for problem in check_model(path, targets=targets)]


def test_the_example_model_has_no_problems(tmp_path):
    assert problems_of(tmp_path, EXAMPLE_MODEL) == []


@pytest.mark.parametrize("rule", RULES.values(), ids=lambda rule: rule.id)
def test_the_example_of_a_rule_violates_it_and_nothing_else(rule, tmp_path):
    assert problems_of(tmp_path, rule.example, rule.targets) == [(rule.id, rule.severity)]


@pytest.mark.parametrize("rule", RULES.values(), ids=lambda rule: rule.id)
def test_the_fix_of_a_rule_leaves_no_problems(rule, tmp_path):
    old = rule.good if rule.replaces is None else rule.replaces
    assert problems_of(tmp_path, EXAMPLE_MODEL.replace(old, rule.good), rule.targets) == []


def _ids_in_code():
    """Texts that code of spec, graph and lint gives as the rule of a problem."""
    for path in [*MODELS.glob("spec/*.py"), *MODELS.glob("graph/*.py"), *MODELS.glob("lint/**/*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            values = []
            if isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) in (
                "Problem",
                "problem",
                "error",
            ):
                values = node.args[:1]
            elif isinstance(node, ast.Assign):
                targets = [n.id for t in node.targets for n in ast.walk(t) if isinstance(n, ast.Name)]
                first = node.value.elts[0] if isinstance(node.value, ast.Tuple) and node.value.elts else node.value
                values = [first] if targets[:1] == ["rule"] else []
            yield from (v.value for v in values if isinstance(v, ast.Constant) and isinstance(v.value, str))


def test_every_problem_has_a_rule_of_the_table_and_every_rule_is_used():
    used = set(_ids_in_code())
    assert len(used) > 15 and used <= set(RULES)


def test_origins_are_files():
    assert all((MODELS / f"{rule.origin.replace('.', '/')}.py").is_file() for rule in RULES.values())


def test_explain(command, capsys):
    text = explain("unknown-module")
    assert "[-1, 1, C33, [32]]" in text and "[-1, 1, C3, [32]]" in text and RULES["unknown-module"].summary in text
    assert command("check", "--explain", "unknown-module") == 0 and capsys.readouterr().out.strip() == text
    with pytest.raises(UserError, match="no such rule; did you mean 'unused-row'"):
        explain("unusd-row")


def test_the_page_has_every_rule():
    page = rules_markdown()
    assert all(f"\n## {rule.id}\n" in page and rule.bad.strip() in page for rule in RULES.values())
