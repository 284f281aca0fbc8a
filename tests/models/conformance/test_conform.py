"""conform: a good block passes all checks; each fixture block fails its own check and no other."""

from pathlib import Path

import pytest

from graftdet.models import BLOCKS, load_plugins
from graftdet.models.conformance.case_search import find_cases
from graftdet.models.conformance.checks import CHECKS, run_checks
from graftdet.models.graph.modules import find_block
from graftdet.utils.errors import UserError

PLUGIN = Path(__file__).resolve().parents[2] / "fixtures" / "plugins" / "conforming.py"
FAILS = {
    "NormAfterPool": ("batch of one, 1x1 maps", "batch of one in train mode: Expected more than 1 value per channel"),
    "EvenOnly": ("odd sizes", "31x17 map: The size of tensor a"),
    "SmallerInTraining": ("eval and train", "train mode returns [(2, 32, 1, 32)], eval mode [(2, 32, 32, 32)]"),
    "StoresItsMap": ("deepcopy", "Only Tensors created explicitly"),
    "AlwaysFloat32": ("float16 and bfloat16", "float16: returns float32"),
    "OwnRandomNumbers": ("deterministic backward", "the gradient of 'conv.weight' differs between runs"),
    "Detaches": ("complete gradients", "the input has no gradient: detach(), .data, no_grad() or argmax() cuts it"),
    "Saturates": ("complete gradients", "the gradient of weight 'conv.weight' is zero everywhere"),
    "UnusedWeight": ("complete gradients", "weight 'unused.weight' has no gradient; remove or freeze it"),
    "SquareRootOfZero": ("finite gradients", "the gradient of 'conv.weight' is not finite"),
    "OutsideTheStateDict": ("state dict round trip", "another block with these weights: differs by"),
    "DropsTheNorm": ("fuse", "fused: differs by"),
    "SizeAsConstant": ("tracing", "traced at 32x32, run at 40x48"),
    "BatchAsGroups": ("ONNX with dynamic batch", "exported with a batch of 2, run with 1"),
    "RoundsItsWidth": ("width as declared", "declares 8 channels, returns 16"),
}


JOINS = PLUGIN.with_name("joins.py")
pytestmark = pytest.mark.usefixtures("restore_registry")


def cases_of(name, args=None, width_in=None):
    block, options, _ = find_block(name)
    return find_cases(name, block, options, args, {}, width_in)


def results_of(name, args=None):
    load_plugins([PLUGIN, JOINS])
    return run_checks(cases_of(name, args))


def test_there_is_a_failing_block_for_each_check():
    assert {check for check, _ in FAILS.values()} == set(CHECKS)


def test_a_good_block_passes_all_checks():
    assert all(result.passed for result in results_of("Fine").values())


@pytest.mark.parametrize("name", FAILS)
def test_a_block_fails_exactly_its_check(name):
    results = results_of(name)
    check, reason = FAILS[name]
    assert {title for title, result in results.items() if not result.passed} == {check}, results
    assert reason in results[check].text


@pytest.mark.parametrize(
    "name", ["C3", "SELayer", "RepVGGBlock", "Concat", "DynamicConv", "Shuffle_Block", "nn.Upsample"]
)
def test_blocks_of_the_project_pass(name):
    results = results_of(name, [None, 2] if name == "nn.Upsample" else None)
    assert all(result.passed for result in results.values()), results


@pytest.mark.parametrize(
    ("name", "case", "check", "remark"),
    [
        ("WeightedAdd", "WeightedAdd(c1=32, c2=32) on [32, 32] channels", "width as declared", ""),
        ("ConcatConv", "ConcatConv(in_channels=64, out_channels=32) on [32, 32] channels", "width as declared", ""),
        ("ListOfWidths", "ListOfWidths(in_channels_list=[32, 32], out_channels=32)", "width as declared", ""),
        (
            "CountOfMaps",
            "CountOfMaps() on [32, 32] channels",
            "width as declared",
            "has no width argument, returns 32 channels for [32, 32]",
        ),
        ("TwoMaps", "TwoMaps(c1=32, c2=32)", "width as declared", "returns several maps, with 32, 32 channels"),
        ("CoordinateGate", "CoordinateGate(inp=32, oup=32)", "ONNX with dynamic batch", ""),
        ("SelfAttention", "SelfAttention(embed_dim=32, num_heads=4)", "ONNX with dynamic batch", ""),
        (
            "Focus",
            "Focus(c1=32, s=1, c2=32)",
            "odd sizes",
            "requires sides that are multiples of 2, which the image size ensures",
        ),
        ("Contract", "Contract() on 32 channels", "batch of one, 1x1 maps", "requires maps of at least 2x2"),
        ("ShuffleNetUnit", "ShuffleNetUnit(c1=48, s=1, c2=48)", "width as declared", ""),
        (
            "nn.Conv2d",
            "nn.Conv2d(in_channels=32, stride=1, out_channels=32, padding=1, kernel_size=3)",
            "odd sizes",
            "",
        ),
    ],
)
def test_guessed_arguments_and_remarks(monkeypatch, name, case, check, remark):
    load_plugins([JOINS])
    cases = cases_of(name)
    monkeypatch.setattr("graftdet.models.conformance.checks.CHECKS", {check: CHECKS[check]})
    assert str(cases[0]) == case and run_checks(cases) == {check: (True, remark)}


def test_the_reason_why_a_block_cannot_be_run():
    load_plugins([JOINS])
    for name, reason in (
        ("Flat", r"returns shape \(2, 32, 1024\) for a batch of 2, expected a map"),
        ("TwoArguments", "missing 1 required .* argument: 'y'"),
    ):
        with pytest.raises(UserError, match=f"{name}: cannot be built and run .*{reason}"):
            cases_of(name)
    passed, reason = results_of("KeepsItsWidth")["width as declared"]
    assert not passed and reason.startswith("declares 8 channels, returns 32 (the input width; 'c2' has no effect)")


def test_guesses_and_given_arguments():
    block, options, _ = find_block("Conv")
    guessed = cases_of("Conv")
    assert [(case.call.width, case.call.kwargs["s"]) for case in guessed] == [(32, 1), (64, 2)]
    (given,) = find_cases("Conv", block, options, [24, 5], {"s": 2}, [16])
    assert str(given) == "Conv(c1=16, c2=24, k=5, s=2)" and given.with_argument("c2", 8) == ([8, 5], {"s": 2})
    with pytest.raises(UserError, match=r"cannot be built and run .* give --args for \(c1, c2"):
        cases_of("Conv", [24, 3, 1, None, 5])
    assert "SELayer" in BLOCKS


def test_command(capsys, command):
    assert command("conform", "EvenOnly", "--plugins", str(PLUGIN), "--args", "{oup: 24, stride: 2}", "--in", "16") == 1
    first, _, *lines, last = capsys.readouterr().out.splitlines()
    assert (first, last) == ("EvenOnly(inp=16, oup=24, stride=2)", "EvenOnly: 12 of 13 checks passed")
    assert len(lines) == len(CHECKS)
    assert [line for line in lines if "FAILED" in line] == [line for line in lines if line.startswith("odd sizes  ")]
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
