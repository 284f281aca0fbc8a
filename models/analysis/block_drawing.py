"""The inside of a block as SVG: its layers and the operations between them, found by running it once."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from html import escape
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from graftdet.models.analysis.layered_layout import arrange_layers

WIDTH, HEIGHT = 168, 30  # of a box, pixels
GAP_X, GAP_Y, MARGIN = 22, 24, 12
MAX_NODES = 40
CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
FONT = "font-family='Helvetica, Arial, sans-serif' font-size='12'"
COLORS = {  # (fill, edge) by kind of node
    "map": ("#e8e8e8", "#777777"),
    "layer": ("#dcebfa", "#3b76b5"),
    "block": ("#dff2df", "#3d8b47"),
    "operation": ("#fff3c4", "#b8860b"),
}
OPERATIONS = {  # name of a function of torch -> text; others have their own name
    **dict.fromkeys(("add", "__add__", "__radd__", "add_", "__iadd__"), "+"),
    **dict.fromkeys(("sub", "__sub__", "__rsub__", "rsub"), "\u2212"),
    **dict.fromkeys(("mul", "__mul__", "__rmul__", "mul_", "__imul__"), "\u00d7"),
    **dict.fromkeys(("div", "__truediv__", "true_divide"), "\u00f7"),
    **dict.fromkeys(("matmul", "__matmul__", "bmm", "einsum"), "matrix product"),
    **dict.fromkeys(("cat", "concat", "concatenate"), "concatenate"),
    "scaled_dot_product_attention": "attention",
    "stack": "stack",
}
UNSHOWN = frozenset(  # change the view of a tensor, not its values
    "view reshape permute transpose flatten unflatten unsqueeze squeeze contiguous expand expand_as chunk split "
    "__getitem__ unbind movedim swapaxes to type_as clone unsafe_chunk split_with_sizes tensor_split __get__ float "
    "detach expand_copy narrow select repeat_interleave __getattribute__".split()
)


@dataclass
class Node:
    """A layer, an operation, or a map that enters or leaves the block; `sources` are indices of nodes."""

    text: str
    kind: str
    sources: list[int] = field(default_factory=list)


class _Recorder(TorchFunctionMode):
    """Records what is computed outside of layers; tensors are known by identity, so they are kept alive."""

    def __init__(self, inputs: list[torch.Tensor]):
        super().__init__()
        self.nodes, self.depth = [], 0  # depth: within how many layers
        self._made: dict[int, int] = {}
        self._alive: list[torch.Tensor] = []
        for tensor in inputs:
            self.add(Node(f"input, {_shape(tensor)}", "map"), tensor)

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        if not self.depth:
            name = getattr(function, "__name__", "")
            sources = self.sources_of((args, kwargs))
            if sources and any(True for _ in _tensors(result)):
                if name in UNSHOWN:
                    for tensor in _tensors(result):
                        self._remember(tensor, sources[0])
                else:
                    self.add(Node(OPERATIONS.get(name, name.strip("_")), "operation", sources), result)
        return result

    def add(self, node: Node, result: Any) -> None:
        """Add what computed `result`."""
        self.nodes.append(node)
        for tensor in _tensors(result):
            self._remember(tensor, len(self.nodes) - 1)

    def sources_of(self, values: Any) -> list[int]:
        """The nodes that the tensors in some arguments came from."""
        found = [self._made[id(tensor)] for tensor in _tensors(values) if id(tensor) in self._made]
        return list(dict.fromkeys(found))

    def _remember(self, tensor: torch.Tensor, node: int) -> None:
        self._made[id(tensor)] = node
        self._alive.append(tensor)


def block_nodes(block: nn.Module, maps: torch.Tensor | list[torch.Tensor]) -> list[Node]:
    """Return the layers and operations of a block in the order in which they run, inputs first, outputs last.

    Args:
        block: Is set to eval mode.
        maps: What it reads, (1, c, H, W) or a list.
    """
    recorder = _Recorder(list(_tensors(maps)))
    hooks = [hook for layer in _layers(block.eval()) for hook in _record_calls(layer, recorder)]
    with torch.no_grad(), recorder:
        result = block(maps)
    for hook in hooks:
        hook.remove()
    for tensor in _tensors(result):
        recorder.nodes.append(Node(f"output, {_shape(tensor)}", "map", recorder.sources_of([tensor])))
    return recorder.nodes


def _layers(block: nn.Module) -> Iterator[nn.Module]:
    """The layers that are drawn as one box: all children but containers, whose children they are instead."""
    for child in block.children():
        if isinstance(child, CONTAINERS):
            yield from _layers(child)
        else:
            yield child


def _record_calls(layer: nn.Module, recorder: _Recorder) -> list[Any]:
    def before(_: nn.Module, args: Any) -> None:
        recorder.depth += 1

    def after(module: nn.Module, args: Any, result: Any) -> None:
        recorder.depth -= 1
        if not recorder.depth:
            kind = "layer" if type(module).__module__.startswith("torch.") else "block"
            recorder.add(Node(_layer_text(module), kind, recorder.sources_of(args)), result)

    return [layer.register_forward_pre_hook(before), layer.register_forward_hook(after)]


def _layer_text(module: nn.Module) -> str:
    """The class, and of a convolution kernel, stride, groups and widths."""
    convolution = module if isinstance(module, nn.Conv2d) else getattr(module, "conv", None)
    name = type(module).__name__.lstrip("_")
    if not isinstance(convolution, nn.Conv2d):
        return name
    kernel = "x".join(map(str, convolution.kernel_size))
    stride = f"/{convolution.stride[0]}" if convolution.stride[0] > 1 else ""
    depthwise = " dw" if convolution.groups > 1 else ""
    return f"{name} {kernel}{stride}{depthwise} {convolution.in_channels}\u2192{convolution.out_channels}"


def _tensors(values: Any) -> Iterator[torch.Tensor]:
    if isinstance(values, torch.Tensor):
        yield values
    elif isinstance(values, dict):
        yield from _tensors(list(values.values()))
    elif isinstance(values, (list, tuple)):
        for value in values:
            yield from _tensors(value)


def _shape(tensor: torch.Tensor) -> str:
    return "x".join(map(str, tensor.shape[1:]))


def draw_block(nodes: list[Node]) -> str:
    """Return the nodes of a block as SVG text: from the top down, one line per step."""
    layout = arrange_layers([node.sources for node in nodes])
    columns = 1 + max(column for route in layout.routes for column, _ in route) if layout.routes else 1
    width = round(columns * (WIDTH + GAP_X) - GAP_X + 2 * MARGIN)
    height = (max(layout.layers) + 1) * (HEIGHT + GAP_Y) - GAP_Y + 2 * MARGIN
    parts = [
        f"<svg xmlns='http://www.w3.org/2000/svg' width='{width}' height='{height}' viewBox='0 0 {width} {height}' "
        f"{FONT}>",
        "<defs><marker id='tip' viewBox='0 0 8 8' refX='7' refY='4' markerWidth='7' markerHeight='7' orient='auto'>"
        "<path d='M0 0.6 L8 4 L0 7.4 z' fill='#666666'/></marker></defs>",
        f"<rect width='{width}' height='{height}' fill='#ffffff'/>",
    ]
    for route in layout.routes:
        points = [_point(column, layer) for column, layer in route]
        path = f"M{points[0][0]:g} {points[0][1] + HEIGHT / 2:g}"
        for (x0, y0), (x1, y1) in itertools.pairwise(points):
            start, end = y0 + HEIGHT / 2, y1 - HEIGHT / 2
            path += f" L{x0:g} {start:g} C{x0:g} {start + GAP_Y:g} {x1:g} {end - GAP_Y:g} {x1:g} {end:g}"
        parts.append(f"<path d='{path}' fill='none' stroke='#666666' marker-end='url(#tip)'/>")
    for node, column, layer in zip(nodes, layout.columns, layout.layers, strict=True):
        x, y = _point(column, layer)
        fill, edge = COLORS[node.kind]
        squeeze = f" textLength='{WIDTH - 10}' lengthAdjust='spacingAndGlyphs'" if len(node.text) > 26 else ""
        parts.append(
            f"<rect x='{x - WIDTH / 2:g}' y='{y - HEIGHT / 2:g}' width='{WIDTH}' height='{HEIGHT}' rx='6' "
            f"fill='{fill}' stroke='{edge}'/>"
            f"<text x='{x:g}' y='{y + 4:g}' text-anchor='middle' fill='#222222'{squeeze}>{escape(node.text)}</text>"
        )
    return "\n".join([*parts, "</svg>"]) + "\n"


def _point(column: float, layer: int) -> tuple[float, float]:
    """The center of a cell."""
    return MARGIN + WIDTH / 2 + column * (WIDTH + GAP_X), MARGIN + HEIGHT / 2 + layer * (HEIGHT + GAP_Y)
