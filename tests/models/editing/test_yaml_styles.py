"""insert and swap on YAML in many styles: commas at the start of lines, JSON, comments anywhere, anchors and aliases."""

import json
import os

import pytest

from graftdet.models.editing.editor import insert_row, swap_module
from graftdet.models.editing.source_map import locate_rows
from graftdet.models.spec.model_spec import ModelSpec
from graftdet.utils.errors import UserError

IDENTITY = "[-1, 1, nn.Identity, []]"
STYLES = {
    "multi_per_line": """nc: 2
anchors: 3
backbone: [[-1, 1, Conv, [8, 3, 2]], [-1, 1, Conv, [8, 3, 2]],   # 0-1
   [-1, 1, C3, [8]], [-1, 1, C3, [8]]]   # 2-3
head: [[-1, 1, Conv, [8]], [[-1, 1, -3], 1, Concat, [1]],
  [[5], 1, Detect, [nc, anchors]]]
""",
    "comma_first": """nc: 2
anchors: 3
backbone: [
    [-1, 1, Conv, [8, 3, 2]] # 0
  , [-1, 1, Conv, [8, 3, 2]] # 1
  , [-1, 1, C3, [8]]         # 2
  ]
head:
  [
    [-1, 1, Conv, [8]]   # 3
  , [[-1, 1, -3], 1, Concat, [1]]  # 4
  , [[4], 1, Detect, [nc, anchors]]  # 5
  ]
""",
    "comment_between": """nc: 2
anchors: 3
backbone:
  [[-1, 1, Conv, [8, 3, 2]]  # zero
   ,
   # about one
   [-1, 1, Conv, [8, 3, 2]],  # one, with [brackets], and - dash

   # about two

   [-1, 1, C3, [8]]
   # nothing more
  ]
head:
  - [-1, 1, Conv, [8]]

  # the join
  - [[-1, 1, -3], 1, Concat, [1]]
  -   [[4], 1, Detect, [nc, anchors]]
# the end""",
    "anchored_rows": """nc: 2
anchors: 3
backbone:
  - &down [-1, 1, Conv, [8, 3, 2]]
  - *down
  - &c3 [-1, 1, C3, [8]]
  - *c3
head:
  - *c3
  - [[-1, 1, -3], 1, Concat, [1]]
  - [[5], 1, Detect, [nc, anchors]]
""",
    "anchored_parts": """nc: 2
anchors: 3
backbone:
  - [-1, 1, &w Conv, &a [8, 3, 2]]
  - [-1, 1, *w , *a ]
  - [-1, 1, C3, [8]]
  - [&one -1, 1, C3, [8]]
head:
  - [*one , 1, C3, [8]]
  - [[-1, &p 1, -3], 1, Concat, [1]]
  - [[*p , 2], 1, Concat, [1]]
  - [[!!int 5], 1, Detect, [nc, anchors]]
""",
    "merge": """nc: 2
anchors: 3
backbone:
  - [-1, 1, Conv, &k {c2: 8, k: 3, s: 2}]
  - [-1, 1, Conv, {<<: *k, s: 1}]
  - [-1, 1, Conv, {<<: *k, s: 1}]
  - [-1, 1, Conv, {<<: *k, s: 1}]
head:
  - [-1, 1, Conv, [8, 1, 1], neck]
  - [[neck, 1, -3], 1, Concat, [1]]
  - [[5], 1, Detect, [nc, anchors]]
""",
    "multi_line_flow": """nc: 2
anchors: 3
backbone:
  - [-1, 1,
     Conv, [8,  # width
            3, 2]]   # 0
  - [-1, 1, Conv,
      [8, 3, 2]
    ]  # 1
  - [
     -1,
     1, C3, [8]]  # 2
head:
  [
    [
      -1, 1, Conv, [8]
    ], [
      [-1,
       1,
       -3], 1, Concat, [1]
    ],
    [[4], 1, Detect, [nc, anchors]]
  ]
""",
    "json": """{"nc": 2, "anchors": 3, "backbone": [[-1, 1, "Conv", [8, 3, 2]], [-1, 1, "Conv", [8, 3, 2]], [-1, 1, "C3", [8]]],
"head": [[-1,1,"Conv",[8]], [[-1, 1, -3], 1, "Concat", [1]], [[4], 1, "Detect", ["nc", "anchors"]]]}""",
    "head_first": """head:
  - [-1, 1, Conv, [8]]
  - [[-1, 1, -3], 1, Concat, [1]]
  - [[4], 1, Detect, [nc, anchors]]
backbone:
  - [-1, 1, Conv, [8, 3, 2]]
  - [-1, 1, Conv, [8, 3, 2]]
  - [-1, 1, C3, [8]]
nc: 2
anchors: 3
""",
    "one_row_backbone": """nc: 2
anchors: 3
backbone: [[-1, 1, Conv, [8, 3, 2]]]
head: [[[0], 1, Detect, [nc, anchors]]]
""",
}
STYLES["json_lines"] = json.dumps(json.loads(STYLES["json"]), indent=2)
STYLES["document"] = "%YAML 1.2\n---\n" + STYLES["merge"] + "...\n"
STYLES["unicode"] = STYLES["comment_between"].replace("# zero", "# größe \U0001f389 [ ein")
STYLES["windows"] = STYLES["comment_between"].replace("\n", "\r\n")


def facts(row):
    return row.module, row.args, row.kwargs, row.number, row.name


@pytest.mark.parametrize("readers", ["next", "all"])
@pytest.mark.parametrize("style", STYLES)
def test_a_row_can_be_inserted_everywhere(style, readers):
    text = STYLES[style]
    before = ModelSpec.from_text(text, style).rows
    for after in range(-1, len(before) - 1):
        new = insert_row(text, after, IDENTITY, style, readers)
        rows = list(ModelSpec.from_text(new, style).rows)
        added = rows.pop(after + 1)
        assert added.module == "nn.Identity" and added.section == before[max(after, 0)].section
        for row, old in zip(rows, before, strict=True):
            back = [added.sources[0] if s == added.index else s for s in row.sources]
            assert tuple(s - (s > after) for s in back) == old.sources and facts(row) == facts(old)
        assert new.count("\r") == (new.count("\n") if "\r" in text else 0)


@pytest.mark.parametrize("style", STYLES)
def test_modules_are_swapped_in_the_selected_rows_only(style):
    text = STYLES[style]
    before = ModelSpec.from_text(text, style).rows
    for row in before:
        new, indices = swap_module(text, row.module, "Other", style, str(row.index))
        assert indices == [row.index]
        for now, old in zip(ModelSpec.from_text(new, style).rows, before, strict=True):
            assert facts(now)[1:] == facts(old)[1:] and now.sources == old.sources
            assert now.module == ("Other" if old.index == row.index else old.module)


def test_new_rows_have_the_style_of_their_neighbors():
    def line(style, after):
        old = STYLES[style].splitlines()
        return next(
            one for one in insert_row(STYLES[style], after, IDENTITY).splitlines() if IDENTITY in one and one not in old
        )

    assert line("comma_first", 1) == f"  , {IDENTITY} # 2"
    assert line("comma_first", 4) == f"  , {IDENTITY}  # 5"
    assert line("multi_per_line", 0).startswith(f"backbone: [[-1, 1, Conv, [8, 3, 2]], {IDENTITY}, [-1, 1, Conv")
    assert line("multi_per_line", 1) == f"   {IDENTITY},"
    assert line("anchored_rows", 1) == f"  - {IDENTITY}"
    counted = STYLES["comma_first"].replace("# ", "#row ").replace("#row 1", "#row 1 ")
    assert f"{IDENTITY} #row 2\n" in insert_row(counted, 1, IDENTITY)


def test_aliases_follow_their_target_or_are_expanded():
    text = STYLES["anchored_parts"]
    assert "&p 2, -3]" in insert_row(text, 0, IDENTITY) and "[*p , 3]" in insert_row(text, 0, IDENTITY)
    shared = text.replace("[[*p , 2], 1, Concat", "[[*p , *p ], 1, Concat")
    assert insert_row(shared, 1, IDENTITY, readers="all").count("*p") == 2
    new, _ = swap_module(STYLES["anchored_rows"], "C3", "C3Ghost", rows="3")
    assert new.count("*c3") == 1 and "  - [-1, 1, C3Ghost, [8]]\n" in new and "&c3 [-1, 1, C3, [8]]" in new
    block = "nc: 1\nanchors: 3\nbackbone:\n- &c\n  - -1\n  - 1\n  - Conv\n  - [8]\n- *c\nhead:\n- [[1], 1, Detect, [nc, anchors]]\n"
    with pytest.raises(UserError, match="row 1 .backbone row 1.: is written once and used twice"):
        swap_module(block, "Conv", "C3", rows="1")
    assert swap_module(block, "Conv", "C3")[0] == block.replace("Conv", "C3")
    merged = "<<: {backbone: [[-1, 1, Conv, [8]]]}\nnc: 1\nanchors: 3\nhead: [[[0], 1, Detect, [nc, anchors]]]\n"
    with pytest.raises(UserError, match="an alias or merged"):
        locate_rows(merged, "x.yaml")
    argument = text.replace("[[!!int 5], 1, Detect", "[[&q 5], 1, Detect").replace(
        "Detect, [nc, anchors]", "Detect, [nc, *q ]"
    )
    with pytest.raises(UserError, match="shares a part with another row"):
        insert_row(argument, 0, IDENTITY)


def test_sources_given_by_name_are_not_renumbered():
    text = STYLES["merge"]
    assert "[[added, 1, -4]" in insert_row(text, "neck", IDENTITY.replace("]]", "], added]"), readers="all")


def test_bytes_permissions_and_links_of_files_are_preserved(tmp_path, capfdbinary, command):
    old = b"# gr\xf6sse\r\n" + STYLES["comma_first"].replace("\n", "\r\n").encode()
    path, link = tmp_path / "real.yaml", tmp_path / "link.yaml"
    path.write_bytes(old)
    path.chmod(0o640)
    expected = old.replace(b"[8]]         # 2", b"[8]] # 2")
    path.write_bytes(expected)
    assert command("insert", path, "--after", 0, IDENTITY, "[-1, 1, SELayer, [4], se]") == 0
    output = capfdbinary.readouterr().out
    assert (
        output.startswith(b"# gr\xf6sse\r\n") and output.count(b"\r\n") == output.count(b"\n") == old.count(b"\n") + 2
    )
    assert (
        b"  , [-1, 1, nn.Identity, []] # 1\r\n  , [-1, 1, SELayer, [4], se] # 2\r\n  , [-1, 1, Conv, [8, 3, 2]] # 3\r\n"
        in output
    )
    try:
        link.symlink_to(path)
    except OSError:
        pytest.skip("links need permissions here")
    assert command("insert", link, "--after", 0, IDENTITY, "[-1, 1, SELayer, [4], se]", "--in-place") == 0
    assert link.is_symlink() and path.read_bytes() == output
    assert os.name == "nt" or path.stat().st_mode & 0o777 == 0o640
    assert sorted(p.name for p in tmp_path.iterdir()) == ["link.yaml", "real.yaml"]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("[[-1, 1, Conv, [8]], [-1, 1, Conv, [8]]]", "several rows as separate arguments"),
        ("[-1, 1, Conv, [8]] # new", "after its last bracket"),
        ("[*x, 1, Conv, [8]]", "must be one YAML list"),
        ("[-1, 1, Conv, [8], neck]", "the name 'neck' is already used by row 4"),
        ("[9, 1, Conv, [8]]", "'from' is 9, but only rows before it can be read"),
    ],
)
def test_invalid_rows(row, message):
    with pytest.raises(UserError, match=message):
        insert_row(STYLES["merge"], 4, row)


def test_swap_accepts_aliases_of_a_block_and_rejects_empty_rows():
    text = STYLES["merge"]
    assert swap_module(text.replace("Conv,", "CoordAtt,"), "CA", "SELayer")[1] == [0, 1, 2, 3, 4]
    with pytest.raises(UserError, match="--rows: is empty"):
        swap_module(text, "Conv", "CBH", rows=" ")
