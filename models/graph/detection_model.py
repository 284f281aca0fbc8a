"""ModelSpec -> DetectionModel: build row by row, run, fuse."""

import logging
import math
from pathlib import Path
from typing import Any

import torch
from torch import distributed, nn

from graftdet.models.blocks.activations import default_activation, parse_default
from graftdet.models.blocks.conv import fuse_sequential
from graftdet.models.blocks.registration import BlockOptions
from graftdet.models.graph.errors import (
    ignored_key_problems,
    renamed_argument_problem,
    row_problem,
    written_argument_problems,
)
from graftdet.models.graph.row_builder import auxiliary_rows, find_and_build, gather_shapes, renamed_arguments
from graftdet.models.graph.row_checks import failure
from graftdet.models.graph.shape_inference import PROBE_SIZE, output_shapes
from graftdet.models.graph.size_limit import LimitedWeights, check_map
from graftdet.models.heads import HEADS
from graftdet.models.heads.base import Head, HeadOptions
from graftdet.models.spec.model_spec import ModelSpec
from graftdet.models.spec.problems import Problem, ProblemError
from graftdet.models.spec.row import IMAGE
from graftdet.utils.errors import UserError, did_you_mean, first_line

logger = logging.getLogger(__name__)


def build_model(cfg: str | Path | dict | ModelSpec, nc: int | None = None, ch: int | None = None) -> "DetectionModel":
    """Build the model of a YAML.

    Args:
        cfg: a path, a bare name below configs/models, a mapping or a ModelSpec.
        nc: number of classes; None takes the YAML's.
        ch: channels of the image; None takes the YAML's, else 3.

    Returns:
        The model, with new weights.

    Raises:
        ProblemError: a problem of the file, with its row, its position and the fix.
        UserError: the file cannot be read.
    """
    model = DetectionModel(ModelSpec.read(cfg).with_classes(nc), ch)
    head_row = model.spec.rows[-1]
    renamed = renamed_arguments(head_row, HEADS.options(head_row.module))
    problems = ignored_key_problems(model.spec)
    problems += [renamed_argument_problem(model.spec, head_row, old, new) for old, new in renamed.items()]
    for row, call in zip(model.spec.rows, model.block_calls, strict=True):
        problems += written_argument_problems(model.spec, row, call)
    for problem in problems:
        logger.warning(": ".join(filter(None, (problem.position_text, problem.row_text, problem.text))))
    return model


class DetectionModel(nn.Module):
    """The graph of a model YAML.

    In train mode it returns raw maps, a list of one (B, A, H, W, 5 + nc) per level for `Detect`, or whatever else the
    head's criterion takes; in eval mode decoded boxes (B, N, 4) xyxy in pixels of the input and scores (B, N, nc).
    Weight names are `model.<row>.<...>`.
    """

    def __init__(self, spec: ModelSpec, ch: int | None = None):
        super().__init__()
        if spec.nc is None:
            raise ProblemError(spec.problem("missing-classes", "'nc', the number of classes, is missing"))
        self.spec = spec
        self.nc = spec.nc
        self.names = list(spec.names or map(str, range(spec.nc)))
        self.channels = ch or spec.channels
        problem = activation_problem(spec)
        if problem:
            raise ProblemError(problem)
        with default_activation(spec.activation):
            layers, self.shapes, self.block_calls = _build_layers(spec, self.channels)
        self.model = nn.Sequential(*layers)
        last_read = {row.index: row.index for row in spec.rows} | {
            s: row.index for row in spec.rows for s in row.sources
        }
        done = [[s for s, reader in last_read.items() if reader == row.index and s != IMAGE] for row in spec.rows]
        self._auxiliary_rows = auxiliary_rows(spec, self.head, self.shapes)
        self._plan = [(row.sources, row.joined, done[row.index]) for row in spec.rows]
        self.head.set_strides(level_strides(self))
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.block_eps = module.eps  # type: ignore[assignment]  # with which weights of the block alone are published
                module.eps, module.momentum = 1e-3, 0.03  # the published call

    @property
    def head(self) -> Head:
        """The last row."""
        return self.model[-1]  # type: ignore[return-value]

    @property
    def needs_nms(self) -> bool:
        """Whether several boxes per object are to be expected."""
        return self.head.needs_nms

    @property
    def stride(self) -> torch.Tensor:
        """Pixels per cell, (levels,)."""
        return torch.tensor(self.head.strides)

    @property
    def size_multiple(self) -> int:
        """What the sides of an image must be multiples of: pixels per cell of the coarsest map of any row.

        More than the head's largest stride where the head reads only finer maps, as in yolov5-p34.
        """
        shapes = [map_shape for shape in self.shapes for map_shape in (shape if isinstance(shape, list) else [shape])]
        cells = [PROBE_SIZE // height for _, height, _ in shapes if height > 1 and PROBE_SIZE % height == 0]
        return int(max([*cells, *self.head.strides]))

    @property
    def trial_shape(self) -> tuple[int, int, int]:
        """A small shape (C, H, W) of images on which no row reads a map of a single cell."""
        return self.channels, 2 * self.size_multiple, 2 * self.size_multiple

    @property
    def yaml_text(self) -> str:
        """The YAML text that the model was built from (its nc may differ from the model's)."""
        return self.spec.text

    def forward(self, images: torch.Tensor) -> Any:
        """Images (B, C, H, W) in 0..1 to raw maps (train mode) or decoded boxes and scores (eval mode)."""
        raw = self.raw_outputs(images)
        return raw if self.training else self.head.decode(raw)

    def raw_outputs(self, images: torch.Tensor) -> Any:
        """Images (B, C, H, W) in 0..1 to raw maps, in either mode."""
        return self.head(self.head_inputs(images))

    def head_inputs(self, images: torch.Tensor, observed: dict[int, Any] | None = None) -> list[torch.Tensor]:
        """Images (B, C, H, W) in 0..1 to the maps (B, c, H, W) that the head reads; in eval mode no auxiliary ones.

        Args:
            images: the images.
            observed: its keys are rows; each value becomes what the row reads, a map or a list of maps.
        """
        outputs: list = []
        for (sources, joined, done), layer in zip(self._plan, self.model, strict=True):
            if not self.head.training and len(outputs) in self._auxiliary_rows:
                outputs.append(None)
                continue
            maps = [images if s == IMAGE else outputs[s] for s in sources]
            if layer is self.head:
                return [level for level in flat_maps(maps) if level is not None]
            if observed and len(outputs) in observed:
                observed[len(outputs)] = maps if joined else maps[0]
            outputs.append(self._run_row(layer, maps if joined else maps[0]))
            del maps
            for index in done:  # no later row reads them: their memory is free for the next rows
                outputs[index] = None
        raise AssertionError("the last row is the head")

    def _run_row(self, layer: nn.Module, maps: Any) -> Any:
        """The output of a row; what it raises names the row."""
        if torch.compiler.is_compiling():
            return layer(maps)
        try:
            return layer(maps)
        except (UserError, torch.OutOfMemoryError):
            raise
        except Exception as error:  # whatever a block raises
            if distributed.is_available() and distributed.is_initialized():  # perhaps another process has ended
                raise
            raise self.block_error(layer, maps, error) from error

    def block_error(self, layer: nn.Module, maps: Any, error: Exception) -> ProblemError:
        """The error of a row that fails while the model runs.

        Args:
            layer, maps: the row, one of `model`, and what it read.
            error: what it raised, in its forward or backward pass.

        Returns:
            The error with file, row, shapes of the input, and the line of a plugin that raised it.
        """
        row = next(row for row, candidate in zip(self.spec.rows, self.model, strict=True) if candidate is layer)
        return ProblemError(row_problem(self.spec, row, failure(layer, maps, error)))

    def use_branch(self, name: str) -> None:
        """Let a branch give the boxes, for heads that have several (such as `OneToOneDetect`).

        Args:
            name: of the branch.

        Raises:
            UserError: the head has no such branch.
        """
        branches = self.head.branch_names
        if name not in branches:
            known = f"expected one of {', '.join(branches)}{did_you_mean(name, branches)}"
            reason = known if branches else "this head has no branches"
            raise UserError(f"branch '{name}': {reason} ({type(self.head).__name__})")
        self.head.branch = name

    def criterion(self, hyperparameters: Any, image_size: int = 640) -> Any:
        """The head's loss for this training size: called with raw maps and targets (M, 6)."""
        return self.head.criterion(hyperparameters, image_size)

    def fuse(self) -> "DetectionModel":
        """Merge batch norms into the convolutions before them, in place and in eval mode; returns the model."""
        self.eval()
        for layer in self.model:
            fuse_modules(layer)
        return self


def flat_maps(maps: list) -> list[torch.Tensor]:
    """The maps that a head reads, from rows that give one each and rows that give a list."""
    return [m for item in maps for m in (item if isinstance(item, (list, tuple)) else [item])]


def fuse_modules(layer: nn.Module) -> None:
    """Fuse each part of `layer`: by its own `fuse()`, else a Sequential's convolutions with their batch norms."""
    for module in list(layer.modules()):
        if callable(getattr(module, "fuse", None)):
            module.fuse()  # type: ignore[operator]
        elif isinstance(module, nn.Sequential):
            fuse_sequential(module)


def _build_layers(spec: ModelSpec, channels: int):
    layers, shapes, block_calls = [], [], []
    for row in spec.rows:
        try:
            with LimitedWeights(layers):
                layer, call, _, shape = find_and_build(spec, row, shapes, (channels, PROBE_SIZE, PROBE_SIZE))
                check_map(shape)
        except UserError as error:
            raise ProblemError(row_problem(spec, row, error)) from None
        layers.append(layer)
        shapes.append(shape)
        block_calls.append(call)
    return layers, shapes, block_calls


def activation_problem(spec: ModelSpec) -> Problem | None:
    """What is wrong with the default activation of a model; None where nothing is."""
    try:
        if spec.activation is not None:
            parse_default(spec.activation)
    except UserError as error:
        return spec.problem("invalid-activation", f"activation: {error}", path=("activation",))
    return None


def level_strides(model: DetectionModel) -> list[float]:
    """Pixels per cell of each level that the head reads.

    Sizes are rounded up on the way down, so strides that are not powers of two are computed again on larger images, and
    rounded where they are close to a whole number.

    Raises:
        ProblemError: the rows do not fit at the larger size.
    """
    size, shapes = PROBE_SIZE, model.shapes[-1]
    strides = [size / shape[1] for shape in shapes]
    while any(not math.log2(s).is_integer() for s in strides) and size < 8 * PROBE_SIZE:
        size *= 2
        try:
            shapes = trace_shapes(model, (size, size))[-1]
        except RuntimeError as error:
            message = (
                f"the rows fit at {PROBE_SIZE}x{PROBE_SIZE} pixels, but not at {size}x{size} ({first_line(error)})"
            )
            problem = model.spec.problem(
                "strides", message, "strides should be powers of two", path=model.spec.rows[-1].path
            )
            raise ProblemError(problem) from None
        strides = [size / shape[1] for shape in shapes]
    return [round(s) if abs(s - round(s)) < 0.01 * s else s for s in strides]


def trace_shapes(model: DetectionModel, size: tuple[int, int]) -> list:
    """Find the output shape of each row at another image size.

    Args:
        model: the model.
        size: (height, width) of the images.

    Returns:
        One shape (c, h, w) per row, or a list of them for a whole backbone; for the head, the shapes that it reads.
    """
    shapes = []
    for row, layer in zip(model.spec.rows, model.model, strict=True):
        is_head = layer is model.head
        options = HeadOptions() if is_head else BlockOptions(takes_lists=True, joins_lists=True)  # as it was built
        inputs = gather_shapes(row, shapes, (model.channels, *size), options)
        shapes.append(inputs if is_head else output_shapes(layer, inputs))
    return shapes
