"""insert and swap: the graph is as expected, and no other character changes."""

import re

import pytest
import torch

from graftdet.models import build_model
from graftdet.models.editing.editor import insert_row, select_rows, swap_module
from graftdet.models.spec.model_spec import ModelSpec
from graftdet.models.spec.row import IMAGE
from graftdet.utils.config import CONFIGS, read_text
from graftdet.utils.errors import UserError

YAMLS = sorted((CONFIGS / "models").glob("*.yaml"))
IDENTITY = "[-1, 1, nn.Identity, []]"


def contracted(spec, new):
    """The rows of `spec` without row `new`, an identity; sources are numbered without it."""

    def target(source):
        source = spec.rows[new].sources[0] if source == new else source
        return source - (source > new)

    rows = [row for row in spec.rows if row.index != new]
    return [
        (tuple(target(s) for s in row.sources), row.module, row.args, row.kwargs, row.number, row.name) for row in rows
    ]


@pytest.mark.parametrize("path", YAMLS, ids=lambda path: path.stem)
def test_an_identity_anywhere_does_not_change_the_graph(path):
    text = read_text(path)
    before = ModelSpec.from_text(text, path.name)
    rows = [(row.sources, row.module, row.args, row.kwargs, row.number, row.name) for row in before.rows]
    count = len(rows)
    backbone = sum(row.section == "backbone" for row in before.rows)
    for after, readers in (
        (-1, "next"),
        (backbone - 1, "next"),
        (len(path.stem) % (count - 1), "all"),
        (count - 3, "next"),
    ):
        spec = ModelSpec.from_text(insert_row(text, after, IDENTITY, path.name, readers), path.name)
        assert spec.rows[after + 1].module == "nn.Identity" and contracted(spec, after + 1) == rows
        section = before.rows[max(after, 0)].section
        assert spec.rows[after + 1].section == section


@pytest.mark.parametrize(
    ("name", "after"), [("yolov5n.yaml", 9), ("yolov5n.yaml", 4), ("yolov3-tiny.yaml", 13), ("v5Lite-e.yaml", 2)]
)
def test_an_identity_does_not_change_the_outputs(name, after):
    torch.manual_seed(0)
    text = read_text(CONFIGS / "models" / name)
    model = build_model(ModelSpec.from_text(text, name)).eval()
    grafted = build_model(ModelSpec.from_text(insert_row(text, after, IDENTITY, name, "all"), name)).eval()
    state = {}
    for key, value in model.state_dict().items():
        index, rest = re.fullmatch(r"model\.(\d+)\.(.*)", key).groups()
        state[f"model.{int(index) + (int(index) > after)}.{rest}"] = value
    grafted.load_state_dict(state)
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        for one, other in zip(model.raw_outputs(images), grafted.raw_outputs(images), strict=True):
            assert torch.equal(one, other)


FLOW = """# a model
nc: 2   # two
anchors: [[1,2,  3,4]]

backbone:
  # [from, number, module, args]
  [[-1, 1, Conv, [8, 3, 2]],  # 0-P1/2
   [-1, 1, Conv, [8, 3, 2]],  # 1-P2/4
   [-1, 1, 'C3', [ 8 ]],
  ]
# the head
head: [
   [-1, 1, Conv, {c2: 8, k: 1}, neck],  # 3 (P2/4)
   [[-1, 1, -3], 1, Concat, [1]],
   [[4], 1, Detect, [nc, anchors]]  # 5 Detect
  ]
"""
AFTER_1 = """# a model
nc: 2   # two
anchors: [[1,2,  3,4]]

backbone:
  # [from, number, module, args]
  [[-1, 1, Conv, [8, 3, 2]],  # 0-P1/2
   [-1, 1, Conv, [8, 3, 2]],  # 1-P2/4
   [-1, 1, SELayer, [4]],  # 2
   [-1, 1, 'C3', [ 8 ]],
  ]
# the head
head: [
   [-1, 1, Conv, {c2: 8, k: 1}, neck],  # 4 (P2/4)
   [[-1, 1, -4], 1, Concat, [1]],
   [[5], 1, Detect, [nc, anchors]]  # 6 Detect
  ]
"""


def test_comments_and_layout_of_a_flow_list_are_preserved():
    assert insert_row(FLOW, 1, "[-1, 1, SELayer, [4]]") == AFTER_1
    assert insert_row(FLOW.replace("\n", "\r\n"), 1, "[-1, 1, SELayer, [4]]") == AFTER_1.replace("\n", "\r\n")


@pytest.mark.parametrize("after", range(-1, 5))
def test_a_row_is_inserted_at_every_position_of_a_flow_list(after):
    for text in (FLOW, FLOW.replace("  # 5 Detect\n  ]", "]"), FLOW.replace("[ 8 ]],\n  ]", "[ 8 ]]  # end\n  ]")):
        new = insert_row(text, after, IDENTITY)
        rows = ModelSpec.from_text(new, "x").rows
        assert [r.module for r in rows].index("nn.Identity") == after + 1 and len(rows) == 7
        assert len(re.findall("#", new)) in (len(re.findall("#", text)), len(re.findall("#", text)) + 1)


def test_a_row_is_inserted_into_a_flow_list_on_one_line():
    text = "nc: 1\nanchors: 3\nbackbone: [[-1, 1, Conv, [8]], [-1, 1, Conv, [8]]]\nhead: [[[0, 1], 1, Detect, [nc, anchors]]]\n"
    new = insert_row(text, 0, IDENTITY)
    assert new.splitlines()[2] == f"backbone: [[-1, 1, Conv, [8]], {IDENTITY}, [-1, 1, Conv, [8]]]"
    assert new.splitlines()[3] == "head: [[[0, 2], 1, Detect, [nc, anchors]]]"
    assert insert_row(text, 1, IDENTITY).splitlines()[2].endswith(f"[-1, 1, Conv, [8]], {IDENTITY}]")


BLOCK = """nc: 1
anchors: 3
backbone:
-
  - -1
  - 1
  - Conv
  - - 8   # width
    - 3
  # about row 1
- - -1
  - 1
  - Conv
  - [8]
head:
- - - 0
    - 1
  - 1
  - Detect
  - [nc, anchors]
"""


def test_a_row_is_inserted_into_block_style():
    new = insert_row(BLOCK, 0, IDENTITY)
    assert new == BLOCK.replace("    - 3\n", f"    - 3\n- {IDENTITY}\n").replace(
        "    - 1\n  - 1\n  - Detect", "    - 2\n  - 1\n  - Detect"
    )
    assert insert_row(BLOCK, -1, IDENTITY).splitlines()[3] == f"- {IDENTITY}"


def test_insertion_by_name_for_all_readers_and_errors():
    text = FLOW.replace("[[4], 1, Detect", "[[neck, 4], 1, Detect").replace("anchors: [[1,2,  3,4]]", "anchors: 3")
    assert "[[neck, 5], 1, Detect" in insert_row(text, "neck", IDENTITY)
    assert "[[4, 5], 1, Detect" in insert_row(text, "neck", IDENTITY, readers="all")
    for after in ("nek", "5", "99", "-2"):
        with pytest.raises(UserError, match="--after"):
            insert_row(text, after, IDENTITY)
    for row in ("SELayer", "[-1, 1, SELayer]", "[-1, 1, SELayer, [4]", "{a: 1}", "[-1, 1,\n SELayer, [4]]"):
        with pytest.raises(UserError, match="the new row must be one YAML list"):
            insert_row(text, 1, row)


def test_swap_changes_only_selected_rows():
    text = read_text(CONFIGS / "models" / "yolov5n.yaml")
    new, rows = swap_module(text, "C3", "C3Ghost", rows="backbone,17-20,23")
    assert rows == [2, 4, 6, 8, 17, 20, 23] and new.count("C3Ghost,") == 7
    assert new.replace("C3Ghost", "C3") == text
    assert swap_module(FLOW, "C3", "C3x")[0] == FLOW.replace("'C3'", "'C3x'")
    spec = ModelSpec.from_text(FLOW, "x")
    assert select_rows(spec, "neck") == {3} and select_rows(spec, "head") == {3, 4, 5}
    for old, rows, message in [
        ("Con", None, "did you mean 'Conv'"),
        ("SPPF", "head", "expected one of"),
        ("C3", "hed", "did you mean 'head'"),
        ("C3", "9-30", "--rows"),
    ]:
        with pytest.raises(UserError, match=message):
            swap_module(text, old, "C3x", rows=rows)


def test_commands_write_only_models_that_can_be_built(tmp_path, capsys, command):
    path = tmp_path / "mein Modell ü.yaml"
    path.write_bytes("\ufeff".encode() + FLOW.encode())
    assert command("insert", path, "--after", 1, "[-1, 1, SELayer, [4]]", "-o", tmp_path / "new.yaml") == 0
    assert (tmp_path / "new.yaml").read_bytes() == "\ufeff".encode() + AFTER_1.encode() and path.read_bytes().endswith(
        FLOW.encode()
    )
    capsys.readouterr()
    assert command("insert", path, "--after", 1, "[-1, 1, SELayers, [4]]", "--in-place") == 2
    error = capsys.readouterr().err
    assert (
        "row 2 (backbone row 2): 'SELayers' is not a known module; did you mean 'SELayer'?" in error
        and error.count("\n") == 1
    )
    assert path.read_bytes().endswith(FLOW.encode())
    assert command("insert", path, "--after", 4, IDENTITY) == 0
    captured = capsys.readouterr()
    assert "is read by no row; --readers all" in captured.err and IDENTITY in captured.out
    assert command("swap", path, "C3", "GhostConv", "--in-place") == 0 and b"'GhostConv'" in path.read_bytes()
    assert command("swap", path, "GhostConv", "GhostConvv") == 2
    assert ModelSpec.read(path).rows[0].sources == (IMAGE,)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_files_with_a_byte_order_mark_stay_in_their_encoding(tmp_path, command, encoding):
    path = tmp_path / "model.yaml"
    path.write_bytes(FLOW.replace("\n", "\r\n").encode(encoding))
    assert command("insert", path, "--after", 1, "[-1, 1, SELayer, [4]]", "--in-place") == 0
    assert path.read_bytes() == AFTER_1.replace("\n", "\r\n").encode(encoding)
