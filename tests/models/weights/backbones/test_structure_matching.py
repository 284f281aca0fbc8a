"""Layers of a file and of a row: by order and shapes, whatever their names; ambiguous structures are refused."""

import pytest
import torch

from graftdet.models import BLOCKS
from graftdet.models.weights.backbones.structure_matching import AmbiguousStructureError, match_structure


def tensors(*layers):
    """State dict of layers: (name, shape of the weight), a batch norm where the shape is a number."""
    state = {}
    for name, shape in layers:
        state[f"{name}.weight"] = torch.zeros(shape)
        if isinstance(shape, int):
            state |= {f"{name}.{kind}": torch.zeros(shape) for kind in ("bias", "running_mean", "running_var")}
            state[f"{name}.num_batches_tracked"] = torch.tensor(0)
    return state


STEM, DEPTHWISE, POINTWISE = (8, 3, 3, 3), (8, 1, 3, 3), (16, 8, 1, 1)
OWN = tensors(("conv", STEM), ("bn", 8), ("dw", DEPTHWISE), ("dw_bn", 8), ("pw", POINTWISE), ("pw_bn", 16))
LAYERS = [(STEM, 8), (DEPTHWISE, 8), (POINTWISE, 16)]


def published(prefix="features.", count=3, extra=()):
    """The layers of OWN under other names, numbered."""
    flat = [shape for pair in LAYERS[:count] for shape in pair]
    return tensors(*((f"{prefix}{i}", shape) for i, shape in enumerate(flat)), *extra)


def test_layers_correspond_in_order_and_the_rest_is_left_over():
    found = match_structure(OWN, published(extra=[("fc", (10, 16))]))
    assert list(found) == list(OWN)
    assert found["conv.weight"] == "features.0.weight" and found["pw_bn.running_var"] == "features.5.running_var"
    assert found["dw_bn.num_batches_tracked"] == "features.3.num_batches_tracked"
    found = match_structure(OWN, tensors(("first", (4, 4, 1, 1))) | published())
    assert found["conv.weight"] == "features.0.weight"


def test_other_shapes_kinds_and_short_rows_do_not_correspond():
    assert match_structure(OWN, published(count=2)) == {}
    with_bias = {**published(), "features.0.bias": torch.zeros(8)}
    assert match_structure(OWN, with_bias) == {}
    one = tensors(("conv", STEM), ("bn", 8))
    assert match_structure(one, published()) == {}  # a convolution and its batch norm say too little


def test_several_places_are_ambiguous():
    with pytest.raises(AmbiguousStructureError, match=r"more than once, as in student\.0 and teacher\.0"):
        match_structure(OWN, published("student.") | published("teacher."))


def test_numbers_order_the_layers_of_a_file_that_is_sorted_by_name():
    own = tensors(*((f"{i:02}", (8 + i % 2, 8 + (i + 1) % 2, 1, 1)) for i in range(12)))
    state = tensors(*((f"layers.{i}", (8 + i % 2, 8 + (i + 1) % 2, 1, 1)) for i in range(12)))
    found = match_structure(own, dict(sorted(state.items())))
    assert found["10.weight"] == "layers.10.weight" and found["02.weight"] == "layers.2.weight"


def test_named_modules_of_a_file_sorted_by_name_change_places():
    names = ("stem.conv", "stem.bn", "blocks.0.conv_dw", "blocks.0.bn1", "blocks.0.conv_pw", "blocks.0.bn2")
    state = tensors(*zip(names, (STEM, 8, DEPTHWISE, 8, POINTWISE, 16), strict=True), ("classifier", (10, 16)))
    found = match_structure(OWN, dict(sorted(state.items())))
    assert [found[f"{name}.weight"] for name in ("conv", "bn", "dw", "dw_bn", "pw", "pw_bn")] == [
        f"{name}.weight" for name in names
    ]


def test_layers_alike_need_numbers_where_the_order_of_the_file_is_lost():
    own = tensors(("conv", STEM), ("query", (8, 8)), ("key", (8, 8)), ("last", POINTWISE))
    for names, ambiguous in ((("query", "key"), True), (("fc2", "fc1"), False)):
        state = tensors(("a.conv", STEM), *((f"a.{name}", (8, 8)) for name in names), ("a.last", POINTWISE))
        assert match_structure(own, state)["query.weight"] == f"a.{names[0]}.weight"  # in the order of the file
        lost = dict(sorted(state.items()))
        if ambiguous:
            with pytest.raises(AmbiguousStructureError, match=r"a\.key and a\.query have the same shapes"):
                match_structure(own, lost)
        else:
            assert match_structure(own, lost)["query.weight"] == "a.fc1.weight"


def test_branches_in_another_order_are_found():
    state = BLOCKS["ShuffleNetV2"](3, 0.5).state_dict()
    names = [name.replace("branch2", "main").replace("branch1", "proj") for name in state]
    main_first = sorted(names, key=lambda name: (name.split(".")[:2], "proj" in name))
    renamed = dict(zip(names, state.values(), strict=True))
    found = match_structure(state, {f"net.{name}": renamed[name] for name in main_first})
    assert list(found.items()) == [(old, f"net.{new}") for old, new in zip(state, names, strict=True)]
