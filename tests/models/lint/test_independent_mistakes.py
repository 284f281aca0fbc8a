"""Two independent mistakes in one file: both are reported at their own rows, and nothing else is."""

import itertools

import pytest

from graftdet.models.lint.check import check_model
from graftdet.utils.config import CONFIGS

YOLO = (CONFIGS / "models" / "yolov5n.yaml").read_text(encoding="utf-8")
MISTAKES = {  # what is replaced, by what, rule, row
    "unknown module": ("[-1, 3, C3, [128]]", "[-1, 3, C33, [128]]", "unknown-module", 2),
    "odd size": ("[-1, 1, Conv, [256, 3, 2]]  # 3", "[-1, 1, nn.MaxPool2d, [3, 2]]  # 3", "row-misfit", 3),
    "unknown argument": ("[-1, 9, C3, [512]]", "[-1, 9, C3, {c2: 512, shortcutt: True}]", "invalid-arguments", 6),
    "forgotten stride": ("[-1, 1, Conv, [1024, 3, 2]]", "[-1, 1, Conv, [1024, 3, 1]]", "row-misfit", 7),
    "wrong number": ("[-1, 1, SPPF, [1024, 5]]", "[-1, 0, SPPF, [1024, 5]]", "row-number", 9),
    "text for a number": ("[-1, 1, Conv, [512, 1, 1]]  # 10", "[-1, 1, Conv, ['512', 1, 1]]", "invalid-arguments", 10),
    "wrong source": ("[[-1, 6], 1, Concat, [1]]  # 12", "[[-1, 4], 1, Concat, [1]]", "size-mismatch", 12),
    "unknown source": ("[[-1, 4], 1, Concat, [1]]  # 16", "[[-1, p4], 1, Concat, [1]]", "row-source", 16),
    "missing bracket": ("[-1, 3, C3, [256, False]]  # 17", "[-1, 3, C3, [256, False]", "yaml-syntax", 17),
    "forgotten stride in the head": ("[-1, 1, Conv, [256, 3, 2]]  # 18", "[-1, 1, Conv, [256, 3]]", "row-misfit", 18),
    "missing number": ("[-1, 3, C3, [1024, False]]  # 23", "[-1, C3, [1024, False]]", "row-format", 23),
    "repeated head": ("1, Detect, [nc, anchors]]", "2, Detect, [nc, anchors]]", "invalid-arguments", 24),
    "unknown key": ("nc: 80", "ncs: 80", "unknown-key", None),
    "anchors of one level": ("[10,13, 16,30, 33,23]", "[10,13, 16,30]", "invalid-anchors", None),
}
AMBIGUOUS = [  # the one hides what the other is seen by, so that another explanation is as likely
    {"forgotten stride", "wrong source"},
    {"forgotten stride", "unknown source"},
    {"odd size", "unknown source"},
]
PAIRS = [pair for pair in itertools.combinations(MISTAKES, 2) if set(pair) not in AMBIGUOUS]


def problems_of(tmp_path, *names):
    text = YOLO
    for name in names:
        old, new, *_ = MISTAKES[name]
        assert text.count(old) == 1, name
        text = text.replace(old, new)
    path = tmp_path / "x.yaml"
    path.write_text(text, encoding="utf-8")
    return {(problem.rule, problem.row) for problem in check_model(path)}


@pytest.mark.parametrize("pair", PAIRS, ids=" and ".join)
def test_two_mistakes_are_reported_at_their_rows(pair, tmp_path):
    assert problems_of(tmp_path, *pair) == {MISTAKES[name][2:] for name in pair}


@pytest.mark.parametrize(
    "names",
    [
        ("unknown module", "forgotten stride", "repeated head"),
        ("unknown argument", "wrong source", "forgotten stride in the head"),
        ("unknown key", "forgotten stride", "missing number"),
    ],
)
def test_three_mistakes_are_reported_at_their_rows(names, tmp_path):
    assert problems_of(tmp_path, *names) == {MISTAKES[name][2:] for name in names}


NECK = """\
nc: 3
anchors: 3
backbone:
  - [-1, 1, Conv, [16, 6, 2, 2]]  # 0
  - [-1, 1, Conv, [32, 3, 2]]  # 1
  - [-1, 1, C3_GhostModul, [32]]  # 2
  - [-1, 1, Conv, [64, 3, 2]]  # 3
  - [-1, 1, Conv, [128, 3, 2]]  # 4
head:
  - [-1, 1, nn.Upsample, [None, 2, nearest]]  # 5
  - [[-1, 3], 1, Concat, [1]]  # 6
  - [-1, 1, Conv, [64, 3, 1]]  # 7
  - [[-1, 4], 1, Concat, [1]]  # 8
  - [-1, 1, C3, [128, False]]  # 9
  - [[7, 9], 1, Detect, [nc, anchors]]  # 10
"""


@pytest.mark.parametrize("levels", ["[7, 9]", "[6, 9]"])
def test_a_forgotten_stride_is_reported_at_its_row_and_not_at_the_join_after_it(levels, tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text(NECK.replace("[7, 9]", levels), encoding="utf-8")
    found = check_model(path)
    assert [(problem.rule, problem.row) for problem in found] == [("unknown-module", 2), ("row-misfit", 7)]
    assert found[1].hint == "s=2 would fit"


def test_a_merge_conflict_hides_no_other_mistake(tmp_path):
    row = next(line for line in YOLO.splitlines(keepends=True) if "[-1, 3, C3, [128]]" in line)
    conflict = f"<<<<<<< ours\n{row}=======\n{row}{row}>>>>>>> theirs\n"
    path = tmp_path / "x.yaml"
    path.write_text(YOLO.replace(row, conflict).replace("SPPF", "SPPFF"), encoding="utf-8")
    found = [(problem.rule, problem.row, problem.line) for problem in check_model(path)]
    line = YOLO[: YOLO.index(row)].count("\n") + 1
    last = YOLO[: YOLO.index("SPPF")].count("\n") + 1 + conflict.count("\n") - 1
    assert found == [("yaml-syntax", None, line), ("unknown-module", 9, last)]
