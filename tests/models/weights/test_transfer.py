"""Weights follow a graft: into rows that correspond, not into rows whose numbers happen to agree."""

import re

import pytest
import torch
import yaml

from graftdet.models import build_model
from graftdet.models.editing.editor import insert_row, swap_module
from graftdet.models.spec.model_spec import ModelSpec
from graftdet.models.weights.row_matching import describe_moves, match_rows
from graftdet.models.weights.transfer import build_from_weights, load_into
from graftdet.models.weights.weights_file import WeightsFile, load_weights
from graftdet.utils.config import CONFIGS, read_text
from graftdet.utils.errors import UserError

N = read_text(CONFIGS / "models" / "yolov5n.yaml").replace("nc: 80", "nc: 3")
TINY = """
nc: 3
anchors: 3
backbone:
  - [-1, 1, Conv, [8, 3, 2]]
  - [-1, 1, Conv, [8, 3, 1]]
  - [-1, 1, Conv, [8, 3, 1]]
  - [-1, 1, Conv, [8, 3, 1]]
  - [-1, 1, C3, [8]]
head:
  - [[-1, 1], 1, Concat, [1]]
  - [[5], 1, Detect, [nc, anchors]]
"""


def model_of(text, seed=0, **kwargs):
    torch.manual_seed(seed)
    return build_model(ModelSpec.from_text(text, "new.yaml"), **kwargs)


def file_of(text, with_yaml=True, seed=1, **kwargs):
    model = model_of(text, seed, **kwargs)
    return WeightsFile("old.pt", "checkpoint", model.state_dict(), text if with_yaml else None)


@pytest.mark.parametrize("with_yaml", [True, False], ids=["with YAML", "bare state dict"])
@pytest.mark.parametrize(
    ("after", "row"), [(4, "[-1, 1, SELayer, [4]]"), (9, "[-1, 1, C3, [1024]]"), (13, "[-1, 1, Conv, [512, 3, 1]]")]
)
def test_all_old_tensors_are_transferred_after_inserting_a_row(after, row, with_yaml):
    weights = file_of(N, with_yaml)
    grafted = model_of(insert_row(N, after, row))
    report = load_into(grafted, weights)
    assert len(report.loaded) == len(weights.state) and not report.partial
    assert (
        len(report.loaded) / len(grafted.state_dict()) >= (0.95 if "C3" not in row else 0.9) and report.fraction >= 0.75
    )
    shift = {new: new - (new > after + 1) for new in range(26) if new != after + 1}
    with_weights = {i for i, layer in enumerate(grafted.model) if list(layer.parameters())}
    assert {new: old for new, old in report.row_matches.items() if new in with_weights} == {
        new: old for new, old in shift.items() if new in with_weights
    }
    for name, tensor in grafted.state_dict().items():
        index, rest = re.fullmatch(r"model\.(\d+)\.(.*)", name).groups()
        if int(index) != after + 1:
            assert torch.equal(tensor, weights.state[f"model.{shift[int(index)]}.{rest}"])
    transferred = (
        f"{len(report.loaded)} of {len(grafted.state_dict())} tensors, {report.fraction:.1%} of the parameters"
    )
    assert f"{transferred} transferred" in str(report)
    assert f"rows {after + 2}-25 are rows {after + 1}-24 of the file" in str(report)


def test_an_inserted_identity_gives_the_same_detections():
    old, weights = model_of(N, seed=1).eval(), file_of(N)
    new = model_of(insert_row(N, 5, "[-1, 1, nn.Identity, []]")).eval()
    assert load_into(new, weights).fraction == 1
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        for one, other in zip(old(images), new(images), strict=True):
            assert torch.equal(one, other)


def test_rows_are_matched_by_structure_before_row_number():
    """Rows 1, 2 and 3 have the same shapes: a row with other weights in front shifts them all."""
    weights = file_of(TINY)
    shifted = TINY.replace(
        "  - [-1, 1, Conv, [8, 3, 1]]\n", "  - [-1, 1, GhostConv, [8, 3]]\n  - [-1, 1, Conv, [8, 3, 1]]\n", 1
    )
    shifted = shifted.replace("[[-1, 1], 1, Concat", "[[-1, 2], 1, Concat").replace("[[5]", "[[6]")
    model = model_of(shifted)
    report = load_into(model, weights)
    assert report.row_matches == {0: 0, 2: 1, 3: 2, 4: 3, 5: 4, 6: 5, 7: 6}
    assert torch.equal(model.model[2].conv.weight, weights.state["model.1.conv.weight"])
    assert torch.equal(model.model[4].conv.weight, weights.state["model.3.conv.weight"])


def test_removed_swapped_named_and_repeated_rows():
    weights = file_of(TINY)
    cut = TINY.replace("  - [-1, 1, C3, [8]]\n", "").replace("[[5]", "[[4]")
    assert match_rows(model_of(cut), weights.state, ModelSpec.from_text(TINY, "x")) == {
        0: 0,
        1: 1,
        2: 2,
        3: 3,
        4: 5,
        5: 6,
    }
    swapped, _ = swap_module(TINY, "C3", "C3Ghost")
    report = load_into(model_of(swapped), weights)
    assert 4 not in report.row_matches and 6 in report.row_matches
    deeper = model_of(TINY.replace("[-1, 1, C3, [8]]", "[-1, 2, C3, [8]]"))
    report = load_into(deeper, weights)
    assert "model.4.m.0.cv1.conv.weight" in report.loaded and "model.4.m.1.cv1.conv.weight" in report.missing
    named = TINY.replace("[-1, 1, Conv, [8, 3, 2]]", "[-1, 1, Conv, [8, 3, 2], stem]")
    assert len(load_into(model_of(named), weights).row_matches) == 7


def test_box_outputs_are_transferred_with_other_classes_also_after_a_graft():
    weights = file_of(TINY)
    model = model_of(insert_row(TINY, 2, "[-1, 1, SELayer, [4]]"), nc=5)
    report = load_into(model, weights)
    assert report.partial == ["model.7.m.0.weight", "model.7.m.0.bias"] and report.row_matches[7] == 6
    new, old = model.model[7].m[0].weight.view(3, 10, -1), weights.state["model.6.m.0.weight"].view(3, 8, -1)
    assert torch.equal(new[:, :5], old[:, :5]) and not torch.equal(new[:, 5:8], old[:, 5:8])


def test_too_small_a_transfer_is_an_error():
    weights = file_of(TINY)
    other = TINY.replace("[-1, 1, C3, [8]]", "[-1, 9, C3, [64]]")
    assert 0 < load_into(model_of(other), weights).fraction < 0.3
    with pytest.raises(UserError, match=r"expected at least 90.0% of the parameters \(--min-transfer\)"):
        load_into(model_of(other), weights, min_transfer=0.9)
    with pytest.raises(UserError, match="none of its"):
        load_into(model_of(TINY.replace("8", "16")), WeightsFile("old.pt", "state dict", {"a.weight": torch.zeros(3)}))


def test_other_widths_are_reported():
    weights = file_of(N)
    with pytest.raises(UserError, match=r"none of its 349 tensors fits .*; width_multiple is 0.33, in the file 0.25"):
        load_into(model_of(N.replace("width_multiple: 0.25", "width_multiple: 0.33")), weights)
    report = load_into(model_of(N.replace("depth_multiple: 0.33", "depth_multiple: 0.67")), weights)
    assert "; depth_multiple is 0.67, in the file 0.33" in str(report) and len(report.loaded) == len(weights.state)


def test_the_yaml_may_be_a_mapping_or_unreadable():
    for text in (yaml.safe_load(TINY), "nonsense: 1"):
        weights = file_of(TINY)
        weights.yaml = text
        assert load_into(model_of(TINY), weights).fraction == 1


def test_moves_are_described_in_spans():
    assert describe_moves({0: 0, 1: 1}) == ""
    assert describe_moves({0: 0, 2: 1, 3: 2, 5: 3}) == "rows 2-3 are rows 1-2, row 5 is row 3 of the file"


def test_a_file_with_another_number_of_names_than_classes_is_refused(tiny_weights):
    weights = load_weights(tiny_weights)
    assert build_from_weights(weights).names == weights.names
    weights.names = weights.names[:2]
    with pytest.raises(UserError, match="has 2 names for 3 classes"):
        build_from_weights(weights)
