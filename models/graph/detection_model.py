"""ModelSpec -> DetectionModel: build row by row, run, fuse."""

import math
from pathlib import Path

import torch
from graftdet.models.blocks.activations import default_activation
from graftdet.models.blocks.conv import fuse_sequential
from graftdet.models.blocks.registration import BlockOptions
from graftdet.models.graph.row_builder import build_head, build_row, find_block, gather_shapes, options_for_model
from graftdet.models.graph.shape_inference import PROBE_SIZE, output_shapes
from graftdet.models.heads import HEADS
from graftdet.models.heads.base import Head
from graftdet.models.spec.model_spec import ModelSpec
from graftdet.models.spec.row import IMAGE
from graftdet.utils.errors import UserError, did_you_mean, first_line
from torch import nn


def build_model(cfg: str | Path | dict | ModelSpec, nc: int | None = None, ch: int | None = None) -> "DetectionModel":
    """Build the model of a YAML.

    Args:
        cfg: a path, a bare name below configs/models, a loaded mapping or a ModelSpec.
        nc: number of classes; None takes the YAML's.
        ch: channels of the picture; None takes the YAML's, else 3.

    Raises `UserError` that names the file, the row and the fix.
    """
    return DetectionModel(ModelSpec.read(cfg).with_classes(nc), ch)


class DetectionModel(nn.Module):
    """The graph of a model YAML.

    In train mode it returns raw maps, a list with one (B, A, H, W, 5 + nc) a level for `Detect`, or whatever else the
    head's criterion takes; in eval mode decoded boxes (B, N, 4) xyxy in pixels of the input and scores (B, N, nc).
    Weight names are `model.<row>.<...>`.
    """

    def __init__(self, spec: ModelSpec, ch: int | None = None):
        super().__init__()
        if spec.nc is None:
            raise UserError(f"{spec.where}: 'nc', the number of classes, is missing")
        self.spec = spec
        self.nc = spec.nc
        self.names = list(spec.names or map(str, range(spec.nc)))
        self.channels = ch or spec.channels
        with default_activation(spec.activation, spec.where):
            layers, self.shapes, self.recipes = _build_layers(spec, self.channels)
        self.model = nn.Sequential(*layers)
        last_read = {row.index: row.index for row in spec.rows} | {
            s: row.index for row in spec.rows for s in row.sources
        }
        done = [[s for s, reader in last_read.items() if reader == row.index and s != IMAGE] for row in spec.rows]
        self._plan = [(row.sources, row.joined, done[row.index]) for row in spec.rows]
        self.head.set_strides(_head_strides(self))
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.block_eps = module.eps  # with which weights of the block alone are published
                module.eps, module.momentum = 1e-3, 0.03  # the published recipe

    @property
    def head(self) -> Head:
        """The last row."""
        return self.model[-1]

    @property
    def needs_nms(self) -> bool:
        """Whether several boxes of one object are to be expected."""
        return self.head.needs_nms

    @property
    def stride(self) -> torch.Tensor:
        """Pixels a cell, (levels,)."""
        return torch.tensor(self.head.strides)

    @property
    def size_multiple(self) -> int:
        """What the sides of a picture must be multiples of: pixels a cell of the coarsest map of any row.

        More than the head's largest stride where the finest levels alone are looked at, as in yolov5-p34.
        """
        shapes = [one for shape in self.shapes for one in (shape if isinstance(shape, list) else [shape])]
        cells = [PROBE_SIZE // height for _, height, _ in shapes if height > 1 and PROBE_SIZE % height == 0]
        return int(max([*cells, *self.head.strides]))

    @property
    def yaml_text(self) -> str:
        """The YAML text that the model was built from (its nc may differ from the model's)."""
        return self.spec.text

    def forward(self, images):
        """Images (B, C, H, W) in 0..1 to raw maps (train mode) or decoded boxes and scores (eval mode)."""
        raw = self.raw_outputs(images)
        return raw if self.training else self.head.decode(raw)

    def raw_outputs(self, images):
        """Images (B, C, H, W) in 0..1 to raw maps, in either mode."""
        return self.head(self.head_inputs(images))

    def head_inputs(self, images):
        """Images (B, C, H, W) in 0..1 to the maps (B, c, H, W) that the head reads, one a level."""
        outputs = []
        for (sources, joined, done), layer in zip(self._plan, self.model, strict=True):
            maps = [images if s == IMAGE else outputs[s] for s in sources]
            if layer is self.head:
                return flat_maps(maps)
            outputs.append(layer(maps if joined else maps[0]))
            del maps
            for index in done:  # nothing reads them any more: their memory is free for the next rows
                outputs[index] = None

    def use_branch(self, name: str) -> None:
        """Let branch `name` give the boxes, for heads that have several (as `OneToOneDetect`). Raises `UserError`."""
        branches = self.head.branch_names
        if name not in branches:
            has = (
                f"one of {', '.join(branches)}{did_you_mean(name, branches)}"
                if branches
                else "this head has no branches"
            )
            raise UserError(f"branch '{name}': {'expected ' if branches else ''}{has} ({type(self.head).__name__})")
        self.head.branch = name

    def criterion(self, hyperparameters, image_size: int = 640):
        """The head's loss for this training size: called with raw maps and targets (M, 6)."""
        return self.head.criterion(hyperparameters, image_size)

    def fuse(self) -> "DetectionModel":
        """Merge batch norms into the convolutions before them, in place and in eval mode; returns the model."""
        self.eval()
        for layer in self.model:
            fuse_modules(layer)
        return self


def flat_maps(maps) -> list:
    """What a head reads: the maps of rows that give one each and of rows that give a list."""
    return [m for item in maps for m in (item if isinstance(item, (list, tuple)) else [item])]


def fuse_modules(layer: nn.Module) -> None:
    """Fuse each part of `layer`: by its own `fuse()`, else a Sequential's convolutions with the batch norms after them."""
    for module in list(layer.modules()):
        if callable(getattr(module, "fuse", None)):
            module.fuse()
        elif isinstance(module, nn.Sequential):
            fuse_sequential(module)


def _build_layers(spec: ModelSpec, channels: int):
    layers, shapes, recipes = [], [], []
    for row in spec.rows:
        at = f"{spec.where}, {row}"
        try:
            block, options, is_head = find_block(row.word)
            options = options_for_model(options, spec)
        except UserError as error:
            raise UserError(f"{at}: {error}") from None
        last = row.index == len(spec.rows) - 1
        if is_head != last:
            wrong = (
                f"a head ({row.word}) must be the last row"
                if is_head
                else f"the last row must be a head ({', '.join(HEADS)})"
            )
            raise UserError(f"{at} {row.word}: {wrong}")
        try:
            inputs = gather_shapes(row, shapes, (channels, PROBE_SIZE, PROBE_SIZE), options, is_head)
            build = build_head if is_head else build_row
            layer, recipe, shape = build(spec, row, block, options, inputs)
        except UserError as error:
            raise UserError(f"{at} {row.word}: {error}") from None
        layers.append(layer)
        shapes.append(shape)
        recipes.append(recipe)
    return layers, shapes, recipes


def _head_strides(model: DetectionModel) -> list[float]:
    """Pixels a cell of each level. Sizes round up on the way down, so a stride that is no power of two is measured
    again on larger pictures, and taken for the whole number that it comes near."""
    size, shapes = PROBE_SIZE, model.shapes[-1]
    strides = [size / shape[1] for shape in shapes]
    while any(not math.log2(s).is_integer() for s in strides) and size < 8 * PROBE_SIZE:
        size *= 2
        try:
            shapes = trace_shapes(model, (size, size))[-1]
        except RuntimeError as error:
            told = f"the rows fit on pictures of {PROBE_SIZE} pixels, but not of {size} ({first_line(error)})"
            raise UserError(f"{model.spec.where}: {told}; strides should be powers of two") from None
        strides = [size / shape[1] for shape in shapes]
    return [round(s) if abs(s - round(s)) < 0.01 * s else s for s in strides]


def trace_shapes(model: DetectionModel, size: tuple[int, int]) -> list:
    """The output shape of each row for pictures of `size` (height, width); the head's entry is what it reads."""
    shapes = []
    for row, layer in zip(model.spec.rows, model.model, strict=True):
        is_head = layer is model.head
        inputs = gather_shapes(row, shapes, (model.channels, *size), BlockOptions(takes_lists=True), is_head)
        shapes.append(inputs if is_head else output_shapes(layer, inputs))
    return shapes
