"""One row of a model YAML: its block, built for what it reads and probed for its output shape."""

import contextlib
from dataclasses import replace
from typing import Any

from torch import nn

from graftdet.models.blocks.registration import PLAIN, BlockOptions
from graftdet.models.graph.arguments import BlockCall, input_width_choices, make_block_call, make_head_call
from graftdet.models.graph.errors import MapListError, RowError
from graftdet.models.graph.modules import find_block
from graftdet.models.graph.plugins import describe_error
from graftdet.models.graph.row_checks import (
    check_convolutions,
    check_head_position,
    check_weights,
    divisor_hint,
    run_error,
)
from graftdet.models.graph.shape_inference import output_shapes
from graftdet.models.graph.signatures import read_signature
from graftdet.models.graph.written_arguments import Reading
from graftdet.models.heads import HEADS
from graftdet.models.heads.base import Head, HeadOptions
from graftdet.models.spec.model_spec import ModelSpec
from graftdet.models.spec.row import IMAGE, MAX_REPEATS, Row, scale_depth
from graftdet.utils.errors import UserError
from graftdet.utils.text import counted

Shape = tuple[int, int, int]
"""Channels, height, width of a map."""


def options_for_model(options: BlockOptions | HeadOptions, spec: ModelSpec) -> Any:
    """A block's `BlockOptions` with the defaults that apply in this model; a head's options as they are."""
    if not isinstance(options, BlockOptions):
        return options
    return options.for_model({row.module for row in spec.rows}, spec.size)


def gather_shapes(row: Row, shapes: list, image: Shape, options: BlockOptions | HeadOptions) -> Shape | list:
    """Collect the shapes that a row reads.

    Args:
        row: the row.
        shapes: output of each row before it: a shape, or a list of them for a whole backbone.
        image: shape of the image.
        options: those of its block, or of a head, which reads the maps of all its sources.

    Returns:
        A list of shapes for heads, for rows that join (with a list of shapes in place of each source that gives a list
        of maps), and for blocks that take the list of their only source; otherwise one shape.

    Raises:
        MapListError: a source gives a list of maps that the row cannot take.
    """
    inputs: list = []
    for source in row.sources:
        shape = image if source == IMAGE else shapes[source]
        if not isinstance(shape, list):
            inputs.append(shape)
        elif isinstance(options, HeadOptions):
            inputs.extend(shape)
        elif options.joins_lists and row.joined:
            inputs.append(shape)
        elif options.takes_lists and not row.joined:
            return shape
        else:
            fix = f"pick one with a row [{source}, 1, Index, [0]]"
            raise MapListError(f"row {source} gives a list of {len(shape)} map{'s' * (len(shape) != 1)}", fix)
    return inputs if row.joined or isinstance(options, HeadOptions) else inputs[0]


def flat_shapes(inputs: Shape | list) -> list[Shape]:
    """The shapes of all maps that a row reads, from what `gather_shapes` gives."""
    return [one for item in inputs for one in flat_shapes(item)] if isinstance(inputs, list) else [inputs]


def find_and_build(
    spec: ModelSpec, row: Row, shapes: list, image: Shape
) -> tuple[nn.Module, BlockCall, Shape | list, Shape | list]:
    """Find the block or head of a row and build it for what it reads.

    Args:
        spec: the model.
        row: the row.
        shapes: output of each row before it.
        image: shape of the image.

    Returns:
        The layer, its constructor arguments, what it reads, and its output shape; of a head, what it reads.

    Raises:
        UserError: the row is wrong.
    """
    block, options, is_head = find_block(row.module)
    check_head_position(spec, row, is_head)
    options = options_for_model(options, spec)
    inputs = gather_shapes(row, shapes, image, options)
    build: Any = build_head if is_head else build_row
    layer, call, shape = build(spec, row, block, options, inputs)
    return layer, call, inputs, shape


def build_row(
    spec: ModelSpec, row: Row, block: type, options: BlockOptions, inputs: Shape | list[Shape]
) -> tuple[nn.Module, BlockCall, Shape | list[Shape]]:
    """Build and probe one row.

    Args:
        spec: the model.
        row: the row.
        block: its class.
        options: the options of its registration, for this model.
        inputs: what it reads, as `gather_shapes` gives it.

    Returns:
        The layer, its constructor arguments, and its output shape (a list of shapes for a whole backbone).

    Raises:
        RowError: its arguments are wrong, or it cannot run on what it reads.
        UserError: a block refuses its arguments.
    """
    try:
        return _build_and_probe(spec, row, block, options, inputs)
    except UserError as error:
        for reading in (Reading.INPUT_WIDTH, Reading.SAME_WIDTH):
            with contextlib.suppress(UserError):
                return _build_and_probe(spec, row, block, options, inputs, reading)
        if row.joined and isinstance(error.__cause__, (TypeError, AttributeError)):
            alone = replace(row, joined=False, sources=row.sources[:1])
            with contextlib.suppress(UserError):
                _build_and_probe(spec, alone, block, options, inputs[0])
                joined = f"join them first: [{row.written[0]}, 1, Concat, [1]]"
                fix = f"write {row.written[0][0]}" if len(row.sources) == 1 else joined
                error = RowError("reads one map, but 'from' is a list", fix)
        raise error from None


def _build_and_probe(spec: ModelSpec, row: Row, block, options: BlockOptions, inputs, reading=Reading.LIKELY):
    problems = []
    for widths in input_width_choices([s[0] for s in flat_shapes(inputs)]) if isinstance(inputs, list) else [inputs[0]]:
        layer = None
        try:
            layer, call = _make_layer(spec, row, block, options, inputs, widths, reading)
            return layer, call, _probe(spec, row, layer, call, inputs)
        except UserError as error:
            problems.append((layer is None, len(problems), error))
    raise min(problems)[2]  # the first one of a block that could be built: its error is more specific


def _make_layer(spec: ModelSpec, row: Row, block, options: BlockOptions, inputs, widths, reading: Reading):
    number = scale_depth(row.number, spec.depth_multiple)
    if number > MAX_REPEATS:
        product = f"its number {row.number} x the depth multiple {spec.depth_multiple:g} is {number}"
        raise RowError(f"{product}, expected at most {MAX_REPEATS}")
    kwargs = {key: spec.resolve(value) for key, value in row.kwargs.items()}
    args = spec.resolve(row.args)
    call = make_block_call(block, options, args, kwargs, widths, number, spec.scale_width, reading)
    layer = _construct(call, block, inputs)
    check_weights(layer, widths)
    check_convolutions(layer, call.repeats)
    return layer, call


def _probe(spec: ModelSpec, row: Row, layer: nn.Module, call: BlockCall, inputs):
    try:
        shape = output_shapes(layer, inputs)
    except UserError:
        raise
    except Exception as error:  # whatever a block raises on these inputs is the author's mistake in this row
        if isinstance(inputs, list) and call.repeats > 1 and _runs(layer[0], inputs):  # type: ignore[index]
            raise RowError(f"joins maps; its number must be 1, got {row.number}") from error
        joins = not row.joined and _runs(layer, inputs if isinstance(inputs, list) else [inputs])
        raise run_error(spec, row, layer, inputs, error, joins) from error
    if call.width is not None and not isinstance(shape, list) and shape[0] != call.width:
        raise RowError(f"declares {counted(call.width, 'channel')} out, but gives {shape[0]}")
    return shape


def _runs(layer: nn.Module, inputs) -> bool:
    try:
        return bool(output_shapes(layer, inputs))
    except Exception:  # as above
        return False


def _follow_width(call: BlockCall, last: nn.Module, inputs):
    """Let the next block of a stack take the width that the last one really gives for `inputs`; returns that shape."""
    shape = inputs
    with contextlib.suppress(Exception):  # what is wrong with a block is reported when the row is probed
        shape = output_shapes(last, inputs)
    if isinstance(shape, tuple):
        call.repeat_kwargs[call.width_in] = shape[0]
    elif shape is not inputs:
        raise RowError(f"gives {counted(len(shape), 'map')}; its number must be 1, got {call.repeats}")
    return shape


def _construct(call: BlockCall, block: type, inputs=None) -> nn.Module:
    """The row's block, or a stack of them, whose widths follow the real ones where no output width is declared."""
    follows = call.width is None and call.width_in in call.repeat_kwargs
    try:
        blocks = [block(*call.args, **call.kwargs)]
        for _ in range(call.repeats - 1):
            if follows:
                inputs = _follow_width(call, blocks[-1], inputs)
            blocks.append(block(*call.repeat_args, **call.repeat_kwargs))
    except UserError:
        raise
    except Exception as error:  # torch's own checks of widths, groups and types
        given = ", ".join(f"{k}={v}" for k, v in call.kwargs.items()) or ", ".join(map(str, call.args))
        raise RowError(f"cannot be built with {given}: {describe_error(error)}", divisor_hint(call)) from error
    return blocks[0] if len(blocks) == 1 else nn.Sequential(*blocks)


def build_head(
    spec: ModelSpec, row: Row, head: type, options: HeadOptions, inputs: list[Shape]
) -> tuple[nn.Module, BlockCall, list[Shape]]:
    """Build the head; as `build_row`, with its inputs instead of an output shape."""
    row = replace(row, kwargs=_current_names(row, options))
    kwargs = {key: spec.resolve(value) for key, value in row.kwargs.items()}
    if row.number != 1:
        raise RowError(f"a head is not repeated; its number must be 1, got {row.number}")
    if options.without_anchors and not row.args[1:] and set(row.kwargs) <= {"nc"}:
        if spec.anchors is not None:
            raise RowError("has no anchors in its args, but the file has some", "write [nc, anchors]", "[nc, anchors]")
        head = HEADS[options.without_anchors]
    _refuse_anchors(head, row)
    call = make_head_call(head, spec.resolve(row.args), kwargs, [shape[0] for shape in inputs])
    layer = _construct(call, head)
    _check_auxiliary_levels(layer, inputs)  # type: ignore[arg-type]
    nc: Any = layer.nc
    if nc != spec.nc:
        raise RowError(f"is written for {counted(nc, 'class')}, but nc is {spec.nc}", "write nc in its args")
    return layer, call, inputs


def _check_auxiliary_levels(head: Head, inputs: list[Shape]) -> None:
    """Check that the auxiliary levels of a head have the sizes of the main levels, in the same order."""
    sizes = [f"{width}x{height}" for _, height, width in inputs]
    main, auxiliary = sizes[: len(sizes) // 2], sizes[len(sizes) // 2 :]
    if head.has_auxiliary_levels and main != auxiliary:
        fix = "write the main levels in 'from', then the auxiliary ones in the same order"
        raise RowError(f"has main levels of {', '.join(main)} and auxiliary levels of {', '.join(auxiliary)}", fix)


def auxiliary_rows(spec: ModelSpec, head: Head, shapes: list) -> set[int]:
    """Find the rows that only the auxiliary levels of a head read: they run in train mode only.

    Args:
        spec: the model.
        head: its head.
        shapes: output of each row, as for `gather_shapes`.

    Returns:
        Their indices; none where a source of the head gives a list of maps, some of which may be main levels.
    """
    last = spec.rows[-1]
    gives_list = any(isinstance(shapes[source], list) for source in last.sources if source != IMAGE)
    if not head.has_auxiliary_levels or gives_list:
        return set()
    needed = set(last.sources[: len(last.sources) // 2])
    for row in reversed(spec.rows[:-1]):
        if row.index in needed:
            needed.update(row.sources)
    read = {source for row in spec.rows for source in row.sources}
    return {row.index for row in spec.rows[:-1] if row.index in read} - needed


def renamed_arguments(row: Row, options: BlockOptions | HeadOptions) -> dict[str, str]:
    """Older names of a head's arguments that a row gives -> their present names."""
    aliases = options.argument_aliases if isinstance(options, HeadOptions) else {}
    return {name: aliases[name] for name in row.kwargs if name in aliases}


def _current_names(row: Row, options: HeadOptions) -> dict:
    """The row's named arguments, older names replaced by the present ones."""
    renamed = renamed_arguments(row, options)
    for old, new in renamed.items():
        if new in row.kwargs:
            raise RowError(f"'{old}' is the older name of '{new}', which is given, too", "remove one")
    return {renamed.get(name, name): value for name, value in row.kwargs.items()}


def _refuse_anchors(head: type, row: Row) -> None:
    """Refuse `anchors` where the head takes a number: as a number per level, it would be taken for that number."""
    named = read_signature(head, PLAIN).named
    given = dict(zip((name for name in named if name != "ch"), row.args, strict=False)) | row.kwargs
    numbers = [key for key, value in given.items() if value == "anchors" and key in named]
    if "anchors" not in named and any(isinstance(named[key].default, int) for key in numbers):
        raise RowError("takes no anchors", "write [nc] for its args", "[nc]")
