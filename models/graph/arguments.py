"""How a row's args become constructor arguments, derived from the signature of the block.

- The argument named c1, inp, in_channels, dim ... is the input width, a list of widths where the row joins maps.
  `graftdet.models.graph.signatures` knows the names.
- The one named c2, oup, out_channels ... is an arg of the row, scaled by the width multiple.
- An argument named n is the row's number; every other block is stacked that many times. The second and later blocks of
  a stack have stride 1 where the stride is an argument; those that always stride (Focus, SPD) stride each time.
- Without an output width the width stays, or is what the block makes of it: each row is probed after it is built.
- A row that gives the input width or n all the same is read as it is meant: `graftdet.models.graph.written_arguments`.
- A registration may declare otherwise: `graftdet.models.blocks.registration.BlockOptions`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from graftdet.models.blocks.activations import is_activation
from graftdet.models.blocks.argument_ranges import are_positive_ints, is_positive_int
from graftdet.models.blocks.registration import PLAIN, BlockOptions
from graftdet.models.graph.argument_checks import check_argument, check_width, convert_number, nearest_argument
from graftdet.models.graph.signatures import REQUIRED, STRIDE, Signature, plain_name, read_signature
from graftdet.models.graph.written_arguments import SMALLEST_WIDTH, Reading, read_written_arguments
from graftdet.utils.errors import UserError
from graftdet.utils.text import counted


@dataclass
class BlockCall:
    """How the block of one row is constructed: `block(*args, **kwargs)`, stacked `repeats` times.

    Args:
        args, kwargs: arguments of the first block.
        repeats: number of blocks.
        width: declared output width, scaled; None if the row declares none.
        width_in: name of the argument that is the input width; None if it is not filled in.
        repeat_args, repeat_kwargs: arguments of the second and later blocks.
        written_width: the input width that the row's args begin with, though it is filled in; None if they do not.
        written_number: the argument n that the row gives, though it is filled in elsewhere; None if it does not.
        same_width: name of the output width, where it is that of the input: unscaled, or omitted before other args.
    """

    args: list
    kwargs: dict[str, Any]
    repeats: int = 1
    width: int | None = None
    width_in: str | None = None
    repeat_args: list = field(default_factory=list)
    repeat_kwargs: dict[str, Any] = field(default_factory=dict)
    written_width: int | None = None
    written_number: int | None = None
    same_width: str | None = None


def make_block_call(
    block: type,
    options: BlockOptions,
    args: list,
    kwargs: dict[str, Any],
    widths_in: int | list[int] | None,
    number: int,
    scale_width: Callable[[int], int],
    reading: Reading = Reading.LIKELY,
) -> BlockCall:
    """Bind a row's args to the constructor of its block.

    Args:
        block: the class of the row's module.
        options: those of its registration, with the defaults of the model (`BlockOptions.for_model`).
        args: the row's own, constants such as nc resolved.
        kwargs: the row's own, by name.
        widths_in: the input width, or a list of widths where the row joins maps.
        number: the row's number, depth multiple applied.
        scale_width: scales a written output width, `ModelSpec.scale_width`.
        reading: how the args are read.

    Raises:
        UserError: args that cannot be read that way, too many or unknown arguments, values out of range, or a width
            that is not a whole number.
    """
    args, kwargs = _without_torch_width(block, list(args)), dict(kwargs)
    signature = read_signature(block, options)
    args, kwargs = _name_small_arguments(options, args, kwargs)
    written = read_written_arguments(block, signature, options, args, kwargs, widths_in, scale_width, reading)
    args, scale_width = written.args, scale_width if written.is_scaled else int
    takes_number = "n" in signature.named and options.rule == "infer" and not written.gives_number
    filled_in: dict[str, Any] = {"n": number} if takes_number else {}
    is_filled_in = written.width is not None or _is_filled_in(signature, args, kwargs, takes_number)
    width_in = signature.width_in if is_filled_in else None
    if width_in is not None:
        filled_in[width_in] = widths_in
    if written.same_width and signature.width_out is not None:
        filled_in[signature.width_out], scale_width = widths_in, int
    bound, extra = _bind(signature, filled_in, args, kwargs)
    _apply_options(options, bound, kwargs)
    width = _scale_output_width(block, signature, options, bound, width_in, scale_width)
    call = BlockCall(*signature.call(bound, extra), 1 if takes_number else number, width, width_in)
    call.written_width, call.written_number = written.width, bound["n"] if written.gives_number else None
    call.same_width = signature.width_out if written.same_width else None
    if call.repeats > 1:
        again = dict(bound)
        if width is not None and width_in is not None:
            again[width_in] = width
        if width_in is not None:
            again.update({name: 1 for name in STRIDE if name in again or _strides_by_default(signature, name)})
        call.repeat_args, call.repeat_kwargs = signature.call(again, extra)
    return call


def make_head_call(head: type, args: list, kwargs: dict[str, Any], widths_in: list[int]) -> BlockCall:
    """Bind a head's args. Its argument `ch` is the list of the input widths, one per level."""
    signature = read_signature(head, PLAIN)
    return BlockCall(*signature.call(*_bind(signature, {"ch": widths_in}, list(args), kwargs)))


def input_width_choices(widths_in: list[int]) -> list:
    """What a block that joins maps may expect as its input width: the list, the common width, or the sum.

    The first one with which the block can be built and run is used.
    """
    common = widths_in[:1] if len(set(widths_in)) == 1 else []
    return [widths_in, *common, sum(widths_in)]


def _without_torch_width(block: type, args: list) -> list:
    """The args of torch's norm layers without the unscaled width that published rows may repeat."""
    if block.__module__.startswith("torch.nn"):
        if block.__name__ == "BatchNorm2d":
            return args[1:]
        if block.__name__ == "GroupNorm" and are_positive_ints(args[1:2]):
            return [args[0], *args[2:]]  # as torch has it: groups, width
    return args


def _name_small_arguments(options: BlockOptions, args: list, kwargs: dict[str, Any]) -> tuple[list, dict[str, Any]]:
    """The args with numbers that are no widths, `[7]` or `[256, 7]`, as the arguments that the block declares."""
    small, first = getattr(options, "small_first", ()), args[0] if args else None
    is_number = is_positive_int(first)
    if small and is_number and first < SMALLEST_WIDTH and len(args) <= len(small) and not set(small) & set(kwargs):
        return [], {**kwargs, **dict(zip(small, args, strict=False))}
    name, last = getattr(options, "odd_means", None), args[-1] if args else None
    if name is None or name in kwargs or len(args) > 2 or not is_positive_int(last):
        return args, kwargs
    return (args[:-1], {**kwargs, name: last}) if last > 1 and last % 2 else (args, kwargs)


def _is_filled_in(signature: Signature, args: list, kwargs: dict, takes_number: bool) -> bool:
    """Whether the input width is filled in. Only where no name identifies it can a row give all arguments itself."""
    if not signature.guessed:
        return signature.width_in is not None
    return signature.width_in not in kwargs and (
        signature.open_positional or len(args) < len(signature.named) - takes_number
    )


def _apply_options(options: BlockOptions, bound: dict[str, Any], kwargs: dict[str, Any]) -> None:
    """Check the declared ranges and set the defaults that depend on the model, in place."""
    for name in bound.keys() & options.arguments.keys():
        options.arguments[name].check(name, bound[name])
    for name, value in options.model_defaults.items():
        bound.setdefault(name, value)
    for name, value in options.scale_defaults.items():
        if bound.get(name, False) is False and name not in kwargs:
            bound[name] = value


def _scale_output_width(block, signature: Signature, options: BlockOptions, bound, width_in, scale_width) -> int | None:
    """Scale the output width in `bound`, in place, and return the width that the block declares."""
    width = None
    for name in (signature.width_out if width_in else None, options.width_out):  # the latter, where given, wins
        required = name in bound and name in signature.named and signature.named[name].default is REQUIRED
        if bound.get(name) is not None or required:
            width = bound[name] = scale_width(check_width(bound[name], name))
            expansion = getattr(block, "expansion", 1)
            if plain_name(name) == "planes" and isinstance(expansion, int):
                width *= expansion  # as in torchvision's residual blocks: planes are the inner width
    name = options.widths_out
    if name in bound and isinstance(bound[name], (list, tuple)):
        bound[name] = [scale_width(check_width(one, name)) for one in bound[name]]
    return None if signature.guessed else width  # no name promises that a guessed one is the output width


def _strides_by_default(signature: Signature, name: str) -> bool:
    parameter = signature.named.get(name)
    return parameter is not None and isinstance(parameter.default, int) and parameter.default > 1


def _with_dilation(free: list[str], args: list) -> list:
    """A row's args with a dilation of 1 inserted where an activation follows the groups, as in rows of YOLOv7."""
    if not args or free[len(args) - 1 : len(args) + 1] != ["d", "act"]:
        return args
    return [*args[:-1], 1, args[-1]] if isinstance(args[-1], bool) or is_activation(args[-1]) else args


def _bind(signature: Signature, filled_in: dict, args: list, kwargs: dict) -> tuple[dict[str, Any], list]:
    """Bind args to names, as Python does, skipping those that are filled in; also return what only `*args` takes."""
    free = [name for name in signature.named if name not in filled_in]
    args = _with_dilation(free, args)
    listed = f"({', '.join(free)})" if free else "none"
    extra = args[len(free) :]
    if extra and not signature.open_positional:
        raise UserError(f"takes at most {counted(len(free), 'argument')} {listed}, got {len(args)}: {list(args)}")
    unknown = [name for name in kwargs if name not in filled_in and name not in free and not signature.open_keywords]
    if unknown:
        near = dict.fromkeys(filter(None, (nearest_argument(name, free) for name in unknown)))
        hint = f"did you mean {', '.join(map(repr, near))}?" if near else f"it takes {listed}"
        raise UserError(f"has no argument{'s' * (len(unknown) > 1)} {', '.join(map(repr, unknown))}; {hint}")
    bound = dict(filled_in)
    bound.update(zip(free, args, strict=False))
    for name, value in kwargs.items():
        if name in filled_in:
            raise UserError(f"argument '{name}' is filled in by the parser; omit it")
        if name in bound:
            raise UserError(f"argument '{name}' is given twice")
        bound[name] = value
    for name in bound.keys() - filled_in.keys():
        bound[name] = convert_number(signature, name, bound[name])
        check_argument(signature, name, bound[name])
    missing = [name for name in signature.required if name not in bound]
    if missing:
        raise UserError(f"argument '{missing[0]}' is missing; it takes {listed}")
    return bound, extra
