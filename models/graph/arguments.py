"""How a row's args become constructor arguments, derived from the signature of the block.

- The argument called c1, inp, in_channels, dim ... gets the width that comes in (a list of widths where the row joins
  several maps); `graftdet.models.graph.signatures` knows the names.
- The one called c2, oup, out_channels ... is an arg of the row, scaled by the width multiple.
- An argument called n gets the row's number; every other block is stacked that many times. The second and later ones
  do not stride where the stride is an argument; those that always do (Focus, SpaceToDepth, InceptionB) stride each time.
- Without an output width the width stays, or is what the block makes of it: each row is probed after it is built.
- A registration may say it all: `width_in="name"`, `width_out="name"` (that argument, where it is given, is the output
  width instead), `rule="stack"` (n is no number of the row), `rule="plain"` (nothing is filled in).
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from difflib import get_close_matches

from graftdet.models.blocks.activations import is_activation
from graftdet.models.blocks.argument_ranges import MAX_WIDTH, is_positive_int, number_hint
from graftdet.models.blocks.registration import PLAIN, BlockOptions
from graftdet.models.graph.signatures import REQUIRED, SHORT_NAMES, STRIDE, Signature, plain_name, read_signature
from graftdet.utils.errors import UserError, did_you_mean

_CHOICES = {
    "mode": ("nearest", "bilinear", "bicubic", "nearest-exact"),
    "padding_mode": ("zeros", "reflect", "replicate", "circular"),
}
_POWER = re.compile(r"[-+]?\d+[eE][-+]?\d+")


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


def scale_depth(number: int, multiple: float) -> int:
    """`number` times `multiple`, rounded, at least 1; 1 stays 1."""
    return max(round(number * multiple), 1) if number > 1 else number


def make_recipe(
    block: type,
    options: BlockOptions,
    args: list,
    kwargs: dict,
    widths_in,
    number: int,
    scale_width: Callable[[int], int],
):
    """Return the `Recipe` of a row.

    Args:
        block: the class of the row's word; `options` are those of its registration, `defaults` among them values of
            arguments that the row may leave out; `of_size` those that the model's size has where the row leaves them
            out or says False without naming them.
        args, kwargs: the row's own, words resolved.
        widths_in: the width that comes in, or a list of them where the row joins maps.
        number: the row's number, depth multiple applied.
        scale_width: what becomes of a written output width, `ModelSpec.scale_width`.

    Raises `UserError` for too many or unknown arguments or a width that is not a whole number.
    """
    args, kwargs = list(args), dict(kwargs)
    if block.__name__ == "BatchNorm2d" and block.__module__.startswith("torch.nn"):
        args = args[1:]  # published rows may repeat the unscaled width here; the real one is known
    elif block.__name__ == "GroupNorm" and block.__module__.startswith("torch.nn") and is_positive_int(args[1:2]):
        args = [args[0], *args[2:]]  # as torch has it: groups, width
    signature = read_signature(block, options)
    injected = {}
    takes_number = "n" in signature.named and options.rule == "infer"
    if takes_number:
        injected["n"] = number
    width_in = signature.width_in if _is_filled_in(signature, args, kwargs, takes_number) else None
    if width_in is not None:
        injected[width_in] = widths_in
    bound, extra = _bind(signature, injected, args, kwargs)
    for name in bound.keys() & options.arguments.keys():
        options.arguments[name].check(name, bound[name])
    for name, value in options.model_defaults.items():
        bound.setdefault(name, value)
    for name, value in options.scale_defaults.items():
        if bound.get(name, False) is False and name not in kwargs:
            bound[name] = value
    width = None
    for name in (signature.width_out if width_in else None, options.width_out):  # the latter, where given, wins
        required = name in bound and name in signature.named and signature.named[name].default is REQUIRED
        if bound.get(name) is not None or required:
            width = bound[name] = scale_width(_whole_width(bound[name], name))
            expansion = getattr(block, "expansion", 1)
            if plain_name(name) == "planes" and isinstance(expansion, int):
                width *= expansion  # residual blocks of torchvision's kind: planes are the inner width
    if signature.guessed:
        width = None  # no name promised that this is the output width
    recipe = Recipe(*signature.call(bound, extra), 1 if takes_number else number, width, width_in)
    if recipe.repeats > 1:
        again = dict(bound)
        if width is not None and width_in is not None:
            again[width_in] = width
        if width_in is not None:
            again.update({name: 1 for name in STRIDE if name in again or _strides_by_default(signature, name)})
        recipe.repeat_args, recipe.repeat_kwargs = signature.call(again, extra)
    return recipe


def ways_to_join(widths_in: list[int]) -> list:
    """What a block that joins maps may mean by the width that comes in: the list of widths, the one width that all
    have, or their sum. The first with which it can be built and run is meant."""
    common = widths_in[:1] if len(set(widths_in)) == 1 else []
    return [widths_in, *common, sum(widths_in)]


def make_head_recipe(head: type, args: list, kwargs: dict, widths_in: list[int]) -> Recipe:
    """The `Recipe` of a head's row: its own arguments, and `ch`, the widths of its levels."""
    signature = read_signature(head, PLAIN)
    return Recipe(*signature.call(*_bind(signature, {"ch": widths_in}, list(args), kwargs)))


def _is_filled_in(signature: Signature, args, kwargs, takes_number) -> bool:
    """Whether the row leaves the input width to the parser. Only where a place and no name makes it the width can a row
    that gives all arguments mean otherwise."""
    if not signature.guessed:
        return signature.width_in is not None
    return signature.width_in not in kwargs and (
        signature.open_positional or len(args) < len(signature.named) - takes_number
    )


def _strides_by_default(signature: Signature, name: str) -> bool:
    parameter = signature.named.get(name)
    return parameter is not None and isinstance(parameter.default, int) and parameter.default > 1


def _whole_width(value, name):
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise UserError(
            f"the output width ({name}) must be a whole number of at least 1, got {value!r}{number_hint(value)}"
        )
    if value > MAX_WIDTH:
        raise UserError(f"the output width ({name}) must be at most {MAX_WIDTH}, got {value}")
    return value


def nearest_argument(name: str, known) -> str | None:
    """The one of `known` arguments that `name` most likely means: its short or long form (s, stride), or a misspelling."""
    known = list(known)
    for short in SHORT_NAMES.values():
        if plain_name(name) in short:
            return next((k for k in known if plain_name(k) in short), None)
    spellings = {k.lower(): k for k in known}
    for k in known:
        forms = next((forms for forms in SHORT_NAMES.values() if plain_name(k) in forms), ())
        spellings.update({form: k for form in forms if len(form) > 2 and form not in spellings})
    near = get_close_matches(name.lower(), spellings, n=1) or get_close_matches(plain_name(name), spellings, n=1)
    return spellings[near[0]] if near else None


def _check_type(signature: Signature, name: str, value) -> None:
    """A word where the default is a number, true or false is a misspelling; activations may be words. Kernels, strides,
    dilations and groups are whole numbers."""
    parameter = signature.named.get(name)
    default = None if parameter is None else parameter.default
    if name in _CHOICES and isinstance(value, str) and isinstance(default, str) and value not in _CHOICES[name]:
        raise UserError(
            f"{name} '{value}' is not known{did_you_mean(value, _CHOICES[name]) or '; expected ' + ', '.join(_CHOICES[name])}"
        )
    if name == "scale_factor" and isinstance(value, str):
        raise UserError(f"argument '{name}' must be a number, got '{value}'; write [None, 2, nearest]")
    if name == "eps" and isinstance(value, (int, float)) and value >= 1:
        raise UserError(
            f"argument 'eps' is {value}, expected a small number such as 1e-5; the width is filled in, leave it out"
        )
    counts = (
        any(plain_name(name) in SHORT_NAMES[key] for key in "ksgd")
        and isinstance(default, int)
        and not isinstance(default, bool)
    )
    if counts and not is_positive_int(value):
        raise UserError(f"argument '{name}' must be a whole number of at least 1, got {value!r}{number_hint(value)}")
    if not isinstance(default, (bool, int, float)) or "act" in name.lower():
        return
    if isinstance(default, bool) and isinstance(value, (list, tuple)):
        raise UserError(f"argument '{name}' is {value!r}, expected true or false")
    if not isinstance(value, str):
        return
    wanted, words = ("True or False", ["True", "False"]) if isinstance(default, bool) else ("a number", [])
    raise UserError(
        f"argument '{name}' must be {wanted}, got '{value}'{did_you_mean(value, words) or number_hint(value)}"
    )


def _read_number(signature: Signature, name: str, value):
    """`value`, or the number that it is: YAML reads 1e-4, without a point, as text."""
    fraction = name in signature.named and isinstance(signature.named[name].default, float)
    return float(value) if fraction and isinstance(value, str) and _POWER.fullmatch(value.strip()) else value


def _with_dilation(free: list[str], args: list) -> list:
    """A row's args with a dilation of 1 where they go from the groups to the activation, as rows of YOLOv7 do."""
    if not args or free[len(args) - 1 : len(args) + 1] != ["d", "act"]:
        return args
    return [*args[:-1], 1, args[-1]] if isinstance(args[-1], bool) or is_activation(args[-1]) else args


def _bind(signature: Signature, injected, args, kwargs) -> tuple[dict, list]:
    """Name every argument, as Python would, with the injected ones left out of the row's counting; and those that only
    `*args` takes."""
    free = [name for name in signature.named if name not in injected]
    args = _with_dilation(free, args)
    listed = f"({', '.join(free)})" if free else "none"
    extra = args[len(free) :]
    if extra and not signature.open_positional:
        raise UserError(f"takes at most {len(free)} arguments {listed}, got {len(args)}: {list(args)}")
    unknown = [name for name in kwargs if name not in injected and name not in free and not signature.open_keywords]
    if unknown:
        near = dict.fromkeys(filter(None, (nearest_argument(name, free) for name in unknown)))
        hint = f"did you mean {', '.join(map(repr, near))}?" if near else f"it takes {listed}"
        raise UserError(f"has no argument{'s' * (len(unknown) > 1)} {', '.join(map(repr, unknown))}; {hint}")
    bound = dict(injected)
    bound.update(zip(free, args, strict=False))
    for name, value in kwargs.items():
        if name in injected:
            raise UserError(f"argument '{name}' is filled in by the parser; leave it out")
        if name in bound:
            raise UserError(f"argument '{name}' is given twice")
        bound[name] = value
    for name in bound.keys() - injected.keys():
        bound[name] = _read_number(signature, name, bound[name])
        _check_type(signature, name, bound[name])
    missing = [name for name in signature.required if name not in bound]
    if missing:
        raise UserError(f"argument '{missing[0]}' is missing; it takes {listed}")
    return bound, extra
