"""Find arguments with which a block can be built and run: the given ones, or guesses by the names of its arguments."""

import inspect
import itertools
from collections.abc import Iterable, Iterator
from typing import Any

from torch import nn

from graftdet.models.blocks.registration import BlockOptions
from graftdet.models.conformance.block_case import BlockCase
from graftdet.models.conformance.numerics import run_eval
from graftdet.models.graph.arguments import input_width_choices
from graftdet.models.graph.signatures import REQUIRED, STRIDE, WIDTH_OUT, plain_name, read_signature
from graftdet.utils.errors import UserError, first_line

WIDTHS = (32, 3, 64, 48)  # input widths, in the order in which they are tried
MAX_ATTEMPTS = 60  # combinations of guesses per input width, output width and stride
GUESSES: dict[str, Any] = {  # plain name of an argument without default -> value
    name: value
    for value, names in (
        (3, "k ks kernel kernels kernelsize ksize dwkernelsize"),
        (1, "s stride strides p pad padding d dilation g groups n num depth"),
        (4, "r reduction heads numheads nheads"),
        (2, "ratio expansion expand expandratio scale scalefactor gain"),
        (0.5, "e"),
        (0.1, "drop dropout dropprob"),
        (True, "se usese act shortcut"),
        (7, "size"),
        (1.0, "alpha"),
        (0, "index"),
        ([0], "idx"),
        (8, "groupsize numgroups"),
    )
    for name in names.split()
}

RowArguments = tuple[list, dict]
"""Positional and keyword arguments of a row."""


def find_cases(
    name: str,
    block: type[nn.Module],
    options: BlockOptions,
    args: list | None,
    kwargs: dict,
    width_in: list[int] | None,
) -> list[BlockCase]:
    """Return one or two ways to build a block.

    Args:
        name: Module name of the block.
        block: Its class.
        options: That it was registered with.
        args: Positional arguments of the row; None: guess all arguments, once for the same width and size as the input,
            once for twice the width at stride 2, as far as the block has such arguments.
        kwargs: Keyword arguments of the row.
        width_in: Channels of the inputs; None: try several widths.

    Raises:
        UserError: If the block cannot be built and run with any of them.
    """
    widths: list[Any] = [width_in if len(width_in) > 1 else width_in[0]] if width_in else [*WIDTHS, [32, 32]]
    problem = None
    for width in widths:
        found: list[BlockCase] = []
        for rows in [[(args, kwargs)]] if args is not None else _likely_rows(block, options, width):
            case, error = _first_that_runs(name, block, options, rows, width)
            problem = problem or error
            if case and all(str(case) != str(other) for other in found):
                found.append(case)
            if len(found) == 2:
                break
        if found:
            return found
    signature = read_signature(block, options)
    listed = [*signature.named, *["*args"] * signature.open_positional, *["**kwargs"] * signature.open_keywords]
    raise UserError(
        f"{name}: cannot be built and run ({first_line(problem)}); "
        f"give --args for ({', '.join(listed)}), and --in for the input widths"
    )


def _first_that_runs(
    name: str, block: type[nn.Module], options: BlockOptions, rows: Iterable[RowArguments], width: int | list[int]
) -> tuple[BlockCase | None, Exception | None]:
    """The first of `rows` with which the block runs, and the first error of the others."""
    problem = None
    for args, kwargs in rows:
        for argument in input_width_choices(width) if isinstance(width, list) else [None]:
            try:
                case = BlockCase(name, block, options, args, kwargs, width, None if argument == width else argument)
                run_eval(case.build(), case.maps())
                return case, problem
            except Exception as error:  # any error of the block about unsuitable arguments
                problem = problem or error
    return None, problem


def _likely_rows(
    block: type[nn.Module], options: BlockOptions, width: int | list[int]
) -> Iterator[Iterable[RowArguments]]:
    """Rows to try: same width at stride 1, twice the width at stride 2, then mixed; each time the likeliest first."""
    signature = read_signature(block, options)
    c = width[0] if isinstance(width, list) else width
    names = [name for name in signature.named if name not in (signature.width_in, "n")]
    required = [name for name in names if signature.named[name].default is REQUIRED]
    strides = [name for name in names if name in STRIDE]
    pads = [
        name for name in names if plain_name(name) in ("p", "pad", "padding") and signature.named[name].default == 0
    ]
    for out, stride in ((c, 1), (2 * c, 2), (2 * c, 1), (c, 2)):
        known: dict[str, Any] = {name: stride for name in strides} | {
            name: out for name in names if name == signature.width_out
        }
        unknown = [name for name in required if name not in known]
        if any(GUESSES.get(plain_name(name)) == GUESSES["kernel"] for name in unknown):
            known |= dict.fromkeys(pads, GUESSES["kernel"] // 2)  # otherwise the map becomes smaller
        values = itertools.product(*(_guesses(name, signature.named[name], c) for name in unknown))
        yield [
            ([], {**known, **dict(zip(unknown, combination, strict=True))})
            for combination in itertools.islice(values, MAX_ATTEMPTS)
        ]


def _guesses(name: str, parameter: inspect.Parameter, c: int) -> list:
    plain = plain_name(name)
    first: list[Any]
    if plain in GUESSES:
        first = [GUESSES[plain]]
    elif plain in WIDTH_OUT:
        first = [c]
    else:
        by_type: dict[Any, list[Any]] = {bool: [True], "bool": [True], float: [1.0], "float": [1.0]}
        first = by_type.get(parameter.annotation, [2 * c, c])
    return [*first, *(v for v in (3, 1, 2, 0.5, True, [c, c], None) if v not in first)]
