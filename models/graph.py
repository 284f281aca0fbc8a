"""ModelSpec -> DetectionModel: build row by row, run, fuse."""

import contextlib
import math
from pathlib import Path

import torch
from torch import nn

from utils.errors import UserError, did_you_mean

from .activations import default_activation
from .blocks import BLOCKS
from .blocks.base import fuse_sequential
from .heads import HEADS
from .plugins import find_in_packages
from .probe import PROBE_SIZE, output_shapes
from .rules import Recipe, make_head_recipe, make_recipe, scale_depth
from .spec import IMAGE, ModelSpec, Row


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

    In train mode it returns raw maps, a list with one (B, A, H, W, 5 + nc) a level for `Detect`; in eval mode decoded
    boxes (B, N, 4) xyxy in pixels of the input and scores (B, N, nc). Weight names are `model.<row>.<...>`.
    """

    def __init__(self, spec: ModelSpec, ch: int | None = None):
        super().__init__()
        if spec.nc is None:
            raise UserError(f"{spec.where}: 'nc', the number of classes, is missing")
        self.spec = spec
        self.nc = spec.nc
        self.names = list(spec.names or map(str, range(spec.nc)))
        self.channels = ch or spec.channels
        with default_activation(spec.activation):
            layers, self.shapes, self.recipes = _build_layers(spec, self.channels)
        self.model = nn.Sequential(*layers)
        read_later = {s for row in spec.rows for s in row.sources}
        self._plan = [(row.sources, row.joined, row.index in read_later) for row in spec.rows]
        self.head.set_strides(_head_strides(self))
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eps, module.momentum = 1e-3, 0.03  # the published recipe

    @property
    def head(self) -> nn.Module:
        """The last row."""
        return self.model[-1]

    @property
    def stride(self) -> torch.Tensor:
        """Pixels a cell, (levels,)."""
        return torch.tensor(self.head.strides)

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
        outputs = []
        for (sources, joined, keep), layer in zip(self._plan, self.model, strict=True):
            maps = [images if s == IMAGE else outputs[s] for s in sources]
            if layer is self.head:
                maps = [m for item in maps for m in (item if isinstance(item, (list, tuple)) else [item])]
                return layer(maps)
            result = layer(maps if joined else maps[0])
            outputs.append(result if keep else None)

    def criterion(self, hyperparameters, image_size: int = 640):
        """The head's loss for this training size: called with raw maps and targets (M, 6)."""
        return self.head.criterion(hyperparameters, image_size)

    def round_size(self, size: int) -> int:
        """The picture size nearest above `size` that the coarsest stride divides, said where it differs."""
        stride = int(max(self.head.strides))
        rounded = max(math.ceil(size / stride), 2) * stride
        if rounded != size:
            print(f"--img {size} is not a multiple of the stride {stride}: {rounded} is used")
        return rounded

    def fuse(self) -> "DetectionModel":
        """Merge batch norms into the convolutions before them, in place and in eval mode; returns the model."""
        self.eval()
        for layer in self.model:
            fuse_modules(layer)
        return self


def fuse_modules(layer: nn.Module) -> None:
    """Fuse each part of `layer`: by its own `fuse()`, else a Sequential's convolutions with the batch norms after them."""
    for module in list(layer.modules()):
        if callable(getattr(module, "fuse", None)):
            module.fuse()
        elif isinstance(module, nn.Sequential):
            fuse_sequential(module)


def find_block(word: str) -> tuple[type, dict, bool]:
    """The class behind a YAML word, its registration's options and whether it is a head. Raises `UserError`."""
    if word in HEADS:
        return HEADS[word], HEADS.options(word), True
    if word in BLOCKS:
        return BLOCKS[word], BLOCKS.options(word), False
    short = word.removeprefix("torch.").removeprefix("nn.")
    if word != short:
        layer = getattr(nn, short, None)
        if isinstance(layer, type) and issubclass(layer, nn.Module):
            return layer, {}, False
        raise UserError(f"torch.nn has no layer '{short}'")
    try:
        return BLOCKS[word], {}, False
    except UserError:
        raise UserError(_unknown_word(word)) from None


def _settle(options: dict, spec: ModelSpec) -> dict:
    """A registration's options with `defaults` of arguments, where another word of the model sets them (`beside`)."""
    words = {row.word for row in spec.rows}
    defaults = {name: value for word, values in options.get("beside", {}).items() if word in words for name, value in values.items()}
    return {**options, "defaults": defaults} if defaults else options


def _unknown_word(word: str) -> str:
    from utils.errors import did_you_mean

    hint = did_you_mean(word, [*BLOCKS, *HEADS])
    return f"unknown block '{word}'{hint or '; a block of your own is brought by --plugins FILE.py'}"


def _build_layers(spec: ModelSpec, channels: int):
    layers, shapes, recipes = [], [], []
    for row in spec.rows:
        at = f"{spec.where}, {row}"
        try:
            block, options, is_head = find_block(row.word)
            options = _settle(options, spec)
        except UserError as error:
            raise UserError(f"{at}: {error}") from None
        last = row.index == len(spec.rows) - 1
        if is_head != last:
            wrong = f"a head ({row.word}) must be the last row" if is_head else f"the last row must be a head ({', '.join(HEADS)})"
            raise UserError(f"{at} {row.word}: {wrong}")
        try:
            inputs = _gather(row, shapes, (channels, PROBE_SIZE, PROBE_SIZE), options, is_head)
            build = _build_head if is_head else _build_row
            layer, recipe, shape = build(spec, row, block, options, inputs, shapes)
        except UserError as error:
            raise UserError(f"{at} {row.word}: {error}") from None
        layers.append(layer)
        shapes.append(shape)
        recipes.append(recipe)
    return layers, shapes, recipes


def _gather(row: Row, shapes, image, options, is_head):
    """The shapes that a row reads: a list where it joins, else one. Lists of maps are for heads and Index alone."""
    inputs = []
    for source in row.sources:
        shape = image if source == IMAGE else shapes[source]
        if not isinstance(shape, list):
            inputs.append(shape)
        elif is_head:
            inputs.extend(shape)
        elif options.get("takes_lists") and not row.joined:
            return shape
        else:
            raise UserError(f"row {source} gives {len(shape)} maps; pick one with a row [{source}, 1, Index, [0]]")
    return inputs if row.joined or is_head else inputs[0]


def _build_row(spec, row, block, options, inputs, shapes):
    widths = [s[0] for s in inputs] if isinstance(inputs, list) else inputs[0]
    number = scale_depth(row.number, spec.depth_multiple)
    kwargs = {key: spec.resolve(value) for key, value in row.kwargs.items()}
    recipe = make_recipe(block, options, spec.resolve(row.args), kwargs, widths, number, spec.width_multiple)
    if recipe.repeats > 1 and recipe.width is None and recipe.width_in in recipe.repeat_kwargs:
        _set_repeat_width(recipe, block, inputs)
    layer = _construct(recipe, block)
    try:
        shape = output_shapes(layer, inputs)
    except UserError:
        raise
    except Exception as error:  # whatever a block raises on these inputs is the author's mistake in this row
        raise UserError(_explain(row, inputs, shapes, error)) from error
    if recipe.width is not None and not isinstance(shape, list) and shape[0] != recipe.width:
        raise UserError(f"declares {recipe.width} channels out, but gives {shape[0]}")
    return layer, recipe, shape


def _set_repeat_width(recipe: Recipe, block: type, inputs) -> None:
    """Let the second and later blocks of a stack take the width that the first one really gives."""
    with contextlib.suppress(Exception):  # what is wrong with the first block is told when the row is built
        shape = output_shapes(block(*recipe.args, **recipe.kwargs), inputs)
        if not isinstance(shape, list):
            recipe.repeat_kwargs[recipe.width_in] = shape[0]


def _construct(recipe: Recipe, block: type) -> nn.Module:
    try:
        blocks = [block(*recipe.args, **recipe.kwargs)]
        blocks += [block(*recipe.repeat_args, **recipe.repeat_kwargs) for _ in range(recipe.repeats - 1)]
    except UserError:
        raise
    except Exception as error:  # torch's own checks of widths, groups and types
        given = ", ".join(f"{k}={v}" for k, v in recipe.kwargs.items()) or ", ".join(map(str, recipe.args))
        raise UserError(f"cannot be built with {given}: {_first_line(error)}") from error
    return blocks[0] if len(blocks) == 1 else nn.Sequential(*blocks)


def _build_head(spec, row, block, options, inputs, shapes):
    kwargs = {key: spec.resolve(value) for key, value in row.kwargs.items()}
    recipe = make_head_recipe(block, spec.resolve(row.args), kwargs, [shape[0] for shape in inputs])
    return _construct(recipe, block), recipe, inputs


def _explain(row: Row, inputs, shapes, error) -> str:
    """Why a row cannot run on what it reads, in sizes where those differ."""
    if not row.joined:
        c, h, w = inputs if not isinstance(inputs, list) else inputs[0]
        return f"cannot run on {c} channels of {w}x{h} from row {row.sources[0]}: {_first_line(error)}"

    def tell(source, shape, what):
        return f"row {source} gives {what(shape)}" if source != IMAGE else f"the picture has {what(shape)}"

    for what, name in ((lambda s: f"{s[2]}x{s[1]}", "size"), (lambda s: f"{s[0]} channels", "width")):
        for source, shape in zip(row.sources[1:], inputs[1:], strict=True):
            if what(shape) != what(inputs[0]):
                first, other = tell(row.sources[0], inputs[0], what), tell(source, shape, what)
                return f"inputs differ in {name}, {first} and {other} at {PROBE_SIZE}x{PROBE_SIZE}"
    return f"cannot join rows {list(row.sources)}: {_first_line(error)}"


def _first_line(error) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _head_strides(model: DetectionModel) -> list[float]:
    """Pixels a cell of each level. Sizes round up on the way down, so a stride that is no power of two is measured
    again on larger pictures."""
    size, shapes = PROBE_SIZE, model.shapes[-1]
    strides = [size / shape[1] for shape in shapes]
    while any(not math.log2(s).is_integer() for s in strides) and size < 8 * PROBE_SIZE:
        size *= 2
        shapes = trace_shapes(model, (size, size))[-1]
        strides = [size / shape[1] for shape in shapes]
    return strides


def trace_shapes(model: DetectionModel, size: tuple[int, int]) -> list:
    """The output shape of each row for pictures of `size` (height, width); the head's entry is what it reads."""
    shapes = []
    for row, layer in zip(model.spec.rows, model.model, strict=True):
        is_head = layer is model.head
        inputs = _gather(row, shapes, (model.channels, *size), {"takes_lists": True}, is_head)
        shapes.append(inputs if is_head else output_shapes(layer, inputs))
    return shapes
