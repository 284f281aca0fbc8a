"""Cost, inside and weights of blocks in the documentation."""

import torch
from torch import nn

from graftdet.models.analysis.block_drawing import block_nodes, draw_block
from graftdet.models.analysis.block_facts import block_facts, facts_lines, weights_of
from graftdet.models.analysis.layered_layout import arrange_layers
from graftdet.models.analysis.module_description import describe_module
from graftdet.models.blocks import BLOCKS


class Gate(nn.Module):
    """Two branches, one of them in a container, multiplied and added to the input."""

    def __init__(self):
        super().__init__()
        self.value = nn.Sequential(nn.Conv2d(4, 4, 3, 2, 1), nn.Upsample(scale_factor=2))
        self.gate = BLOCKS["Conv"](4, 4)

    def forward(self, x):
        value, gate = self.value(x), self.gate(x).sigmoid()
        return x + (value * gate).reshape(x.shape)


def test_layers_and_operations_are_found():
    nodes = block_nodes(Gate(), torch.zeros(1, 4, 8, 8))
    assert [(node.text, node.kind, node.sources) for node in nodes] == [
        ("input, 4x8x8", "map", []),
        ("Conv2d 3x3/2 4\u21924", "layer", [0]),
        ("Upsample", "layer", [1]),
        ("Conv 1x1 4\u21924", "block", [0]),
        ("sigmoid", "operation", [3]),
        ("\u00d7", "operation", [2, 4]),
        ("+", "operation", [0, 5]),
        ("output, 4x8x8", "map", [6]),
    ]
    drawing = draw_block(nodes)
    assert drawing.count("<rect ") == 9 and drawing.count("marker-end") == 9 and "Conv2d 3x3/2 4\u21924" in drawing


def test_long_edges_pass_beside_nodes():
    layout = arrange_layers([[], [0], [1], [2, 0]])
    assert layout.layers == [0, 1, 2, 3] and len(layout.routes) == 4
    (skip,) = (route for route in layout.routes if len(route) == 4)
    for column, layer in skip[1:-1]:
        node = layout.layers.index(layer)
        assert abs(column - layout.columns[node]) >= 1
    assert min(layout.columns) >= 0


def test_costs_are_beside_those_of_a_convolution():
    conv = block_facts(describe_module("Conv"))
    assert conv.conv == (conv.params, conv.macs)  # its example row is that convolution
    ghost = block_facts(describe_module("GhostConv"))
    assert ghost.conv == conv.conv and ghost.params < conv.params
    assert f"| `GhostConv` | {ghost.params:,} | " in "\n".join(facts_lines("GhostConv", ghost))


def test_weights_of_blocks():
    assert weights_of("C3")[0] == "YOLOv5" and "YOLOv5-Lite" in weights_of("C3") and weights_of("NAM") == []
    text = facts_lines("MobileNetV2", block_facts(describe_module("MobileNetV2")))[-1]
    assert text.startswith(
        "Weights: backbones of torchvision and timm, [with `--into ROW`](grafting.md#backbone-weights)"
    )
    assert facts_lines("Concat", block_facts(describe_module("Concat")))[-1] == "Weights: none, nothing is trained."
