"""What the page of a block shows beside its description: its cost, its inside, and the weights that it takes."""

import functools
from dataclasses import dataclass
from typing import Any

import torch

from graftdet.models.analysis.block_drawing import MAX_NODES, block_nodes, draw_block
from graftdet.models.analysis.module_description import ModuleDescription, describe_all
from graftdet.models.analysis.summary import summarize
from graftdet.models.blocks import BLOCKS
from graftdet.models.graph.detection_model import DetectionModel, build_model
from graftdet.models.spec.model_spec import ModelSpec
from graftdet.utils.config import CONFIGS, parse_yaml
from graftdet.utils.tables import markdown_table
from graftdet.utils.text import counted

WIDTH, CELLS = 64, 40  # channels, height and width of the map that example rows read
STRIDE = 16
_MODELS = {  # publisher or family of weights -> patterns of the model YAMLs that they fit
    "YOLOv5": ("yolov5[nsmlx].yaml", "yolov5?6.yaml"),
    "YOLOv5-Lite": ("v5Lite-*.yaml",),
    "YOLOX": ("yolox-nano.yaml",),
    "NanoDet": ("nanodet-m.yaml",),
    "NanoDet-Plus": ("nanodet-plus-*.yaml",),
    "PicoDet": ("picodet-lcnet-*.yaml", "picodet-esnet-*.yaml"),
    "RTMDet": ("rtmdet-*.yaml",),
    "YOLOv9 (MIT)": ("yolov9-*.yaml",),
    "BlazeFace": ("blazeface-front.yaml",),
}
_LATER_YOLO = frozenset(
    "C2f C3k2 C2PSA PSA SPPF SCDown A2C2f RepNCSPELAN4 ELAN1 ADown AConv SPPELAN CIB C2fCIB".split()
)
_BACKBONES = {
    "MobileNetV1": "RetinaFace (width 0.25)",
    "MobileNetV2": "torchvision and timm",
    "MobileNetV3": "torchvision and timm",
    "ShuffleNetV2": "torchvision",
    "GhostNet": "Huawei and timm",
    "LCNet": "PaddlePaddle and timm",
    "MobileViT": "timm",
}


@dataclass(frozen=True)
class BlockFacts:
    """Cost and inside of a block in its example row, which reads a map of 64 channels of 40x40.

    Attributes:
        params: Parameters.
        macs: Multiply-adds for one image.
        conv: Parameters and multiply-adds of a 3x3 `Conv` with the same input and output; None where the block reads or
            returns several maps.
        tensors: Names of its weights below `model.ROW.`.
        drawing: Its inside as SVG; "" for whole backbones and what is only one layer.
    """

    params: int
    macs: int
    conv: tuple[int, int] | None
    tensors: tuple[str, ...]
    drawing: str


def block_facts(module: ModuleDescription) -> BlockFacts:
    """Return cost and inside of a block.

    Args:
        module: Its description; the example row is built.
    """
    model, index = _example_model(module)
    rows = summarize(model, (CELLS * STRIDE, CELLS * STRIDE))
    row, block = rows[index], model.model[index]
    shapes = [rows[source].shapes for source in row.sources]
    conv = None
    if len(shapes) == len(shapes[0]) == len(row.shapes) == 1:
        (c1, *_), (c2, height, width) = shapes[0][0], row.shapes[0]
        conv = (9 * c1 * c2 + 2 * c2, (9 * c1 + 4) * c2 * height * width)  # 4: batch norm
    maps = [[torch.zeros(1, *shape) for shape in own] for own in shapes]
    inputs: list[Any] = [own if len(own) > 1 else own[0] for own in maps]
    nodes = block_nodes(block, inputs if model.spec.rows[index].joined else inputs[0])
    inner = sum(node.kind != "map" for node in nodes)
    drawing = draw_block(nodes) if inner > 1 and len(nodes) <= MAX_NODES else ""
    return BlockFacts(row.params, row.macs, conv, tuple(block.state_dict()), drawing)


def _example_model(module: ModuleDescription) -> tuple[DetectionModel, int]:
    """A small model in which the example row follows three rows of `WIDTH` channels; index of that row."""
    example = parse_yaml(f"row: {module.example.splitlines()[0]}", module.name)["row"]
    rows = [[-1, 1, "Conv", [WIDTH, 3, STRIDE]], [-1, 1, "Conv", [WIDTH]], [-1, 1, "Conv", [WIDTH]]]
    options = BLOCKS.options(module.name)
    if options.takes_lists or options.joins_lists:
        rows.append([-1, 1, "MobileNetV1", [0.25]])
    index = len(rows)
    rows.append(example)
    if "list of maps" in module.details:
        rows.append([-1, 1, "Index", [0]])
    anchors, head = [[10, 13, 16, 30, 33, 23]], [[[-1], 1, "Detect", ["nc", "anchors"]]]
    return build_model({"nc": 2, "anchors": anchors, "backbone": rows, "head": head}).eval(), index


@functools.cache
def facts_of_blocks() -> dict[str, BlockFacts]:
    """Return the facts of every block of the project by its name."""
    return {module.name: block_facts(module) for module in describe_all(plugins=False) if module.kind == "block"}


def facts_lines(name: str, facts: BlockFacts) -> list[str]:
    """Return the Markdown lines about a block that follow its description.

    Args:
        name: Its name.
        facts: Its facts; the drawing is a file of `images/blocks`.
    """
    lines = ["", f"![The layers of {name}](images/blocks/{name}.svg)"] if facts.drawing else []
    rows = [(f"`{name}`", f"{facts.params:,}", _megas(facts.macs))]
    if facts.conv:
        rows.append(("`Conv` 3x3 of the same width", f"{facts.conv[0]:,}", _megas(facts.conv[1])))
    header = (f"in the example row, from {WIDTH} channels of {CELLS}x{CELLS}", "parameters", "MMACs")
    if facts.params or facts.macs:
        lines += ["", markdown_table(header, rows, right=(1, 2))]
    return [*lines, "", f"Weights: {_weights_text(name, facts)}"]


def _megas(macs: int) -> str:
    return f"{macs / 1e6:,.2f}"


def _weights_text(name: str, facts: BlockFacts) -> str:
    """Which files have weights of a block."""
    if not facts.tensors:
        return "none, nothing is trained."
    shown = ", ".join(f"`{tensor}`" for tensor in facts.tensors[:3]) + (", ..." if len(facts.tensors) > 3 else "")
    tensors = f"{counted(len(facts.tensors), 'tensor')} ({shown})"
    if name in _BACKBONES:
        return f"backbones of {_BACKBONES[name]}, [with `--into ROW`](grafting.md#backbone-weights); {tensors}."
    found = weights_of(name)
    if not found:
        return f"files with tensors of the same names and shapes; {tensors}."
    return f"files of {', '.join(found)} ([which ones](weights.md#published-weights)); {tensors}."


def weights_of(name: str) -> list[str]:
    """Return the publishers whose files hold weights of a block as a row of a model or inside another row."""
    found = [family for family, modules in _modules_by_family().items() if name in modules]
    return found + ["YOLOv8 and later"] * (name in _LATER_YOLO)


@functools.cache
def _modules_by_family() -> dict[str, frozenset[str]]:
    folder = CONFIGS / "models"
    return {
        family: frozenset(
            row.module for pattern in patterns for path in folder.glob(pattern) for row in ModelSpec.read(path).rows
        )
        for family, patterns in _MODELS.items()
    }
