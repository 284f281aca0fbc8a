"""Arithmetic gives the shapes, parameters and multiply-adds that torch gives, or nothing."""

import inspect
import sys

import pytest
import torch
from torch import nn

from graftdet.models.analysis.summary import _run
from graftdet.models.arithmetic import activations
from graftdet.models.arithmetic.loader import loader
from graftdet.models.arithmetic.row_costs import level_strides, row_costs
from graftdet.models.arithmetic.tensor import MACS, ShapeTensor, Unsupported
from graftdet.models.blocks import BLOCKS
from graftdet.models.blocks.activations import default_activation
from graftdet.models.conformance.case_search import find_cases
from graftdet.models.graph import plugins
from graftdet.models.graph.detection_model import _build_layers, flat_maps
from graftdet.models.heads import HEADS
from graftdet.models.spec.model_spec import ModelSpec
from graftdet.models.spec.row import IMAGE
from graftdet.utils.config import CONFIGS

pytestmark = pytest.mark.usefixtures("restore_registry")  # a plugin leaves all rows to torch

CONFIG_NAMES = sorted(path.name for path in (CONFIGS / "models").glob("*.yaml"))
TORCH_LAYERS = "torch.nn.modules"
LEFT_TO_TORCH = {"C3TR", "C3STR", "C3ECA", "InceptionConv", "A2C2f"}
"""Blocks in these files whose code uses what the stand-in lacks."""
SMALL = "nc: 3\nanchors: 3\nbackbone:\n  - [-1, 1, {row}]\nhead:\n  - [[0], 1, Detect, [nc, anchors]]\n"


@pytest.fixture(autouse=True)
def without_plugins(monkeypatch):
    """Plugins that other tests of this process have loaded would leave everything to torch."""
    monkeypatch.setattr(plugins, "_loaded", {})


def read(name):
    """The model of a name in configs/models, with its classes or 80."""
    spec = ModelSpec.read(name)
    return spec.with_classes(spec.nc or 80)


def costs_by_torch(spec):
    """Layer, shape, parameters and multiply-adds of each row, on tensors without data."""
    with torch.device("meta"), default_activation(spec.activation):
        layers, shapes, _ = _build_layers(spec, spec.channels)
    image = (spec.channels, 640, 640)
    for row, layer, shape in zip(spec.rows, layers, shapes):
        maps = [empty(image if source == IMAGE else shapes[source]) for source in row.sources]
        is_head = row is spec.rows[-1]
        _, macs = _run(layer, flat_maps(maps) if is_head else maps if row.joined else maps[0], row, (640, 640))
        yield shape, sum(parameter.numel() for parameter in layer.parameters()), macs


def empty(shape):
    """A tensor without data for one image, or a list of them."""
    return [empty(one) for one in shape] if isinstance(shape, list) else torch.zeros(1, *shape, device="meta")


@pytest.mark.parametrize("name", CONFIG_NAMES)
def test_costs_are_those_of_torch(name):
    spec = read(name)
    costs = row_costs(spec)
    assert all(row.module in LEFT_TO_TORCH for row, cost in zip(spec.rows, costs) if cost is None and known(row, costs))
    for cost, expected in zip(costs, costs_by_torch(spec)):
        assert cost is None or (cost.shape, cost.params, cost.macs) == expected, cost


def known(row, costs):
    """Whether everything that a row reads has a cost."""
    return all(source == IMAGE or costs[source] is not None for source in row.sources)


def test_most_files_need_no_torch():
    complete = [name for name in CONFIG_NAMES if None not in row_costs(read(name))]
    assert len(complete) > 0.9 * len(CONFIG_NAMES)


@pytest.mark.parametrize("name", [name for name in BLOCKS if "." not in name])
def test_blocks_as_conformance_builds_them(name):
    builder = loader().load("graftdet.models.blocks").BLOCKS
    widths = [32, 32, 32] if name in ("BiFPN_Add3", "BiFPN_Concat3") else None
    arguments = [32, 32] if name == "BiFPN_Add3" else None
    for case in find_cases(name, BLOCKS[name], BLOCKS.options(name), arguments, {}, widths):
        widths = case.width_in if isinstance(case.width_in, list) else [case.width_in]
        maps = [ShapeTensor(2, width, 32, 32) for width in widths]
        try:
            block = builder[name](*case.call.args, **case.call.kwargs)
            output = block(maps if isinstance(case.width_in, list) else maps[0])
        except Unsupported:
            continue
        layer = case.build().eval()
        with torch.no_grad():
            expected = layer(case.maps())
        pairs = zip(output, expected, strict=True) if isinstance(expected, (list, tuple)) else [(output, expected)]
        assert all(tuple(one.shape) == tuple(other.shape) for one, other in pairs)
        names = {parameter_name: tuple(p.shape) for parameter_name, p in layer.named_parameters()}
        assert {parameter_name: tuple(p.shape) for parameter_name, p in block.named_parameters()} == names


def test_layers_take_the_arguments_of_torch():
    stand_in = loader().load("graftdet.models.graph.modules").nn
    layers = {name: layer for name, layer in vars(stand_in).items() if getattr(layer, "__module__", "") == TORCH_LAYERS}
    assert len(layers) > 40
    for name, layer in layers.items():
        if name not in activations.LEFT_TO_TORCH:
            own, torchs = parameters_of(layer), parameters_of(getattr(nn, name))
            assert own == torchs[: len(own)], name  # newer arguments of torch are left to it


def parameters_of(layer):
    return [(p.name, p.default, p.kind) for p in inspect.signature(layer).parameters.values()]


def test_registries_are_equal():
    for registry, name in ((BLOCKS, "blocks"), (HEADS, "heads")):
        names = {entry for entry in registry if registry[entry].__module__.startswith("graftdet.models.")}
        assert names == set(getattr(loader().load(f"graftdet.models.{name}"), name.upper()))


def test_modules_that_torch_runs_are_untouched():
    loader().load("graftdet.models.blocks.conv")
    assert sys.modules["torch"] is torch and issubclass(BLOCKS["Conv"], nn.Module)
    assert loader().load("graftdet.models.blocks.conv") is not sys.modules["graftdet.models.blocks.conv"]


def test_a_large_model_costs_no_memory():
    spec = ModelSpec.from_text(SMALL.format(row="Conv, [1048576, 31]"), "large.yaml").with_classes(3)
    assert row_costs(spec)[0].params == 3 * 1048576 * 31**2 + 2 * 1048576


def test_rows_after_one_without_cost_have_costs_unless_they_read_it():
    text = SMALL.format(row="Conv, [8, 3, 2]]\n  - [-1, 1, Convv, [8]]\n  - [0, 1, Conv, [16, 3, 2]")
    costs = row_costs(ModelSpec.from_text(text, "x.yaml").with_classes(3))
    assert [cost and cost.shape for cost in costs] == [(8, 320, 320), None, (16, 160, 160), [(8, 320, 320)]]


def test_wrong_rows_have_no_cost():
    for row in ("Conv, [0]", "Conv, [8, 3, 1, 1, 5]", "nn.Conv2d, [8, 3, 1, -1]", "Conv, [8, 700, 1, 0]", "C3, [8, x]"):
        assert row_costs(ModelSpec.from_text(SMALL.format(row=row), "x.yaml").with_classes(3))[0] is None, row


def test_strides_that_are_no_powers_of_two_are_left_to_torch():
    spec = ModelSpec.from_text(SMALL.format(row="Conv, [8, 3, 3]"), "x.yaml").with_classes(3)
    assert level_strides(spec, row_costs(spec)) is None
    spec = read("yolov5n.yaml")
    assert level_strides(spec, row_costs(spec)) == [8, 16, 32]


def test_strides_of_auxiliary_levels_do_not_count():
    text = SMALL.format(row="Conv, [8, 3, 2]").replace("[[0], 1, Detect,", "[[0, 0], 1, IAuxDetect,")
    spec = ModelSpec.from_text(text, "x.yaml").with_classes(3)
    assert level_strides(spec, row_costs(spec)) == [2]


def test_plugins_are_left_to_torch(monkeypatch):
    monkeypatch.setitem(plugins._loaded, "mine.py", ["Conv"])
    assert set(row_costs(read("yolov5n.yaml"))) == {None}


def test_counter_starts_again():
    MACS.take()
    loader().load("graftdet.models.blocks.conv").Conv(3, 8)(ShapeTensor(1, 3, 4, 4))
    assert MACS.take() == 8 * 16 * 3 + 4 * 8 * 16 and MACS.take() == 0
