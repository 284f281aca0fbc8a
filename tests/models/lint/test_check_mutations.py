"""`check` on a good YAML with one mistake made in it: one problem, at the row where it was made or that it is traced to."""

import pytest

from graftdet.models.lint.check import check_model
from graftdet.utils.config import CONFIGS

YOLO = (CONFIGS / "models" / "yolov5n.yaml").read_text(encoding="utf-8")
SPPF, UP, ROW2 = "[-1, 1, SPPF, [1024, 5]]", "[-1, 1, nn.Upsample, [None, 2, 'nearest']]  # 11", "[-1, 3, C3, [128]]"

CASES = [  # what is replaced, by what, the row or line of the problem, a part of its text
    (SPPF, "[-1, 1, SPP, [1024, [4, 8, 12]]]", 9, "odd kernels"),
    (SPPF, "[-1, 1, SPP, [1024, 5]]", 9, "a list of kernels"),
    (SPPF, "[-1, 1, nn.AdaptiveAvgPool2d, [1]]", 9, "without this row"),
    (SPPF, "[-1, 1, nn.MaxPool2d, [3, 2, 0]]", 9, "without this row"),
    (SPPF, "[-1, 1, nn.MaxPool2d, [3, 1, 0]]", 9, "row 12 (Concat"),
    (SPPF, "[-1, 1, Contract, [3]]", 9, "not divisible"),
    (SPPF, "[-1, 1, os.system, [1024]]", 9, "'os.system' is not a known module"),
    (SPPF, "[-1, 1, common.SPPF, [1024, 5]]", 9, "did you mean 'SPPF'?"),
    (SPPF, "[-1, 1, Conv, {c2: 1024, kernal: 3}]", 9, "did you mean 'k'?"),
    (SPPF, "[-1, 1, Conv, [1024, 'k=3']]", 9, "{k: 3}"),
    (SPPF, "[-1, 1, Conv, [256, 1024, 1]]", 9, "the input width is filled in"),
    (UP, "[-1, 1, nn.Upsample, [2]]", 11, "write [None, 2, nearest]"),
    (UP, "[-1, 1, nn.Upsample, [None, 4, 'nearest']]", 11, "write [None, 2, nearest]"),
    (UP, "[-1, 1, nn.Upsample, [None, 2, 'neareast']]", 11, "did you mean 'nearest'?"),
    (UP, "[-1, 1, nn.Upsample, ['nearest']]", 11, "than the layer takes; write [None, 2, nearest]"),
    ("[-1, 1, Conv, [256, 3, 2]]  # 3", "[-1, 1, nn.MaxPool2d, [3, 2]]", 3, "padding=1 would fit"),
    ("[-1, 1, Conv, [256, 3, 2]]  # 18", "[-1, 1, Conv, [256, 3]]", 18, "s=2 would fit"),
    ("[[-1, 6], 1, Concat, [1]]", "[[-1, 6], 1, Concat, [2]]", 12, "expected [1]"),
    ("[[-1, 6], 1, Concat, [1]]", "[[-1, 4], 1, Concat, [1]]", 12, "would fit instead of row 4"),
    ("[[-1, 6], 1, Concat, [1]]", "[[[-1, 6]], 1, Concat, [1]]", 12, "write [-1, 6]"),
    ("[[17, 20, 23], 1, Detect", "[[17, 20, 23], 2, Detect", 24, "must be 1"),
    ("[[17, 20, 23], 1, Detect", "[17, 20, 23, 1, Detect", 24, "sources belong in brackets"),
    ("[nc, anchors]", "[nc, 0]", 24, "1 to 100"),
    (ROW2, "[3, -1, C3, [128]]", 2, "write [-1, 3, C3, [128]]"),
    (ROW2, "[-1, C3, 3, [128]]", 2, "write [-1, 3, C3, [128]]"),
    (ROW2, "[-1, C3, [128]]", 2, "the number is missing"),
    (ROW2, "[-1, 3, C3, 128, True]", 2, "args belong in brackets"),
    ("[[-1, 6], 1, Concat, [1]]", "[[-1, 6], 1, Concat, 1]", 12, "write [1]"),
    (
        ROW2,
        "[-1\uff0c 3, C3, [128]]",
        2,
        "holds a full-width comma; write [-1, 3, C3, [128]]",
    ),
    (ROW2, "[-1, 3, C3, \u3010128\u3011]", 2, "write [-1, 3, C3, [128]]"),
    (ROW2, "[-1, 3, C3, [128; True]]", 2, "write [-1, 3, C3, [128, True]]"),
    (ROW2, "[-1, 3, C3, (128, True)]", 2, "write [-1, 3, C3, [128, True]]"),
    (ROW2, "(-1, 3, C3, [128])", 2, "write [-1, 3, C3, [128]]"),
    (ROW2, "{from: -1, number: 3, module: C3, args: [128]}", 2, "write [-1, 3, C3, [128]]"),
    (ROW2, "[-1, 3, C3, [64*2]]", 2, "write 128"),
    (ROW2, "[-1, 3 C3, [128]]", 2, "a comma is missing"),
    (f"  - {ROW2}", f"  {ROW2}", 2, "'- ' is missing"),
    (f"  - {ROW2}", f"\t- {ROW2}", 2, "a tab"),
    (f"  - {ROW2}", f"   - {ROW2}", 2, "indented by 3 spaces"),
    ("  - [-1, 1, Conv, [64, 6, 2, 2]]", "\t- [-1, 1, Conv, [64, 6, 2, 2]]", 0, "a tab"),
    ("  - [-1, 1, Conv, [512, 3, 2]]  # 5\n", "", 23, "removed before one of the rows 5 to 10"),
    ("nc: 80", "nc:80", "line 2", "a space is missing"),
    ("nc: 80", "ncs: 80", None, "did you mean 'nc'?"),
    ("head:", "heads:", None, "did you mean 'head'?"),
    (f"  - {ROW2}", f"<<<<<<< ours\n  - {ROW2}\n=======\n  - {ROW2}\n>>>>>>> theirs", "line 14", "merge conflict"),
    (ROW2, "[-1, 3, QARepNCSP, [512, 256]]", 2, "is not a known module"),
    ("nc: 80", "nc\uff1a 80", "line 2", "full-width colon"),
    ("head:", "head", "line 23", "a ':' is missing"),
    ("backbone:", "neck:", None, "did you mean 'backbone'?"),
    ("[10,13, 16,30, 33,23]", "[10,13, 16,30, 33]", None, "level 0 is"),
    ("[10,13, 16,30, 33,23]", "[10,13, 16,30]", None, "level 0 has 4 numbers, expected 6"),
]


def check_one_problem(path, text, where, hint):
    """One problem and nothing else, in row `where`, or on line N where it is "line N"."""
    path.write_text(text, encoding="utf-8")
    problems = check_model(path)
    assert len(problems) == 1 and problems[0].severity == "error", [str(problem) for problem in problems]
    assert where == (f"line {problems[0].line}" if isinstance(where, str) else problems[0].row)
    assert problems[0].file == str(path) and problems[0].line and hint in str(problems[0]), str(problems[0])


@pytest.mark.parametrize(
    ("old", "new", "where", "hint"), CASES, ids=[f"{i}-{case[1][:30]}" for i, case in enumerate(CASES)]
)
def test_one_mistake_is_one_problem(old, new, where, hint, tmp_path):
    assert old in YOLO
    check_one_problem(tmp_path / "x.yaml", YOLO.replace(old, new, 1), where, hint)


@pytest.mark.parametrize(
    ("old", "new", "where", "hint"),
    [
        ("   [-1, 6, C3, [256]],", "   [-1, 6, C3, [256]]],", 4, "one ']' too many"),
        (
            "Detect, [nc, anchors]]]",
            "Detect, [nc, anchors]]",
            24,
            "the ']' that ends 'head' is missing",
        ),
        (
            "   [-1, 1, nn.Upsample, [None, 2, 'nearest']],",
            "   [-1, 1, nn.Upsample, [None, 2, 'nearest]],",
            11,
            "a quote",
        ),
    ],
)
def test_sections_written_as_one_list_in_brackets(old, new, where, hint, tmp_path):
    lines = [line.split("#")[0].rstrip() for line in YOLO.splitlines()]
    firsts = {lines.index("backbone:") + 1, lines.index("head:") + 1}
    text = "\n".join(
        f"  {'[' if i in firsts else ' '}{line.strip()[2:]}{']' if not lines[i + 1 : i + 2] or not lines[i + 1] else ','}"
        if line.startswith("  - [-") or line.startswith("  - [[")
        else line
        for i, line in enumerate(lines)
    )
    path = tmp_path / "x.yaml"
    path.write_text(text, encoding="utf-8")
    assert check_model(path) == [] and old in text
    check_one_problem(path, text.replace(old, new, 1), where, hint)
