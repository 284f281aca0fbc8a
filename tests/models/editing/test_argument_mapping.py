"""swap: args that both modules know by name stay as written, anchors are added and removed."""

import pytest

from graftdet.models import ModelSpec, build_model
from graftdet.models.editing.editor import swap_module
from graftdet.models.graph.plugins import load_plugins
from graftdet.utils.config import CONFIGS, read_text
from graftdet.utils.errors import UserError

PLUGIN = """
from torch import nn
class Gated(nn.Module):
    def __init__(self, in_channels, out_channels, kernel_size=3, stride=1): ...
class Rotated(nn.Module):
    def __init__(self, c1, c2, rate=0.5, kernel=3): ...
class Other(nn.Module):
    def __init__(self, c1, c2, fraction=0.5): ...
class Flagged(nn.Module):
    def __init__(self, c1, c2, flag=True): ...
"""
TINY = "nc: 2\nbackbone: [[-1, 1, Conv, [8, 3, 2]]]\nhead:\n  - [[0], 1, HEAD, ARGS]  # the head\n"
ANCHORS = "anchors: [[10, 13, 16, 30]]\n"


def swapped(head, args, new, before=ANCHORS):
    text = before + TINY.replace("HEAD", head).replace("ARGS", args)
    result, rows = swap_module(text, head, new, "tiny.yaml")
    assert rows == [1]
    build_model(ModelSpec.from_text(result, "tiny.yaml"))
    start, end = text.split(f"{head}, {args}")
    assert result.startswith(f"{start}{new}, ") and result.endswith(end)  # nothing else changes
    return result[len(start) + len(new) + 2 : -len(end)]


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
        ("AnchorFreeDetect", "[nc, 8, True]", "PicoHead", "{nc: nc, reg_max: 8}"),
        ("AnchorFreeDetect", "{nc: nc, bins: 8}", "Detect", "{nc: nc, anchors: anchors}"),
        ("PicoHead", "[nc,  2]", "AnchorFreeDetect", "[nc]"),
        ("PicoHead", "[nc, 2, 8]", "OneToOneDetect", "[nc, 8]"),
        ("Detect", "[nc, anchors]", "Detect", "[nc, anchors]"),
    ],
)
def test_args_are_mapped_to_the_new_head(head, args, new, expected):
    assert swapped(head, args, new) == expected


def test_without_anchors_in_the_file_their_number_is_written():
    assert swapped("AnchorFreeDetect", "[nc]", "Detect", before="") == "[nc, 3]"
    assert swapped("Detect", "[nc, 3]", "AnchorFreeDetect", before="") == "[nc]"


def test_args_in_block_style_and_aliases_are_mapped():
    text = (
        ANCHORS
        + "nc: 2\nbackbone:\n- [-1, 1, Conv, [8, 3, 2]]\nhead:\n- - - 0\n  - 1\n  - Detect\n  - - nc\n    - anchors\n"
    )
    assert swap_module(text, "Detect", "AnchorFreeDetect")[0] == text.replace(
        "Detect\n  - - nc\n    - anchors", "AnchorFreeDetect\n  - [nc]"
    )
    mapping = text.replace("- - nc\n    - anchors", "- nc: nc\n    anchors: anchors")
    assert swap_module(mapping, "Detect", "PicoHead")[0].endswith("  - PicoHead\n  - {nc: nc}\n")
    shared = "nc: 2\nanchors: 3\nbackbone: [[-1, 1, Conv, [8]], [-1, 1, Conv, &a [8, 1]]]\nhead: [[[1], 1, AnchorFreeDetect, *a ]]\n"
    assert swap_module(shared, "AnchorFreeDetect", "Detect")[0] == shared.replace(
        "AnchorFreeDetect, *a ", "Detect, [8, anchors] "
    )
    later = "nc: 2\nanchors: 3\nhead: [[[0], 1, Detect, &a [nc, anchors]]]\nbackbone: [[-1, 1, Conv, *a ]]\n"
    with pytest.raises(UserError):
        swap_module(later, "Detect", "AnchorFreeDetect")


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("yolov5s6", "AnchorFreeDetect"),
        ("yolov3-tiny", "OneToOneDetect"),
        ("v5Lite-e", "PicoHead"),
        ("PicoDet-s", "AnchorFreeDetect"),
    ],
)
def test_swapping_a_head_and_back_gives_the_same_file(name, module):
    text = read_text(CONFIGS / "models" / f"{name}.yaml")
    new, _ = swap_module(text, "Detect", module, name)
    assert ModelSpec.from_text(new, name).rows[-1].args == ("nc",)
    assert swap_module(new, module, "Detect", name)[0] == text


def test_the_swap_command_prints_changed_args(command, capsys):
    assert command("swap", "yolov5n.yaml", "Detect", "AnchorFreeDetect") == 0
    output = capsys.readouterr()
    assert "1, AnchorFreeDetect, [nc]]" in output.out and "args of row 24 were [nc, anchors], now [nc]" in output.err
    assert (
        command("swap", "yolov5n.yaml", "SPPF", "SPP", "--rows", "9") == 2
    )  # k exists in both, so it stays, and is invalid
    assert "args of row" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("old", "args", "new", "expected"),
    [
        ("C3", "[16, False]", "C3_GhostModule", "[16, False]"),
        ("C3", "[16, False]", "C3k2", "{c2: 16, shortcut: False}"),
        ("C3", "[16, False] ", "A2C2f", "{c2: 16, shortcut: False} "),
        ("C3", "[16, {shortcut: False}]", "C3k2", "[16, {shortcut: False}]"),
        ("C3", "[16, {e: 0.25}]", "Conv", "{c2: 16}"),
        ("C3k2", "[16, False, 0.25]", "C2f", "{c2: 16, e: 0.25}"),
        ("C3k2", "[16, True]", "C2f", "[16]"),
        ("Conv", "[16, 3, 1]", "plugin_blocks.Gated", "[16, 3, 1]"),
        ("Conv", "{c2: 16, k: 3}", "plugin_blocks.Gated", "{out_channels: 16, kernel_size: 3}"),
        ("plugin_blocks.Gated", "[16, 3]", "Conv", "[16, 3]"),
        ("plugin_blocks.Rotated", "[16, 0.1, 5]", "Conv", "[16, 5]"),
        (
            "plugin_blocks.Rotated",
            "[16, 0.1, 5]",
            "plugin_blocks.Other",
            "[16, 0.1]",
        ),  # the rate may correspond to fraction
        ("plugin_blocks.Rotated", "[16, 0.1, 5]", "plugin_blocks.Flagged", "[16]"),  # but not to a flag
        ("SPPF", "[8, 5]", "SELayer", "[]"),
        ("Conv", "[16, 3]", "nn.Conv2d", "[16, 3]"),
        ("nn.Conv2d", "[16, 3]", "Conv", "[16, 3]"),
    ],
)
def test_args_are_mapped_to_the_new_block(old, args, new, expected, restore_registry, tmp_path, monkeypatch):
    """By synonyms: kernel_size is k, any output width is c2."""
    (tmp_path / "plugin_blocks").mkdir()
    (tmp_path / "plugin_blocks" / "__init__.py").write_text(PLUGIN, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    load_plugins(["plugin_blocks"])
    text = f"nc: 2\nbackbone: [[-1, 1, Conv, [8, 3, 2]], [-1, 1, {old}, {args}]]\nhead: [[[1], 1, AnchorFreeDetect, [nc]]]  # 2\n"
    assert swap_module(text, old, new, rows="1") == (text.replace(f"{old}, {args}", f"{new}, {expected}"), [1])


def test_a_row_with_shared_args_is_an_error():
    text = "nc: 2\nbackbone: [[-1, 1, C3, &a [8, False]], [-1, 1, C3, *a ], [-1, 1, BottleneckCSP, {}]]\nhead: [[[2], 1, AnchorFreeDetect, [nc]]]\n"
    both = text.replace("{}", "[8, True]")
    assert (
        "C3k2, {c2: 8, shortcut: False}], [-1, 1, C3k2, {c2: 8, shortcut: False} ]"
        in swap_module(both, "C3", "C3k2")[0]
    )
    with pytest.raises(UserError, match="shares its args"):
        swap_module(text.replace("{}", "*a "), "C3", "C3k2")


def test_idetect_adds_anchors_to_a_file_without_them():
    assert swapped("Detect", "[nc]", "IDetect", before="") == "[nc, 3]"
    with pytest.raises(UserError, match="anchors"):
        build_model(ModelSpec.from_text(TINY.replace("HEAD", "IDetect").replace("ARGS", "[nc]"), "tiny.yaml"))
