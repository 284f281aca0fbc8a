"""Classes take the outputs of the class of their name, in every head."""

import pytest
import torch

from graftdet.models import build_model
from graftdet.models.editing.editor import insert_row
from graftdet.models.heads import HEADS
from graftdet.models.spec.model_spec import ModelSpec
from graftdet.models.weights.class_outputs import match_classes
from graftdet.models.weights.transfer import load_into
from graftdet.models.weights.weights_file import WeightsFile

YAML = """
nc: 3
anchors: [[10, 13, 16, 30], [33, 23, 30, 61]]
backbone:
  - [-1, 1, Conv, [16, 3, 8]]
  - [-1, 1, Conv, [16, 3, 2]]
head:
  - [[0, 1], 1, {head}, [{args}]]
"""
IMAGES = torch.rand(2, 3, 64, 64)


def model_of(head, nc, seed):
    args = "nc, anchors" if issubclass(HEADS[head], HEADS["Detect"]) else "nc"
    torch.manual_seed(seed)
    text = YAML.format(head=head, args=args)
    if HEADS[head].has_auxiliary_levels:
        text = text.replace("[[0, 1],", "[[0, 1, 0, 1],")
    return build_model(ModelSpec.from_text(text, "m.yaml"), nc=nc).eval()


def transfer(head, names, old_names, nc=None):
    old, new = model_of(head, len(old_names), 1), model_of(head, nc or len(names), 2)
    weights = WeightsFile("old.pt", "checkpoint", old.state_dict(), old.yaml_text, list(old_names), len(old_names))
    return new, old, load_into(new, weights, names=names)


@pytest.mark.parametrize("head", sorted({entry.__name__ for entry in HEADS.values()}))
def test_each_class_has_the_scores_of_the_class_of_its_name(head):
    names, old_names = ["zebra", "Traffic_Light", "cat", "dog"], ["dog", "traffic light", "bird", "Zebra", "cow"]
    new, old, report = transfer(head, names, old_names)
    with torch.no_grad():
        (boxes, scores), (old_boxes, old_scores) = new(IMAGES), old(IMAGES)
    torch.testing.assert_close(boxes, old_boxes)
    if head == "OneToOneDetect":  # suppressed by the scores of all classes together
        new.use_branch("one_to_many"), old.use_branch("one_to_many")
        with torch.no_grad():
            scores, old_scores = new(IMAGES)[1], old(IMAGES)[1]
    for index, old_index in ((0, 3), (1, 1), (3, 0)):
        torch.testing.assert_close(scores[..., index], old_scores[..., old_index])
    assert report.class_matches == {0: 3, 1: 1, 3: 0} and report.new_classes == ["cat"]
    assert "class outputs: 3 of 4 matched by name, newly initialized: cat" in str(report)


@pytest.mark.parametrize("head", ["Detect", "AnchorFreeDetect", "PicoHead"])
def test_equal_numbers_of_other_classes_are_not_taken_for_the_same(head):
    new, old, report = transfer(head, ["mug", "pen"], ["cat", "dog"])
    assert report.class_matches == {} and report.new_classes == ["mug", "pen"]
    assert "class outputs: 0 of 2 matched by name, all are newly initialized" in str(report)
    layers = [name for name in new.head.class_layers() if name + ".weight" in new.head.state_dict()]
    for name in layers:
        ours, theirs = new.head.state_dict()[name + ".weight"], old.head.state_dict()[name + ".weight"]
        assert not torch.equal(ours[-2:], theirs[-2:])


def test_the_same_classes_in_the_same_order_are_copied_whole():
    new, old, report = transfer("Detect", ["cat", "dog"], ["cat", "dog"])
    assert report.fraction == 1 and not report.partial and not report.new_classes
    assert all(torch.equal(value, old.state_dict()[name]) for name, value in new.state_dict().items())
    assert "class outputs" not in str(report)


def test_a_graft_lists_its_new_rows_and_its_classes(tiny_yaml):
    names = ["a", "b", "c"]
    old = build_model(ModelSpec.from_text(tiny_yaml, "tiny.yaml"), nc=3)
    weights = WeightsFile("old.pt", "checkpoint", old.state_dict(), tiny_yaml, names, 3)
    text = insert_row(tiny_yaml, 3, "[-1, 1, Conv, [16, 3, 1]]")
    report = load_into(build_model(ModelSpec.from_text(text, "graft.yaml"), nc=3), weights, names=names)
    assert report.new_rows == report.inserted_rows == [4]
    assert "; class outputs: all 3 matched by name;" in str(report) and str(report).endswith(
        "; newly initialized: row 4"
    )


def test_another_order_of_the_same_classes_is_reported():
    _, _, report = transfer("Detect", ["dog", "cat"], ["cat", "dog"])
    assert report.fraction == 1 and "class outputs: all 2 matched by name, in another order" in str(report)


@pytest.mark.parametrize(
    ("names", "old_names", "matches"),
    [
        (["0", "1"], ["0", "1"], {}),
        (["class_1", "Class 2"], ["class_1", "class 2"], {}),
        (["cell-phone"], ["Cell Phone"], {0: 0}),
        (["RBC", "rbc"], ["rbc", "RBC"], {0: 1, 1: 0}),
        (["Rbc"], ["rbc", "RBC"], {}),
        (["rbc"], ["rbc", "RBC"], {0: 0}),
        (["tv 4k"], ["TV_4K"], {0: 0}),
        (["A"], [], {}),
        (
            ["Cafe\u0301", "猫", "Straße"],
            ["strasse", "caf\u00e9", "猫"],
            {0: 1, 1: 2, 2: 0},
        ),  # accents as two characters
        (["Ａ型", "t\u2013shirt"], ["T-Shirt", "a型"], {0: 1, 1: 0}),  # full width, an en dash
        (["dog"], ["dog", "cat", "dog"], {}),
        (["cat", "dog", "dog"], ["dog", "cat", "dog"], {0: 1, 1: 0, 2: 2}),
        (
            ["класс 1", "类别2", "class#3", "ID-4", "class (5)", "1.0"],
            ["класс 1", "类别2", "class#3", "ID-4", "class (5)", "1.0"],
            {},
        ),
        (["cars 2", "3 wheeler", "v8"], ["v8", "Cars_2", "3-Wheeler"], {0: 1, 1: 2, 2: 0}),
    ],
)
def test_names_are_compared_without_case_spaces_and_hyphens_if_that_is_unambiguous(names, old_names, matches):
    assert match_classes(names, old_names) == matches


def test_files_without_names_match_by_number_if_they_have_as_many_classes():
    new, old, _ = transfer("Detect", ["a", "b"], ["x", "y"])
    unnamed = WeightsFile("old.pt", "state dict", old.state_dict(), nc=None)
    assert load_into(new, unnamed, names=["a", "b"]).fraction == 1
