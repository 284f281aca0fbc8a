"""Rows as published forks write them: with the input width, or with the number of repeats, among the args."""

import pytest
import torch

from graftdet.models import build_model, load_plugins
from graftdet.models.lint.check import check_model
from graftdet.utils.errors import UserError
from tests.models.graph.test_plugins import ROOT, model_of

BLOCKS_OF_FORKS = ROOT / "tests" / "fixtures" / "plugins" / "attention.py"

pytestmark = pytest.mark.usefixtures("restore_registry")

ROWS = [  # module, args, width multiple, arguments that the constructor gets; the row reads 64 x multiple channels
    ("Reduced", [64], 1.0, {"channel": 64}),
    ("Reduced", [64], 0.5, {"channel": 32}),  # as written, scaled like all widths
    ("Reduced", [32], 0.5, {"channel": 32}),  # as the author's own parser passes it on
    ("Reduced", [64, 4], 0.5, {"channel": 32, "reduction": 4}),
    ("Reduced", [64, {"reduction": 4}], 0.5, {"channel": 32, "reduction": 4}),
    ("Plain", [64], 0.5, {"channels": 32}),
    ("UnknownName", [64], 0.5, {"features_of_map": 32}),
    ("Grouped", [64], 1.0, {"in_planes": 64}),
    ("Grouped", [64, 4], 0.5, {"in_planes": 32, "groups": 4}),
    ("TwoWidths", [64, 64], 0.5, {"inp": 32, "oup": 32}),
    ("TwoWidths", [32, 32], 0.5, {"inp": 32, "oup": 32}),
    ("TwoWidths", [64, 64, 8], 1.0, {"inp": 64, "oup": 64, "reduction": 8}),
    ("SizeOfMap", [64], 1.0, {"n_dims": 64}),  # a width of the map is possible, but cannot run
    ("SizeOfMap", [64, 320, 320, 8], 0.5, {"n_dims": 32, "width": 320, "height": 320, "heads": 8}),
    ("NoArguments", [64], 1.0, {}),
    ("Smoothing", [64], 0.5, {}),
    ("SELayer", [64], 1.0, {"c1": 64}),
    ("ECA", [64], 1.0, {"c1": 64, "c2": 64}),
]
UNCHANGED = [
    ("SizeOfMap", [64, 320, 320, 8], 1.0, {"n_dims": 64, "width": 320, "height": 320, "heads": 8}),
    ("Reduced", [16], 1.0, {"channel": 64, "reduction": 16}),
    ("Reduced", [8], 1.0, {"channel": 64, "reduction": 8}),
    ("Hidden", [64], 1.0, {"dim": 64, "hidden_dim": 64}),
    ("TwoWidths", [64], 1.0, {"inp": 64, "oup": 64}),
    ("TwoWidths", [64, 32], 1.0, {"inp": 64, "oup": 64, "reduction": 32}),
    ("Numbered", [128, 8], 1.0, {"c1": 64, "c2": 128, "n": 1, "reduction": 8}),
    ("NumberedShortcut", [64, False], 1.0, {"c1": 64, "c2": 64, "n": 1, "shortcut": False}),
    ("NumberedShortcut", [64, 1], 1.0, {"c1": 64, "c2": 64, "n": 1, "shortcut": 1}),
]
NUMBERS = [  # args, the row's number, arguments, blocks in the row
    ("Numbered", [128, 1, 8], 1, {"c1": 64, "c2": 128, "n": 1, "reduction": 8}, 1),
    ("Numbered", [128, 3, 8, 1], 1, {"c1": 64, "c2": 128, "n": 3, "reduction": 8, "k": 1}, 1),
    ("Numbered", [128, 1], 2, {"c1": 64, "c2": 128, "n": 1}, 2),
    ("NumberedShortcut", [64, 3], 1, {"c1": 64, "c2": 64, "n": 3}, 1),
    ("NumberedShortcut", [64, 3, False], 2, {"c1": 64, "c2": 64, "n": 3, "shortcut": False}, 2),
]
SAME_WIDTH = [  # module, args, rule of the warning, arguments; the row reads 32 channels, written as 64
    ("SEAttention", [16], "omitted-width", {"c1": 32, "c2": 32, "r": 16}),
    ("EMA", [8], "omitted-width", {"c1": 32, "c2": 32, "factor": 8}),
    ("ECA", [3], "omitted-width", {"c1": 32, "c2": 32, "k_size": 3}),
    ("GAM", [4], "omitted-width", {"c1": 32, "c2": 32, "rate": 4}),
    ("ShuffleAttention", [16, 4], "omitted-width", {"c1": 32, "c2": 32, "reduction": 16, "G": 4}),
    ("CoordAtt", [8], "omitted-width", {"inp": 32, "oup": 32, "reduction": 8}),
    ("SimAM", ["1e-4"], "omitted-width", {"c1": 32, "c2": 32, "e_lambda": 1e-4}),
    ("OptionalWidth", [8], "omitted-width", {"c1": 32, "c2": 32, "reduction": 8}),
    ("SEAttention", [32], "written-width", {"c1": 32, "c2": 32}),
    ("SEAttention", [32, 8], "written-width", {"c1": 32, "c2": 32, "r": 8}),
    ("UnusedWidth", [32, 8], "written-width", {"c1": 32, "c2": 32, "reduction": 8}),
]
NOT_A_RATIO = [("EMA", [256]), ("EMA", [7]), ("ECA", [4]), ("NAM", [16]), ("CBAM", [6]), ("UnusedWidth", [16])]


def model_with(module, args, multiple=1.0, number=1):
    rows = [[-1, 1, "Conv", [64, 3, 2]], [-1, number, module, args]]
    head = [[[1], 1, "Detect", ["nc", "anchors"]]]
    return {"nc": 2, "anchors": 3, "width_multiple": multiple, "backbone": rows, "head": head}


def warnings_of(cfg):
    return [(problem.rule, problem.row) for problem in check_model(cfg)]


@pytest.mark.parametrize(("module", "args", "multiple", "expected"), ROWS, ids=str)
def test_an_input_width_in_the_args_is_that_width(module, args, multiple, expected, capsys):
    load_plugins([BLOCKS_OF_FORKS])
    cfg = model_with(module, args, multiple)
    model = build_model(cfg)
    assert model.block_calls[1].kwargs == expected
    given = f"row 1 (backbone row 1) {module}: args begin with {args[0]}, the input width, which is filled in"
    if module != "ECA":  # c2 of the published file is the width
        assert given in capsys.readouterr().err and warnings_of(cfg) == [("written-width", 1)]
    sum(raw.square().mean() for raw in model.train()(torch.rand(2, 3, 64, 64))).backward()


@pytest.mark.parametrize(("module", "args", "multiple", "expected"), UNCHANGED, ids=str)
def test_other_numbers_stay_what_they_are(module, args, multiple, expected, capsys):
    load_plugins([BLOCKS_OF_FORKS])
    assert build_model(model_with(module, args, multiple)).block_calls[1].kwargs == expected
    assert not capsys.readouterr().err


@pytest.mark.parametrize(("module", "args", "rule", "expected"), SAME_WIDTH, ids=str)
def test_a_block_that_keeps_the_width_may_omit_it_before_a_ratio(module, args, rule, expected):
    load_plugins([BLOCKS_OF_FORKS])
    cfg = model_with(module, args, 0.5)
    assert build_model(cfg).block_calls[1].kwargs == expected
    assert warnings_of(cfg) == [(rule, 1)]


@pytest.mark.parametrize(("module", "args"), NOT_A_RATIO, ids=str)
def test_numbers_that_can_be_no_ratio_are_still_refused_as_widths(module, args):
    load_plugins([BLOCKS_OF_FORKS])
    with pytest.raises(UserError, match="invalid-arguments"):
        build_model(model_with(module, args, 0.5))


@pytest.mark.parametrize("args", [[7], [64, 7], [64, 16, 7], [None, 7]], ids=str)
def test_an_odd_number_in_a_row_of_cbam_is_the_kernel_size(args):
    cfg = model_with("CBAM", args, 0.5)
    assert build_model(cfg).model[1].spatial_attention.conv.kernel_size == (7, 7)
    assert warnings_of(cfg) == []


def test_a_ratio_that_does_not_divide_the_width_is_reported():
    (problem,) = check_model(model_with("CBAM", [64, 6], 0.5))
    assert problem.message == "32 channels are not divisible by ratio 6" and problem.hint == "4 divides them"


def test_an_optional_output_width_that_the_block_can_have_stays_a_width():
    load_plugins([BLOCKS_OF_FORKS])
    assert build_model(model_with("OptionalWidthConv", [16], 0.5)).block_calls[1].kwargs == {"c1": 32, "c2": 8}


@pytest.mark.parametrize(("module", "args", "number", "expected", "blocks"), NUMBERS, ids=str)
def test_a_number_of_repeats_in_the_args_is_that_number(module, args, number, expected, blocks):
    load_plugins([BLOCKS_OF_FORKS])
    cfg = model_with(module, args, number=number)
    model = build_model(cfg)
    call = model.block_calls[1]
    assert call.kwargs == expected and call.repeats == blocks and call.written_number == expected["n"]
    assert warnings_of(cfg) == [("written-number", 1)]


def test_the_parameter_count_is_that_of_the_authors_constructor_call():
    load_plugins([BLOCKS_OF_FORKS])
    from graftdet.models.graph.modules import find_block

    model = build_model(model_with("Reduced", [64], 0.5))
    expected = find_block("Reduced").block(32)  # channel=32, reduction=16
    assert sum(p.numel() for p in model.model[1].parameters()) == sum(p.numel() for p in expected.parameters()) == 162


def test_a_width_that_joined_maps_share_is_recognized():
    load_plugins([BLOCKS_OF_FORKS])
    assert model_of("Reduced", [32], source=-1).block_calls[2].kwargs == {"channel": 16}


def test_a_list_in_place_of_the_width_is_reported():
    with pytest.raises(UserError, match=r"SKAttention: the output width \(c2\) must be .*, got \[3, 5\]"):
        build_model(model_with("SKAttention", [[3, 5], 16]))
