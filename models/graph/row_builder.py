"""One row of a model YAML: the block behind its word, what it reads, built and probed; mistakes told with their fix."""

import contextlib
import functools
import logging
import math
from dataclasses import replace

from graftdet.models.blocks import BLOCKS
from graftdet.models.blocks.registration import PLAIN, BlockOptions
from graftdet.models.graph.arguments import Recipe, make_head_recipe, make_recipe, scale_depth, ways_to_join
from graftdet.models.graph.plugins import find_in_packages, refuse_disputed
from graftdet.models.graph.shape_inference import PROBE_SIZE, output_shapes
from graftdet.models.graph.signatures import read_signature
from graftdet.models.heads import HEADS
from graftdet.models.heads.base import HeadOptions
from graftdet.models.spec.model_spec import ModelSpec
from graftdet.models.spec.row import IMAGE, MOST_REPEATS, Row
from graftdet.utils.errors import UserError, did_you_mean, first_line
from torch import nn
from torch.nn.modules.conv import _ConvNd as _Convolution
from torch.nn.modules.conv import _ConvTransposeNd as _Transposed


logger = logging.getLogger(__name__)


class RunError(UserError):
    """A row that is built but cannot run on what it reads: the cause may lie in a row before it."""


def find_block(word: str) -> tuple[type, BlockOptions | HeadOptions, bool]:
    """The class behind a YAML word, its registration's options and whether it is a head. Raises `UserError`."""
    refuse_disputed(word)
    if word in HEADS:
        return HEADS[word], HEADS.options(word), True
    if word in BLOCKS:
        return BLOCKS[word], BLOCKS.options(word), False
    short = word.removeprefix("torch.").removeprefix("nn.")
    if word != short:
        layer = getattr(nn, short, None)
        if isinstance(layer, type) and issubclass(layer, nn.Module):
            return layer, BlockOptions(), False
        near = (
            did_you_mean(short, torch_layers()).replace("mean '", "mean 'nn.")
            or "; a block of your own is brought by --plugins FILE.py"
        )
        raise UserError(f"torch.nn has no layer '{short}'{near}")
    plugin = find_in_packages(word)
    if plugin is not None:
        return plugin, BlockOptions(), False
    raise UserError(_unknown_word(word))


def torch_layers() -> list[str]:
    """Names of the layers of torch.nn."""
    return [name for name, entry in vars(nn).items() if isinstance(entry, type) and issubclass(entry, nn.Module)]


def _unknown_word(word: str) -> str:
    hint = f"; did you mean 'nn.{word}'?" if word in torch_layers() else did_you_mean(word, [*BLOCKS, *HEADS])
    if "." in word and word.rsplit(".", 1)[1] in BLOCKS:
        hint = f"; did you mean '{word.rsplit('.', 1)[1]}'?"
    elif "." in word:
        hint = f"; a block of an installed package is allowed by --plugins {word.rsplit('.', 1)[0]}"
    return f"unknown block '{word}'{hint or '; a block of your own is brought by --plugins FILE.py'}"


def options_for_model(options: BlockOptions | HeadOptions, spec: ModelSpec) -> BlockOptions | HeadOptions:
    """A block's options with the defaults that apply in this model; those of a head are returned as they are."""
    if not isinstance(options, BlockOptions):
        return options
    return options.for_model({row.word for row in spec.rows}, spec.size)


def gather_shapes(row: Row, shapes, image, options, is_head):
    """The shapes that a row reads: a list where it joins, else one. Lists of maps are for heads and Index alone."""
    inputs = []
    for source in row.sources:
        shape = image if source == IMAGE else shapes[source]
        if not isinstance(shape, list):
            inputs.append(shape)
        elif is_head:
            inputs.extend(shape)
        elif options.takes_lists and not row.joined:
            return shape
        else:
            raise UserError(f"row {source} gives {len(shape)} maps; pick one with a row [{source}, 1, Index, [0]]")
    return inputs if row.joined or is_head else inputs[0]


def build_row(spec: ModelSpec, row: Row, block, options: dict, inputs):
    """Build and probe one row: its layer, `Recipe` and output shape (c, h, w), or a list of shapes. Raises `UserError`."""
    try:
        return _build_and_probe(spec, row, block, options, inputs)
    except UserError as error:
        if row.joined and isinstance(error.__cause__, (TypeError, AttributeError)) and "list" in str(error.__cause__):
            alone = replace(row, joined=False, sources=row.sources[:1])
            with contextlib.suppress(UserError):
                _build_and_probe(spec, alone, block, options, inputs[0])
                one = row.written[0][0] if len(row.sources) == 1 else None
                fix = f"write {one}" if one is not None else f"join them first: [{row.written[0]}, 1, Concat, [1]]"
                error = UserError(f"reads one map, but 'from' is a list; {fix}")
        raise error from None


def _build_and_probe(spec: ModelSpec, row: Row, block, options: dict, inputs):
    problems = []
    for widths in ways_to_join([s[0] for s in inputs]) if isinstance(inputs, list) else [inputs[0]]:
        layer = None
        try:
            layer, recipe = _make_layer(spec, row, block, options, inputs, widths)
            return layer, recipe, _probe(spec, row, layer, recipe, inputs)
        except UserError as error:
            problems.append((layer is None, len(problems), error))
    raise min(problems)[2]  # the first one of a block that could be built: why it cannot run says more


def _make_layer(spec: ModelSpec, row: Row, block, options: dict, inputs, widths):
    number = scale_depth(row.number, spec.depth_multiple)
    if number > MOST_REPEATS:
        raise UserError(
            f"its number {row.number} x the depth multiple {spec.depth_multiple:g} is {number}, expected at most {MOST_REPEATS}"
        )
    kwargs = {key: spec.resolve(value) for key, value in row.kwargs.items()}
    recipe = make_recipe(block, options, spec.resolve(row.args), kwargs, widths, number, spec.scale_width)
    layer = _construct(recipe, block, inputs)
    _check_weights(layer, widths)
    _check_convolutions(layer, recipe.repeats)
    return layer, recipe


def _probe(spec: ModelSpec, row: Row, layer: nn.Module, recipe: Recipe, inputs):
    try:
        shape = output_shapes(layer, inputs)
    except UserError:
        raise
    except Exception as error:  # whatever a block raises on these inputs is the author's mistake in this row
        if isinstance(inputs, list) and recipe.repeats > 1 and _runs(layer[0], inputs):
            raise UserError(f"joins maps; its number must be 1, got {row.number}") from error
        raise RunError(_explain(spec, row, inputs, error)) from error
    if recipe.width is not None and not isinstance(shape, list) and shape[0] != recipe.width:
        raise UserError(f"declares {recipe.width} channels out, but gives {shape[0]}")
    return shape


def _runs(layer: nn.Module, inputs) -> bool:
    try:
        return bool(output_shapes(layer, inputs))
    except Exception:  # as above
        return False


def _follow_width(recipe: Recipe, last: nn.Module, inputs):
    """Let the next block of a stack take the width that the last one really gives for `inputs`; returns that shape."""
    shape = inputs
    with contextlib.suppress(Exception):  # what is wrong with a block is told when the row is probed
        shape = output_shapes(last, inputs)
    if isinstance(shape, tuple):
        recipe.repeat_kwargs[recipe.width_in] = shape[0]
    elif shape is not inputs:
        raise UserError(f"gives {len(shape)} maps; its number must be 1, got {recipe.repeats}")
    return shape


def _construct(recipe: Recipe, block: type, inputs=None) -> nn.Module:
    """The row's block, or a stack of them, whose widths follow the real ones where no output width is declared."""
    follows = recipe.width is None and recipe.width_in in recipe.repeat_kwargs
    try:
        blocks = [block(*recipe.args, **recipe.kwargs)]
        for _ in range(recipe.repeats - 1):
            if follows:
                inputs = _follow_width(recipe, blocks[-1], inputs)
            blocks.append(block(*recipe.repeat_args, **recipe.repeat_kwargs))
    except UserError:
        raise
    except Exception as error:  # torch's own checks of widths, groups and types
        given = ", ".join(f"{k}={v}" for k, v in recipe.kwargs.items()) or ", ".join(map(str, recipe.args))
        raise UserError(f"cannot be built with {given}: {first_line(error)}{_divisor_hint(recipe, error)}") from error
    return blocks[0] if len(blocks) == 1 else nn.Sequential(*blocks)


def _check_weights(layer: nn.Module, widths) -> None:
    for name, weight in layer.named_parameters():
        if not isinstance(weight, nn.UninitializedParameter) and weight.numel() == 0:
            shape = "x".join(map(str, weight.shape))
            raise UserError(
                f"leaves no channels inside: weight '{name}' is {shape}; the width in is {widths}, is a ratio larger?"
            )


def _check_convolutions(layer: nn.Module, repeats: int) -> None:
    """Raise `UserError` for what torch takes of a batch without pictures, and refuses or gets wrong with one."""
    if repeats > 1 and isinstance(layer[0], _Transposed) and layer[0].stride != layer[1].stride:
        raise UserError(f"is a transposed convolution that strides: its number must be 1, got {repeats}")
    for name, conv in layer.named_modules():
        if not isinstance(conv, _Convolution):
            continue
        where = f" of '{name}'" if name else ""
        values = (conv.padding, conv.dilation, conv.output_padding, conv.stride)
        padding, dilation, more, stride = ([side for side in sides if isinstance(side, int)] for sides in values)
        if min(padding, default=0) < 0:
            raise UserError(f"the padding{where} must be at least 0, got {min(padding)}")
        if min(dilation, default=1) < 1:
            raise UserError(f"the dilation{where} must be at least 1, got {min(dilation)}")
        limits = map(max, stride, dilation)  # one of them where a row has a list of one, which torch takes
        if any(not 0 <= side < limit for side, limit in zip(more, limits, strict=False)):
            raise UserError(
                f"the output padding{where} must be at least 0 and below the stride {max(stride)}, got {max(more)}"
            )


def _divisor_hint(recipe: Recipe, error) -> str:
    """For widths that a number of groups does not divide: the numbers near it that do. Nothing where it divides both:
    then a part of them is meant, which the block alone knows."""
    groups = next((recipe.kwargs[key] for key in ("groups", "g", "num_groups", "group") if key in recipe.kwargs), None)
    if (
        "divisible by" not in str(error)
        or "groups" not in str(error)
        or isinstance(groups, bool)
        or not isinstance(groups, int)
    ):
        return ""
    widths = [recipe.kwargs.get(recipe.width_in), recipe.width]
    common = math.gcd(*(w for w in widths if isinstance(w, int)))
    if groups < 1 or common % groups == 0:
        return ""
    divisors = sorted((d for d in range(1, common + 1) if common % d == 0), key=lambda d: abs(d - groups))
    return f"; groups that divide the widths, nearest first: {', '.join(map(str, divisors[:3]))}" if divisors else ""


def build_head(spec: ModelSpec, row: Row, block, options: HeadOptions, inputs):
    """The same for a head; its shape is what it reads."""
    row = replace(row, kwargs=_current_names(spec, row, options.argument_aliases))
    kwargs = {key: spec.resolve(value) for key, value in row.kwargs.items()}
    if row.number != 1:
        raise UserError(f"a head stands once; its number must be 1, got {row.number}")
    if options.without_anchors and not row.args[1:] and set(row.kwargs) <= {"nc"}:
        if spec.anchors is not None:
            raise UserError("has no anchors in its args, but the file has some; write [nc, anchors]")
        block = HEADS[options.without_anchors]
    _refuse_anchors(block, row)
    recipe = make_head_recipe(block, spec.resolve(row.args), kwargs, [shape[0] for shape in inputs])
    layer = _construct(recipe, block)
    if layer.nc != spec.nc:
        raise UserError(f"is written for {layer.nc} classes, but nc is {spec.nc}; write nc in its args")
    return layer, recipe, inputs


def _current_names(spec: ModelSpec, row: Row, aliases: dict[str, str]) -> dict:
    """The row's keyword arguments, older names replaced by the present ones."""
    for name in row.kwargs:
        if name in aliases:
            if aliases[name] in row.kwargs:
                raise UserError(f"'{name}' is the older name of '{aliases[name]}', which is given, too; remove one")
            _warn_of_alias(f"{spec.where}, {row} {row.word}", name, aliases[name])
    return {aliases.get(name, name): value for name, value in row.kwargs.items()}


@functools.cache
def _warn_of_alias(location: str, old: str, new: str) -> None:
    """Warn once of an argument's older name: a row is built many times."""
    logger.warning(f"{location}: argument '{old}' is now named '{new}'")


def _refuse_anchors(head, row: Row) -> None:
    """Raise `UserError` for the word `anchors` in the place of a number: a YAML may give them as a number a level, which
    would be taken for whatever the head reads there."""
    named = read_signature(head, PLAIN).named
    told = dict(zip((name for name in named if name != "ch"), row.args, strict=False)) | row.kwargs
    numbers = [
        name
        for name, value in told.items()
        if value == "anchors" and name in named and isinstance(named[name].default, int)
    ]
    if numbers and "anchors" not in named:
        raise UserError("takes no anchors: write [nc] for its args")


def _explain(spec: ModelSpec, row: Row, inputs, error) -> str:
    """Why a row cannot run on what it reads, in sizes where those differ."""
    if not row.joined:
        c, h, w = inputs if not isinstance(inputs, list) else inputs[0]
        several = "; it joins maps: give 'from' as a list" if "must be tuple of Tensors" in str(error) else ""
        why = first_line(error)
        if "is invalid for input of size" in why:  # torch's words for a view into parts
            why = "its width or its sides do not divide by what the row says"
        elif "invalid combination of arguments" in why:
            why = "an argument is missing or of another kind than the layer takes"
        return f"cannot run on {c} channels of {w}x{h} from {_name_of(spec, row.sources[0])}: {why}{several}"

    def tell(source, shape, what):
        return f"{_name_of(spec, source)} {'has' if source == IMAGE else 'gives'} {what(shape)}"

    for what, name in ((lambda s: f"{s[2]}x{s[1]}", "size"), (lambda s: f"{s[0]} channels", "width")):
        for source, shape in zip(row.sources[1:], inputs[1:], strict=True):
            if what(shape) != what(inputs[0]):
                first, other = tell(row.sources[0], inputs[0], what), tell(source, shape, what)
                return f"inputs differ in {name}, {first} and {other} at {PROBE_SIZE}x{PROBE_SIZE}"
    several = "; a block that joins takes one list of maps" if "positional argument" in str(error) else ""
    return f"cannot join rows {list(row.sources)}: {first_line(error)}{several}"


def _name_of(spec: ModelSpec, source: int) -> str:
    if source == IMAGE:
        return "the picture"
    name = spec.rows[source].name
    return f"row {source} ('{name}')" if name else f"row {source}"
