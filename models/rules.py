"""How a row's args become constructor arguments, derived from the signature of the block.

- A first argument called c1, inp, in_channels ... gets the width that comes in (a list of widths where the row joins
  several maps).
- A second one called c2, oup, out_channels ... is the row's first arg, scaled by the width multiple.
- An argument called n gets the row's number; every other block is stacked that many times.
- Without an output width the width stays, or is what the block makes of it: each row is probed after it is built.
- A registration with width_out="name" says that this argument, where it is given, is the output width instead.
"""

import inspect
import math
from dataclasses import dataclass, field

from utils.errors import UserError, did_you_mean

WIDTH_IN = ("c1", "cin", "c_in", "ch_in", "inp", "in_channels", "in_channel", "in_chs", "in_ch", "in_c", "in_planes",
            "inplanes", "in_dim", "in_features", "input_channels", "inchannels", "nin", "dim", "channels", "channel",
            "num_channels", "num_features", "planes_in")  # fmt: skip
WIDTH_OUT = ("c2", "cout", "c_out", "ch_out", "oup", "out_channels", "out_channel", "out_chs", "out_ch", "out_c",
             "out_planes", "outplanes", "out_dim", "out_features", "output_channels", "outchannels", "nout",
             "planes_out")  # fmt: skip
STRIDE = ("s", "stride", "strides")
_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


@dataclass
class Recipe:
    """Constructor arguments of one row: `block(*args, **kwargs)`, stacked `repeats` times, giving `width` channels."""

    args: list
    kwargs: dict
    repeats: int = 1
    width: int | None = None  # the declared output width
    width_in: str | None = None  # the argument that takes the input width
    repeat_args: list = field(default_factory=list)  # of the second and later blocks of a stack
    repeat_kwargs: dict = field(default_factory=dict)


def scale_width(width: int, multiple: float) -> int:
    """`width` times `multiple`, up to the next multiple of 8 (116 at 1.0 is 120)."""
    return math.ceil(width * multiple / 8) * 8


def scale_depth(number: int, multiple: float) -> int:
    """`number` times `multiple`, rounded, at least 1; 1 stays 1."""
    return max(round(number * multiple), 1) if number > 1 else number


def make_recipe(block: type, options: dict, args: list, kwargs: dict, widths_in, number: int, width_multiple: float):
    """Return the `Recipe` of a row.

    Args:
        block: the class of the row's word; `options` are those of its registration.
        args, kwargs: the row's own, words resolved.
        widths_in: the width that comes in, or a list of them where the row joins maps.
        number: the row's number, depth multiple applied.

    Raises `UserError` for too many or unknown arguments or a width that is not a whole number.
    """
    args, kwargs = list(args), dict(kwargs)
    if block.__name__ == "BatchNorm2d" and block.__module__.startswith("torch.nn"):
        args = args[1:]  # published rows may repeat the unscaled width here; the real one is known
    names = _parameter_names(block)
    if names is None:  # *args: nothing can be derived
        return Recipe(args, kwargs, number, None, args, kwargs)
    injected, width = {}, None
    takes_width_in = bool(names) and names[0] in WIDTH_IN
    if takes_width_in:
        injected[names[0]] = widths_in
    elif "num_channels" in names:  # nn.GroupNorm(num_groups, num_channels)
        injected["num_channels"] = widths_in
    takes_number = "n" in names and options.get("rule") != "stack"
    if takes_number:
        injected["n"] = number
    bound = _bind(block, names, injected, args, kwargs)
    out = names[1] if takes_width_in and len(names) > 1 and names[1] in WIDTH_OUT else None
    for name in (out, options.get("width_out")):  # the latter, where given, is what the block puts out
        if bound.get(name) is not None:
            width = bound[name] = scale_width(_whole_width(bound[name], name), width_multiple)
    recipe = Recipe(*_split(block, bound), 1 if takes_number else number, width, names[0] if takes_width_in else None)
    if recipe.repeats > 1:
        again = dict(bound)
        if width is not None:
            again[names[0]] = width
        if takes_width_in:
            again.update({name: 1 for name in STRIDE if name in again})
        recipe.repeat_args, recipe.repeat_kwargs = _split(block, again)
    return recipe


def _whole_width(value, name):
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 2**20:
        raise UserError(f"the output width ({name}) must be a whole number of at least 1, got {value!r}")
    return value


def _parameter_names(block: type) -> list[str] | None:
    """The constructor's argument names after self; None when it takes *args."""
    parameters = list(inspect.signature(block).parameters.values())
    if any(p.kind is inspect.Parameter.VAR_POSITIONAL for p in parameters):
        return None
    return [p.name for p in parameters if p.kind in _POSITIONAL or p.kind is inspect.Parameter.KEYWORD_ONLY]


def _bind(block, names, injected, args, kwargs) -> dict:
    """Name every argument, as Python would, with the injected ones left out of the row's counting."""
    free = [name for name in names if name not in injected]
    listed = f"({', '.join(free)})" if free else "none"
    if len(args) > len(free):
        raise UserError(f"takes at most {len(free)} arguments {listed}, got {len(args)}: {list(args)}")
    bound = dict(injected)
    bound.update(zip(free, args, strict=False))
    open_ended = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in inspect.signature(block).parameters.values())
    for name, value in kwargs.items():
        if name in injected:
            raise UserError(f"argument '{name}' is filled in by the parser; leave it out")
        if name in bound:
            raise UserError(f"argument '{name}' is given twice")
        if name not in free and not open_ended:
            raise UserError(f"has no argument '{name}'{did_you_mean(name, free) or f'; it takes {listed}'}")
        bound[name] = value
    for parameter in inspect.signature(block).parameters.values():
        required = parameter.default is inspect.Parameter.empty and parameter.name in names
        if required and parameter.name not in bound:
            raise UserError(f"argument '{parameter.name}' is missing; it takes {listed}")
    return bound


def _split(block, bound: dict) -> tuple[list, dict]:
    """Positional-only arguments as a list, the rest by name."""
    kinds = {name: p.kind for name, p in inspect.signature(block).parameters.items()}
    first = [value for name, value in bound.items() if kinds.get(name) is inspect.Parameter.POSITIONAL_ONLY]
    return first, {k: v for k, v in bound.items() if kinds.get(k) is not inspect.Parameter.POSITIONAL_ONLY}
