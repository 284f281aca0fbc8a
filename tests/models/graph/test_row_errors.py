"""Rows that cannot be built are reported with their number and what to write instead."""

import pytest

from graftdet.models import build_model
from graftdet.utils.errors import UserError
from tests.models.graph.small_models import model_of

BAD_ROWS = [
    (["Convv", [16]], "row 1 (backbone row 1): 'Convv' is not a known module; did you mean 'Conv'?"),
    (["nn.Conv3", [16]], "torch.nn has no layer 'Conv3'"),
    (["Conv", []], "row 1 (backbone row 1) Conv: argument 'c2' is missing"),
    (["Conv", [16, 3, 1, None, 1, 1, True, 9]], "takes at most 7 arguments"),
    (["Conv", [16, {"kk": 3}]], "has no argument 'kk'"),
    (["Conv", ["16"]], "output width (c2) must be a whole number"),
    (["Conv", [16, 3, 1, None, 3]], "groups"),
    (["C3", [16, {"n": 3}]], "filled in by the parser"),
    (["GhostBottleneck", [24, 3, 1]], "at stride 1 the width stays"),
    (["Concat", [1]], "Concat: cannot run on 16 channels"),
    (["nn.Flatten", []], "expected a map"),
    (["Detect", ["nc", "anchors"]], "must be the last row"),
]


@pytest.mark.parametrize(("row", "message"), BAD_ROWS)
def test_errors_name_the_row(row, message):
    with pytest.raises(UserError) as caught:
        model_of([-1, 1, "Conv", [16]], [-1, 1, *row])
    assert message in str(caught.value)


def test_join_of_different_sizes_names_both_rows():
    rows = [[-1, 1, "Conv", [16, 3, 2], "p1"], [-1, 1, "Conv", [16, 3, 2]], [[-1, "p1"], 1, "Concat", [1]]]
    with pytest.raises(UserError) as caught:
        model_of(*rows)
    assert (
        "row 2 (backbone row 2) Concat: inputs differ in size: row 1 is 160x160 and row 0 ('p1') is 320x320 at 640x640"
        in str(caught.value)
    )


def test_head_levels_and_anchors_must_agree():
    with pytest.raises(UserError, match="anchors for 1 level, but 'from' names 2"):
        model_of([-1, 1, "Conv", [16]], [-1, 1, "Conv", [16]], head=[[[0, 1], 1, "Detect", ["nc", "anchors"]]])
    with pytest.raises(UserError, match="last row must be a head"):
        model_of([-1, 1, "Conv", [16]], head=[[-1, 1, "Conv", [16]]])


def test_huge_numbers_are_reported_without_building_the_row():
    for spec, message in (
        (
            {"depth_multiple": 1e6},
            "row 0 (backbone row 0) C3: its number 3 x the depth multiple 1e+06 is 3000000, expected at most 1000",
        ),
        ({"rows": [[-1, 2000, "C3", [16]]]}, "number must be at most 1000, got 2000"),
        ({"rows": [[-1, 1, "Conv", [2**21]]]}, "the output width (c2) must be at most 1048576, got 2097152"),
        ({"head": [[[0], 1, "PicoHead", ["nc", 101]]]}, "before the last, must be at most 100, got 101"),
    ):
        values = {
            "nc": 2,
            "backbone": spec.pop("rows", [[-1, 3, "C3", [16]]]),
            "head": [[[0], 1, "AnchorFreeDetect", ["nc"]]],
            **spec,
        }
        with pytest.raises(UserError) as caught:
            build_model(values)
        assert message in str(caught.value)


def test_a_join_is_not_repeated():
    with pytest.raises(UserError, match="row 2 .* Concat: joins maps; its number must be 1, got 3"):
        model_of([-1, 1, "Conv", [16]], [-1, 1, "Conv", [16]], [[-1, 0], 3, "Concat", [1]])


def test_a_head_written_for_other_classes_is_reported():
    head = [[[-1], 1, "Detect", [80, "anchors"]]]
    assert model_of([-1, 1, "Conv", [16]], nc=80, head=head).nc == 80
    with pytest.raises(UserError, match="row 1 \\(head row 0\\) Detect: is written for 80 classes, but nc is 2"):
        model_of([-1, 1, "Conv", [16]], head=head)


LIST_FROM = [
    ([[-1], 1, "Conv", [16, 3]], "Conv: reads one map, but 'from' is a list; write -1"),
    (
        [[-1, 0], 1, "Conv", [16, 3]],
        "Conv: reads one map, but 'from' is a list; join them first: [[-1, 0], 1, Concat, [1]]",
    ),
    ([[-1], 1, "nn.Upsample", ["None", 2, "nearest"]], "nn.Upsample: reads one map, but 'from' is a list; write -1"),
    ([-1, 1, "C3", [16, "Flase"]], "argument 'shortcut' must be True or False, got 'Flase'; did you mean 'False'?"),
    ([-1, 1, "Conv", [16, "three"]], "argument 'k' must be a whole number of at least 1, got 'three'"),
]


@pytest.mark.parametrize(("row", "message"), LIST_FROM)
def test_lists_and_text_where_one_map_or_a_number_is_expected(row, message):
    with pytest.raises(UserError) as caught:
        model_of([-1, 1, "Conv", [16]], row)
    assert message in str(caught.value)


def test_misspelled_anchors_in_args_are_reported():
    with pytest.raises(UserError, match="got 'anchor'; did you mean 'anchors'?"):
        model_of([-1, 1, "Conv", [16]], head=[[[-1], 1, "Detect", ["nc", "anchor"]]])
