"""conform: a block that is fine passes every line; each fixture block fails its own line and no other."""

from pathlib import Path

import pytest
from graftdet.models import BLOCKS, load_plugins
from graftdet.models.conformance.block_case import find_subjects
from graftdet.models.conformance.checks import TRIALS
from graftdet.models.conformance.conform import conform
from graftdet.models.graph.row_builder import find_block
from graftdet.utils.errors import UserError

PLUGIN = Path(__file__).resolve().parents[2] / "fixtures" / "plugins" / "conforming.py"
FAILS = {
    "NormBehindPool": ("batch of one, 1x1 maps", "one picture in train mode: Expected more than 1 value per channel"),
    "EvenOnly": ("odd sizes", "31x17 map: The size of tensor a"),
    "SmallerInTraining": ("eval and train", "train mode gives [(2, 32, 1, 32)], eval mode [(2, 32, 32, 32)]"),
    "KeepsItsMap": ("deepcopy", "Only Tensors created explicitly"),
    "AlwaysFloat32": ("float16 and bfloat16", "float16: gives float32"),
    "OwnRandomNumbers": ("deterministic backward", "the gradient of 'conv.weight' differs from run to run"),
    "LengthOfNothing": ("finite gradients", "the gradient of 'conv.weight' is not finite"),
    "OutsideTheState": ("state dict round trip", "another block with these weights: differs by"),
    "ForgetsTheNorm": ("fuse", "fused: differs by"),
    "SizeAsNumber": ("tracing", "traced at 32x32, run at 40x48"),
    "BatchAsGroups": ("ONNX with dynamic batch", "exported with a batch of 2, run with 1"),
    "RoundsItsWidth": ("width as declared", "declares 8 channels, gives 16"),
}


JOINS = PLUGIN.with_name("joins.py")
pytestmark = pytest.mark.usefixtures("own_words")


def results_of(word, args=None, width_in=None):
    load_plugins([PLUGIN, JOINS])
    block, options, _ = find_block(word)
    return conform(find_subjects(word, block, options, args, {}, width_in))


def test_there_is_a_block_for_each_line():
    assert [line for line, _ in FAILS.values()] == list(TRIALS)


def test_a_fine_block_passes_every_line():
    assert all(passed for passed, _ in results_of("Fine").values())


@pytest.mark.parametrize("word", FAILS)
def test_fails_exactly_its_line(word):
    results = results_of(word)
    line, reason = FAILS[word]
    assert {name for name, (passed, _) in results.items() if not passed} == {line}, results
    assert reason in results[line][1]


@pytest.mark.parametrize(
    "word", ["C3", "SELayer", "RepVGGBlock", "Concat", "DynamicConv", "Shuffle_Block", "nn.Upsample"]
)
def test_blocks_of_the_project_pass(word):
    args = [None, 2] if word == "nn.Upsample" else None
    results = results_of(word, args)
    assert all(passed for passed, _ in results.values()), results


@pytest.mark.parametrize(
    "word, subject, line, told",
    [
        ("WeightedAdd", "WeightedAdd(c1=32, c2=32) on [32, 32] channels", "width as declared", ""),
        ("ConcatConv", "ConcatConv(in_channels=64, out_channels=32) on [32, 32] channels", "width as declared", ""),
        ("ListOfWidths", "ListOfWidths(in_channels_list=[32, 32], out_channels=32)", "width as declared", ""),
        (
            "CountOfMaps",
            "CountOfMaps() on [32, 32] channels",
            "width as declared",
            "no argument of it, gives 32 for [32, 32]",
        ),
        ("TwoMaps", "TwoMaps(c1=32, c2=32)", "width as declared", "several maps, of 32, 32 channels"),
        ("CoordinateGate", "CoordinateGate(inp=32, oup=32)", "ONNX with dynamic batch", ""),
        ("SelfAttention", "SelfAttention(embed_dim=32, num_heads=4)", "ONNX with dynamic batch", ""),
        (
            "Focus",
            "Focus(c1=32, s=1, c2=32)",
            "odd sizes",
            "reads sides that are multiples of 2, as maps that a row strides by 2 have in a model",
        ),
        ("Contract", "Contract() on 32 channels", "batch of one, 1x1 maps", "reads maps from 2x2 on"),
        ("ShuffleNetUnit", "ShuffleNetUnit(c1=48, s=1, c2=48)", "width as declared", ""),
        (
            "nn.Conv2d",
            "nn.Conv2d(in_channels=32, stride=1, out_channels=32, padding=1, kernel_size=3)",
            "odd sizes",
            "",
        ),
    ],
)
def test_what_is_guessed_and_remarked(monkeypatch, word, subject, line, told):
    load_plugins([JOINS])
    block, options, _ = find_block(word)
    subjects = find_subjects(word, block, options, None, {}, None)
    monkeypatch.setattr("graftdet.models.conformance.conform.TRIALS", {line: TRIALS[line]})
    assert str(subjects[0]) == subject and conform(subjects) == {line: (True, told)}


def test_what_cannot_be_run_says_why():
    load_plugins([JOINS])
    for word, reason in (
        ("Flat", r"gives shape \(2, 32, 1024\) for a batch of 2, expected a map"),
        ("TwoArguments", "missing 1 required .* argument: 'y'"),
    ):
        with pytest.raises(UserError, match=f"{word}: cannot be built and run .*{reason}"):
            find_subjects(word, *find_block(word)[:2], None, {}, None)
    passed, reason = results_of("KeepsItsWidth")["width as declared"]
    assert not passed and reason.startswith(
        "declares 8 channels, gives 32, the width that it reads: 'c2' changes nothing"
    )


def test_guesses_and_given_arguments():
    block, options, _ = find_block("Conv")
    kept, halved = find_subjects("Conv", block, options, None, {}, None)
    assert (kept.recipe.width, kept.recipe.kwargs["s"]) == (32, 1) and (
        halved.recipe.width,
        halved.recipe.kwargs["s"],
    ) == (64, 2)
    (given,) = find_subjects("Conv", block, options, [24, 5], {"s": 2}, [16])
    assert str(given) == "Conv(c1=16, c2=24, k=5, s=2)" and given.with_argument("c2", 8) == ([8, 5], {"s": 2})
    with pytest.raises(UserError, match=r"cannot be built and run .* give --args for \(c1, c2"):
        find_subjects("Conv", block, options, [24, 3, 1, None, 5], {}, None)
    assert "SELayer" in BLOCKS


def test_command(capsys, command):
    assert command("conform", "EvenOnly", "--plugins", str(PLUGIN), "--args", "{oup: 24, stride: 2}", "--in", "16") == 1
    out = capsys.readouterr().out.splitlines()
    assert (
        out[0] == "EvenOnly(inp=16, oup=24, stride=2)"
        and len(out) == len(TRIALS) + 2
        and out[-1] == "EvenOnly: 11 of 12 ok"
    )
    assert [line for line in out[1:-1] if not line.endswith("ok")] == [
        line for line in out if line.startswith("odd sizes  ")
    ]
    assert command("conform", "Fine", "--plugins", str(PLUGIN)) == 0
    capsys.readouterr()
    assert command("conform", "Conv", "--args", "{c2: 16, act: None}") == 0
    capsys.readouterr()
    for wrong in (
        ["Fin"],
        ["Detect"],
        ["Conv", "--args", "[64"],
        ["Conv", "--args", "64"],
        ["Conv", "64", "--args", "[64]"],
        ["Conv", "--in", "0"],
    ):
        assert command("conform", *wrong) == 2 and capsys.readouterr().err.count("\n") == 1, wrong
