"""swap of heads: args that both know stay as they are written, anchors come and go."""

import pytest

from models import ModelSpec, build_model
from models.edit import swap_word
from utils.config import CONFIGS, read_text
from utils.errors import UserError

TINY = "nc: 2\nbackbone: [[-1, 1, Conv, [8, 3, 2]]]\nhead:\n  - [[0], 1, HEAD, ARGS]  # the head\n"
ANCHORS = "anchors: [[10, 13, 16, 30]]\n"


def swapped(head, args, new, before=ANCHORS):
    text = before + TINY.replace("HEAD", head).replace("ARGS", args)
    told, rows = swap_word(text, head, new, "tiny.yaml")
    assert rows == [1]
    build_model(ModelSpec.from_text(told, "tiny.yaml"))
    start, end = text.split(f"{head}, {args}")
    assert told.startswith(f"{start}{new}, ") and told.endswith(end)  # all else stays
    return told[len(start) + len(new) + 2 : -len(end)]


@pytest.mark.parametrize(
    ("head", "args", "new", "expected"),
    [
        ("Detect", "[nc, anchors]", "AnchorFreeDetect", "[nc]"),
        ("Detect", "[ nc,  anchors ]", "PicoHead", "[nc]"),
        ("Detect", "{anchors: anchors, nc: nc}", "OneToOneDetect", "{nc: nc}"),
        ("Detect", "[nc, [[10, 13]]]", "AnchorFreeDetect", "[nc]"),
        ("Detect", "['nc', \"anchors\"]", "AnchorFreeDetect", "['nc']"),
        ("Detect", "[2, anchors]", "AnchorFreeDetect", "[2]"),
        ("AnchorFreeDetect", "[nc]", "Detect", "[nc, anchors]"),
        ("AnchorFreeDetect", "{nc: nc, width: 32}", "Detect", "{nc: nc, anchors: anchors}"),
        ("AnchorFreeDetect", "[nc, 8, True, 24]", "Detect", "[nc, anchors]"),
        ("AnchorFreeDetect", "[nc, 8, True, 24]", "OneToOneDetect", "[nc, 8, True, 24]"),
        ("AnchorFreeDetect", "[nc, 8, True]", "PicoHead", "{nc: nc, bins: 8}"),
        ("PicoHead", "[nc,  2]", "AnchorFreeDetect", "[nc]"),
        ("PicoHead", "[nc, 2, 8]", "OneToOneDetect", "[nc, 8]"),
        ("Detect", "[nc, anchors]", "Detect", "[nc, anchors]"),
    ],
)
def test_args_become_those_of_the_new_head(head, args, new, expected):
    assert swapped(head, args, new) == expected


def test_without_anchors_in_the_file_their_number_is_written():
    assert swapped("AnchorFreeDetect", "[nc]", "Detect", before="") == "[nc, 3]"
    assert swapped("Detect", "[nc, 3]", "AnchorFreeDetect", before="") == "[nc]"


def test_block_style_and_aliases():
    text = ANCHORS + "nc: 2\nbackbone:\n- [-1, 1, Conv, [8, 3, 2]]\nhead:\n- - - 0\n  - 1\n  - Detect\n  - - nc\n    - anchors\n"
    assert swap_word(text, "Detect", "AnchorFreeDetect")[0] == text.replace("Detect\n  - - nc\n    - anchors", "AnchorFreeDetect\n  - [nc]")
    mapping = text.replace("- - nc\n    - anchors", "- nc: nc\n    anchors: anchors")
    assert swap_word(mapping, "Detect", "PicoHead")[0].endswith("  - PicoHead\n  - {nc: nc}\n")
    shared = "nc: 2\nanchors: 3\nbackbone: [[-1, 1, Conv, [8]], [-1, 1, Conv, &a [8, 1]]]\nhead: [[[1], 1, AnchorFreeDetect, *a ]]\n"
    assert swap_word(shared, "AnchorFreeDetect", "Detect")[0] == shared.replace("AnchorFreeDetect, *a ", "Detect, [8, anchors] ")
    later = "nc: 2\nanchors: 3\nhead: [[[0], 1, Detect, &a [nc, anchors]]]\nbackbone: [[-1, 1, Conv, *a ]]\n"
    with pytest.raises(UserError):
        swap_word(later, "Detect", "AnchorFreeDetect")


@pytest.mark.parametrize(
    ("name", "word"),
    [("yolov5s6", "AnchorFreeDetect"), ("yolov3-tiny", "OneToOneDetect"), ("v5Lite-e", "PicoHead"), ("PicoDet-s", "AnchorFreeDetect")],
)
def test_there_and_back_is_the_same_file(name, word):
    text = read_text(CONFIGS / "models" / f"{name}.yaml")
    new, _ = swap_word(text, "Detect", word, name)
    assert ModelSpec.from_text(new, name).rows[-1].args == ("nc",)
    assert swap_word(new, word, "Detect", name)[0] == text


def test_the_command_says_what_became_of_the_args(command, capsys):
    assert command("swap", "yolov5n.yaml", "Detect", "AnchorFreeDetect") == 0
    told = capsys.readouterr()
    assert "1, AnchorFreeDetect, [nc]]" in told.out and "24; its args were [nc, anchors], now [nc]" in told.err
    assert command("swap", "yolov5n.yaml", "SPPF", "SPP", "--rows", "9") == 2  # no head: its args stay, and do not fit
    assert "its args were" not in capsys.readouterr().err
