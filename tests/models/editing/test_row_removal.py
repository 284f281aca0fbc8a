"""Deleted and named rows: all other rows read what they read before."""

import pytest

from graftdet.models.editing.row_removal import delete_row, rename_row
from graftdet.models.editor.edited_file import model_names, model_text
from graftdet.models.lint.rule import EXAMPLE_MODEL
from graftdet.models.spec.model_spec import ModelSpec
from graftdet.utils.errors import UserError


@pytest.mark.parametrize("name", [name for name in model_names() if name.startswith(("yolov5n", "yolox", "v5Lite"))])
def test_every_row_can_be_deleted_from_published_models(name):
    text = model_text(name)
    before = ModelSpec.from_text(text, name).rows
    for index in range(0, len(before) - 1, 3):
        try:
            after = ModelSpec.from_text(delete_row(text, index, name), name).rows
        except UserError as error:
            assert "only row" in str(error)
            continue
        rest = [row for row in before if row.index != index]
        for old, new in zip(rest, after, strict=True):
            moved = [before[index].sources[0] if s == index else s - (s > index) for s in old.sources]
            assert (new.module, new.args, new.kwargs, new.name) == (old.module, old.args, old.kwargs, old.name)
            assert list(new.sources) == moved


def test_comments_of_other_rows_survive_and_are_numbered():
    text = EXAMPLE_MODEL.replace("  - [-1, 1, C3, [32]]  # 2", "  # stage 2\n  - [-1, 1, C3, [32]]  # 2 (P2)")
    new = delete_row(text, 2)
    assert "  # stage 2\n  - [-1, 1, Conv, [48, 3, 2], p3]  # 2\n" in new and "(P2)" not in new
    assert "[[6, 9], 1, Detect, [nc, anchors]]  # 10" in new


def test_readers_of_a_named_row_read_its_source():
    new = delete_row(EXAMPLE_MODEL, 3)
    assert "[[-1, 2], 1, Concat, [1]]  # 5" in new


@pytest.mark.parametrize(
    ("text", "index", "expected"),
    [
        ("backbone: [[-1, 1, Conv, [8]], [-1, 1, Conv, [16]]]", 0, "backbone: [[-1, 1, Conv, [16]]]"),
        ("backbone: [[-1, 1, Conv, [8]], [-1, 1, Conv, [16]]]", 1, "backbone: [[-1, 1, Conv, [8]]]"),
        (
            "backbone:\n  [[-1, 1, Conv, [8]],  # 0\n   [-1, 1, Conv, [16]],  # 1\n  ]",
            0,
            "backbone:\n  [[-1, 1, Conv, [16]],  # 0\n  ]",
        ),
    ],
)
def test_rows_in_flow_style_are_deleted(text, index, expected):
    head = "\nhead:\n- [-1, 1, Detect, [1]]\n"
    assert delete_row(text + head, index) == expected + head


def test_aliases_are_refused():
    text = "nc: 1\nbackbone:\n- &a [-1, 1, Conv, [8]]\n- *a\nhead:\n- [-1, 1, Detect, [nc]]\n"
    with pytest.raises(UserError):
        delete_row(text, 0)
    assert delete_row(text, 1) == text.replace("- *a\n", "")


@pytest.mark.parametrize("index", [-1, 11, 12])
def test_head_and_missing_rows_cannot_be_deleted(index):
    with pytest.raises(UserError):
        delete_row(EXAMPLE_MODEL, index)


def test_the_image_cannot_become_the_source_of_a_later_row_by_its_index():
    text = "nc: 1\nbackbone:\n- [-1, 1, Conv, [8]]\n- [-1, 1, Conv, [8]]\n- [[-1, 0], 1, Concat, [1]]\nhead:\n- [-1, 1, Detect, [nc]]\n"
    assert "[[-1, -2], 1, Concat, [1]]" in delete_row(text, 0)


def test_names_are_changed_where_they_are_read():
    assert rename_row(EXAMPLE_MODEL, 3, "stage3") == EXAMPLE_MODEL.replace("p3", "stage3")
    without = rename_row(EXAMPLE_MODEL, 3, "")
    assert "[48, 3, 2]]  # 3" in without and "[[-1, 3], 1, Concat, [1]]  # 6" in without
    assert rename_row(EXAMPLE_MODEL, 3, "p3") == EXAMPLE_MODEL
    assert "[64, 3, 2], p4]  # 4" in rename_row(EXAMPLE_MODEL, 4, "p4")


@pytest.mark.parametrize("name", ["p3", "4", "a b", "-1", "a]"])
def test_wrong_names_are_refused(name):
    with pytest.raises(UserError):
        rename_row(EXAMPLE_MODEL, 4, name)
