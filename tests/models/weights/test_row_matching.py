"""Rows of two models that belong together where their order differs, and rows that stand in for others."""

import pytest
import torch

from graftdet.models import ModelSpec, build_model
from graftdet.models.weights.row_matching import find_inserted_rows, find_replaced_rows, match_rows
from graftdet.models.weights.transfer import load_into
from graftdet.models.weights.weights_file import WeightsFile
from graftdet.utils.config import CONFIGS, read_text

N = read_text(CONFIGS / "models" / "yolov5n.yaml").replace("nc: 80", "nc: 3")

HEAD = "head:\n  - [[3], 1, Detect, [nc, 3]]\n"
FIRST, SECOND, THIRD, LAST = (
    "  - [-1, 1, Conv, [8, 3, 2]]\n",
    "  - [-1, 1, C3, [8]]\n",
    "  - [-1, 1, Conv, [16, 3, 2]]\n",
    "  - [-1, 1, Conv, [16, 1, 1]]\n",
)


def text_of(*rows):
    return "nc: 3\nbackbone:\n" + "".join(rows) + HEAD


def spec(*rows):
    return ModelSpec.from_text(text_of(*rows), "x.yaml")


def match(new, old):
    return match_rows(build_model(spec(*new)), build_model(spec(*old)).state_dict(), spec(*old))


def named(row, name):
    return f"{row.rstrip()[:-1]}, {name}]\n"


def test_the_only_row_of_its_kind_is_matched_at_another_position():
    wide = "  - [-1, 1, Conv, [8, 5, 1]]\n"
    old, new = (FIRST, wide, SECOND, LAST), (FIRST, SECOND, wide, LAST)
    rows = match(new, old)
    assert rows[1] == 2 and rows[2] == 1  # neither order keeps both: the second one is matched by its shape


def test_rows_of_equal_shape_are_not_moved_without_a_name():
    twice = "  - [-1, 1, Conv, [8, 3, 1]]\n"
    old, new = (FIRST, twice, SECOND, LAST), (FIRST, SECOND, twice, twice, LAST)
    head = HEAD.replace("[3]", "[4]")
    model = build_model(ModelSpec.from_text(text_of(*new).replace(HEAD, head), "x.yaml"))
    rows = match_rows(model, build_model(spec(*old)).state_dict(), spec(*old))
    assert rows[1] == 2 and not {2, 3} & rows.keys()  # two rows could be the moved one
    new = (FIRST, SECOND, named(twice, "b"), named(twice, "a"), LAST)
    old = (FIRST, named(twice, "a"), SECOND, LAST)
    model = build_model(ModelSpec.from_text(text_of(*new).replace(HEAD, head), "x.yaml"))
    rows = match_rows(model, build_model(spec(*old)).state_dict(), spec(*old))
    assert rows[3] == 1 and 2 not in rows  # its name decides


def test_replaced_rows_stand_between_the_same_rows_and_have_outputs_of_the_same_shape():
    old, new = (FIRST, SECOND, THIRD, LAST), (FIRST, "  - [-1, 1, C3Ghost, [8]]\n", THIRD, LAST)
    model, original = build_model(spec(*new)), build_model(spec(*old))
    assert find_replaced_rows(model, original, {0: 0, 2: 2, 3: 3}) == {1: 1}
    assert find_replaced_rows(model, original, {0: 0, 1: 1, 2: 2, 3: 3}) == {}
    assert find_replaced_rows(model, original, {1: 1, 3: 3}) == {0: 0, 2: 2}
    assert find_replaced_rows(model, original, {0: 0, 2: 1, 3: 3}) == {}  # row 1 is before row 2, 2 behind 1


def test_inserted_rows_are_named_where_no_row_of_the_file_is_left():
    old, new = (FIRST, SECOND, THIRD, LAST), (FIRST, SECOND, THIRD, LAST)
    model, state = build_model(spec(*new)), build_model(spec(*old)).state_dict()
    assert find_inserted_rows(model, state, {0: 0, 1: 1, 2: 2, 3: 3, 4: 4}) == []
    assert find_inserted_rows(model, state, {0: 0, 1: 1, 3: 3, 4: 4}) == []  # row 2 of the file is left
    assert find_inserted_rows(
        model, {k: v for k, v in state.items() if "model.2." not in k}, {0: 0, 1: 1, 3: 3, 4: 4}
    ) == [2]


@pytest.mark.parametrize(("module", "reverse"), [("C3CBAM", False), ("C3ECA", False), ("C3CBAM", True)])
def test_a_module_that_extends_the_old_one_takes_its_tensors(module, reverse):
    grafted = N.replace("C3,", f"{module},")
    new, old = (N, grafted) if reverse else (grafted, N)
    model, original = (build_model(ModelSpec.from_text(text, "x.yaml")) for text in (new, old))
    report = load_into(model, WeightsFile("old.pt", "checkpoint", original.state_dict(), old))
    assert report.row_matches == {i: i for i in range(25)} and not report.new_rows
    state, known = original.state_dict(), model.state_dict()
    assert all(torch.equal(known[name], state[name]) for name in known if name in state)
    rows = [i for i, row in enumerate(model.spec.rows) if row.module in ("C3", module)]
    assert find_replaced_rows(model, original, report.row_matches) == ({} if reverse else {i: i for i in rows})
    assert ("transferred in part: row 2, row 4, row 6, row 8, row 13" in str(report)) == (not reverse)


def test_a_widened_row_is_named_as_transferred_in_part():
    model, original = (
        build_model(ModelSpec.from_text(text, "x.yaml")) for text in (N.replace("C3, [256]", "C3, [512]"), N)
    )
    report = load_into(model, WeightsFile("old.pt", "checkpoint", original.state_dict(), N))
    assert "transferred in part: row 5, row 17; newly initialized: row 4" in str(report)
