"""YAML text to rows: what is accepted, and how each mistake is reported."""

import time
from dataclasses import replace

import numpy as np
import pytest

from graftdet.models.spec.model_spec import ModelSpec
from graftdet.models.spec.positions import Positions
from graftdet.models.spec.row import IMAGE
from graftdet.utils.errors import UserError

GOOD = """
nc: 3
anchors: [[1,2], [3,4]]
backbone:
  - [-1, 1, Conv, [16, 3, 2], stem]
  - [-1, 1, Conv, {c2: 16, k: 3}]
head:
  - [[-1, stem], 1, Concat, [1]]
  - [[2, -2], 1, Detect, [nc, anchors]]
"""

BLOCKS_OF_ROWS = [  # at most `MAX_BLOCKS`, with the row of the head
    ([1000] * 4 + [999], 1, True),
    ([1000] * 5, 1, False),
    ([1000] * 8, 0.5, True),
    ([500] * 5, 2, False),
    ([500] * 4, 2, True),
]


def test_rows_resolve_names_and_offsets():
    rows = ModelSpec.from_text(GOOD, "x.yaml").rows
    assert [row.sources for row in rows] == [(IMAGE,), (0,), (1, 0), (2, 1)]
    assert [row.joined for row in rows] == [False, False, True, True]
    assert rows[1].kwargs == {"c2": 16, "k": 3} and rows[1].args == ()
    assert str(rows[2]) == "row 2 (head row 0)"


def test_flow_and_block_style_are_the_same_rows():
    block = GOOD.replace(
        "  - [-1, 1, Conv, [16, 3, 2], stem]",
        "  -\n    - -1\n    - 1\n    - Conv\n    - - 16\n      - 3\n      - 2\n    - stem",
    )
    assert ModelSpec.from_text(block, "x").rows == ModelSpec.from_text(GOOD, "x").rows


def test_names_in_args_resolve_and_nothing_is_evaluated():
    spec = ModelSpec.from_text(GOOD, "x")
    names = ["nc", "anchors", "None", "True", "nearest", ["False", "__import__('os').getcwd()"]]
    assert spec.resolve(names) == [3, [[1, 2], [3, 4]], None, True, "nearest", [False, "__import__('os').getcwd()"]]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("nc: 3", "nc: three", "x.yaml:2:1: error[invalid-value]: nc: expected a whole number, got 'three'"),
        ("nc: 3", "nc: 0", "nc: expected 1 to 1e6, got 0"),
        ("nc: 3", "ncc: 3", "unknown key 'ncc'; did you mean 'nc'?"),
        ("nc: 3", "nc: 3\nnames: [a, b]", "nc is 3, but names has 2"),
        (
            "nc: 3",
            "names: {a: 0, b: 1}",
            "x.yaml:2:1: error[class-names]: names, key: expected a whole number, got 'a'",
        ),
        (
            "nc: 3",
            "names: {0: a, 5: b}",
            "x.yaml:2:1: error[class-names]: names: expected the numbers 0 to 1, got 0, 5",
        ),
        (
            "nc: 3",
            "names: {1: a, 2: b}",
            "x.yaml:2:1: error[class-names]: names: expected the numbers 0 to 1, got 1, 2",
        ),
        ("nc: 3", "names: [a, [b]]", "x.yaml:2:1: error[class-names]: names: expected strings, got ['b']"),
        ("nc: 3", "names: [a, a]", "x.yaml:2:1: error[class-names]: names: 'a' is given twice"),
        ("nc: 3", "names: []", "x.yaml:2:1: error[class-names]: names: is empty"),
        ("[[1,2], [3,4]]", "[[1,2], [3,4,5]]", "anchors"),
        ("[[1,2], [3,4]]", "[[1,2], [3,4,5,6]]", "level 1 has 4 numbers, expected 2"),
        ("[[1,2], [3,4]]", "[[1,-2], [3,4]]", "level 0 holds -2"),
        ("[-1, 1, Conv, [16, 3, 2], stem]", "[-1, 1, Conv]", "row 0 (backbone row 0): expected [from, number"),
        ("[-1, 1, Conv, [16, 3, 2], stem]", "[-1, 0, Conv, [16], stem]", "number must be a whole number"),
        ("[-1, 1, Conv, [16, 3, 2], stem]", "[-1, 1, Conv, 16, stem]", "args must be a list"),
        ("[-1, 1, Conv, [16, 3, 2], stem]", "[-1, 1, 7, [16], stem]", "module must be a name"),
        ("[[-1, stem]", "[[-1, stam]", "'from' names 'stam', which is no row before this one; did you mean 'stem'?"),
        ("[[2, -2]", "[[3, -2]", "row 3 (head row 1) Detect: 'from' is 3"),
        ("[[2, -2]", "[[2, -9]", "'from' is -9"),
        ("[[2, -2]", "[[2, 1.5]", "got 1.5"),
        ("[[2, -2]", "[[]", "'from' is empty"),
        ("{c2: 16, k: 3}]", "[16], stem]", "the name 'stem' is already used by row 0"),
        ("backbone:", "spine:", "unknown key 'spine'"),
        ("backbone:", "backbone: [", "not valid YAML"),
    ],
)
def test_mistakes_are_reported_with_their_row(old, new, message):
    assert old in GOOD
    with pytest.raises(UserError) as caught:
        ModelSpec.from_text(GOOD.replace(old, new, 1), "x.yaml")
    assert message in str(caught.value) and str(caught.value).startswith("x.yaml")


@pytest.mark.parametrize("quote", ["", "'"])
def test_numbered_names_are_in_the_order_of_their_numbers(quote):
    names = ", ".join(f"{quote if i % 3 else ''}{i}{quote if i % 3 else ''}: c{i}" for i in reversed(range(12)))
    spec = ModelSpec.from_text(GOOD.replace("nc: 3", f"names: {{{names}}}"), "x.yaml")
    assert spec.names == tuple(f"c{i}" for i in range(12)) and spec.nc == 12


def test_a_mapping_from_code_may_hold_tuples_and_arrays():
    given = {
        "nc": np.int64(3),
        "width_multiple": np.float64(0.5),
        "anchors": np.array([[10, 13]]),
        "names": ("a", "b", "c"),
        "backbone": ((-1, 1, "Conv", (16, 3, np.int32(2))),),
        "head": [[(0,), 1, "Detect", ("nc", "anchors")]],
    }
    plain = {
        "nc": 3,
        "width_multiple": 0.5,
        "anchors": [[10, 13]],
        "names": ["a", "b", "c"],
        "backbone": [[-1, 1, "Conv", [16, 3, 2]]],
        "head": [[[0], 1, "Detect", ["nc", "anchors"]]],
    }
    assert ModelSpec.read(given) == ModelSpec.read(plain)


def test_an_empty_mapping_behind_the_args_gives_none():
    assert ModelSpec.from_text(GOOD.replace("[16, 3, 2], stem", "[16, 3, 2, {}], stem"), "x").rows[0].args == (16, 3, 2)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("-1, 1, Conv, [16", "-1, 100001, Conv, [16", "row-number.*number must be at most"),
        ("[[-1, stem], 1", "[[[-1, stem]], 1", "row-source.*'from' is a list in a list; write .-1, stem."),
        ("[[-1, stem], 1", "[true, 1", "row-source"),
        ("2], stem]", "2], '-3']", "row-name.*text that is not a number"),
        ("2], stem]", "2], 3]", "row-name.*text that is not a number"),
        ("2], stem]", "2], '']", "row-name.*text that is not a number"),
    ],
)
def test_further_mistakes_of_rows(old, new, message):
    with pytest.raises(UserError, match=message):
        ModelSpec.from_text(GOOD.replace(old, new, 1), "x.yaml")


@pytest.mark.parametrize(("numbers", "depth", "is_valid"), BLOCKS_OF_ROWS)
def test_the_number_of_blocks_is_limited_after_the_depth_multiple(numbers, depth, is_valid):
    rows = "\n".join(f"  - [-1, {number}, Conv, [16, 3, 1]]" for number in numbers)
    text = f"nc: 3\ndepth_multiple: {depth}\nbackbone:\n{rows}\nhead:\n  - [[0], 1, Detect, [nc, 3]]\n"
    if is_valid:
        assert len(ModelSpec.from_text(text, "x.yaml").rows) == len(numbers) + 1
    else:
        with pytest.raises(UserError, match=r"model-size.*the rows build \d+ blocks, expected at most 5000"):
            ModelSpec.from_text(text, "x.yaml")


def test_specs_that_differ_in_how_they_were_given_are_equal():
    spec = ModelSpec.from_text(GOOD, "x.yaml")
    assert replace(spec, size_chosen=not spec.size_chosen, values={"a": 1}, positions=Positions()) == spec
    assert replace(spec, nc=spec.nc + 1) != spec


def test_a_problem_of_a_row_that_is_not_in_order_has_no_replacement():
    spec = ModelSpec.from_text(GOOD, "x.yaml")
    for in_order in (True, False):
        row = replace(spec.rows[0], in_order=in_order)
        problem = spec.problem("rule", "message", row=row, replacement="[16]")
        assert problem.replacement == ("[16]" if in_order else None)


@pytest.mark.parametrize("bracket", ["[", "{a: ["])
def test_brackets_without_end_take_no_quadratic_time(bracket):
    start = time.process_time()
    with pytest.raises(UserError, match="not valid YAML"):
        ModelSpec.from_text("backbone: " + bracket * 20_000, "x.yaml")
    assert time.process_time() - start < 5  # it took minutes
