"""One block taken out of any model: built with given or guessed arguments, again and again, and what it is fed."""

import inspect
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial

import torch
from graftdet.models.blocks.registration import BlockOptions
from graftdet.models.conformance.numerics import evaluated, seed_all
from graftdet.models.graph.arguments import Recipe, make_recipe, ways_to_join
from graftdet.models.graph.signatures import REQUIRED, STRIDE, WIDTH_OUT, plain_name, read_signature
from graftdet.models.spec.scales import scale_width
from graftdet.utils.errors import UserError, first_line
from torch import nn

SIZE = 32  # of a map, pixels
WIDTHS = (32, 3, 64, 48)  # tried in this order as the width that comes in
GUESSES = {  # by plain argument name, for arguments without default
    "k": 3, "ks": 3, "kernel": 3, "kernels": 3, "kernelsize": 3, "ksize": 3, "s": 1, "stride": 1, "strides": 1, "p": 1, "pad": 1,
    "padding": 1, "d": 1, "dilation": 1, "g": 1, "groups": 1, "n": 1, "num": 1, "r": 4, "ratio": 2, "reduction": 4, "heads": 4,
    "numheads": 4, "nheads": 4, "e": 0.5, "expansion": 2, "expand": 2, "expandratio": 2, "scale": 2, "scalefactor": 2, "gain": 2,
    "drop": 0.1, "dropout": 0.1, "dropprob": 0.1, "se": True, "usese": True, "act": True, "shortcut": True, "size": 7,
    "dwkernelsize": 3, "alpha": 1.0, "depth": 1, "index": 0, "groupsize": 8, "numgroups": 8,
}  # fmt: skip


@dataclass
class Subject:
    """A way to build a block: `recipe` is what its constructor gets, `width_in` what it reads (a list: several maps),
    `told` what the constructor gets for that where it is not the list."""

    word: str
    block: type
    options: BlockOptions
    args: list
    kwargs: dict
    width_in: int | list[int]
    told: int | list[int] | None = None
    recipe: Recipe = field(init=False)

    def __post_init__(self):
        self.signature = read_signature(self.block, self.options)
        self.recipe = self.recipe_of(self.args, self.kwargs)

    def with_argument(self, name: str, value) -> tuple[list, dict]:
        """The row's args and kwargs with another value for one argument."""
        free = [key for key in self.signature.named if key != self.recipe.width_in and key not in self.kwargs]
        free = [key for key in free if key != "n" or self.options.rule != "infer"]
        if name in free[: len(self.args)]:
            place = free.index(name)
            return [*self.args[:place], value, *self.args[place + 1 :]], self.kwargs
        return self.args, {**self.kwargs, name: value}

    def recipe_of(self, args, kwargs, number: int = 1) -> Recipe:
        return make_recipe(
            self.block,
            self.options,
            args,
            kwargs,
            self.told or self.width_in,
            number,
            partial(scale_width, multiple=1.0),
        )

    def new(self, seed: int = 0) -> nn.Module:
        """A new block, alike for the same seed."""
        seed_all(seed)
        return self.block(*self.recipe.args, **self.recipe.kwargs)

    def maps(self, batch: int = 2, height: int = SIZE, width: int = SIZE, seed: int = 0):
        """Maps to read, (batch, c, height, width) normal numbers; a list of them for a block that joins."""
        generator = torch.Generator().manual_seed(seed)
        if isinstance(self.width_in, list):
            return [torch.randn(batch, c, height, width, generator=generator) for c in self.width_in]
        return torch.randn(batch, self.width_in, height, width, generator=generator)

    def __str__(self):
        shown = [str(a) for a in self.recipe.args] + [f"{k}={v}" for k, v in self.recipe.kwargs.items()]
        return f"{self.word}({', '.join(shown)})" + (
            "" if self.recipe.width_in and not self.told else f" on {self.width_in} channels"
        )


def find_subjects(
    word: str, block: type, options: BlockOptions, args: list | None, kwargs: dict, width_in: list[int] | None
) -> list[Subject]:
    """The block as it is to be tried: with the given arguments, else once keeping width and size and once widening and
    striding, as far as its arguments allow. Raises `UserError` with the reason when no way of building it is found."""
    widths = [width_in if len(width_in) > 1 else width_in[0]] if width_in else [*WIDTHS, [32, 32]]
    problem = None
    for width in widths:
        found: list[Subject] = []
        for rows in [[(args, kwargs)]] if args is not None else _likely_rows(block, options, width):
            subject, error = _first_that_runs(word, block, options, rows, width)
            problem = problem or error
            if subject and all(str(subject) != str(other) for other in found):
                found.append(subject)
            if len(found) == 2:
                break
        if found:
            return found
    signature = read_signature(block, options)
    listed = [*signature.named, *["*args"] * signature.open_positional, *["**kwargs"] * signature.open_keywords]
    raise UserError(
        f"{word}: cannot be built and run ({first_line(problem)}); give --args for ({', '.join(listed)}), and --in for the widths it reads"
    )


def _first_that_runs(word, block, options, rows, width) -> tuple[Subject | None, Exception | None]:
    """The first of `rows` with which the block gives maps, and what was wrong with the first of them."""
    problem = None
    for args, kwargs in rows:
        for told in ways_to_join(width) if isinstance(width, list) else [None]:
            try:
                subject = Subject(word, block, options, args, kwargs, width, None if told == width else told)
                evaluated(subject.new(), subject.maps())
                return subject, problem
            except Exception as error:  # whatever the block says to arguments that do not suit it
                problem = problem or error
    return None, problem


def _likely_rows(block, options, width) -> Iterator[list[tuple[list, dict]]]:
    """Rows to try: those that keep the width at stride 1, those of twice the width at stride 2, then mixed ones. Each
    time the likeliest first."""
    signature = read_signature(block, options)
    c = width[0] if isinstance(width, list) else width
    free = [name for name in signature.named if name not in (signature.width_in, "n")]
    required = [name for name in free if signature.named[name].default is REQUIRED]
    strides = [name for name in free if name in STRIDE]
    pads = [name for name in free if plain_name(name) in ("p", "pad", "padding") and signature.named[name].default == 0]
    for out, stride in ((c, 1), (2 * c, 2), (2 * c, 1), (c, 2)):
        known = {name: stride for name in strides} | {name: out for name in free if name == signature.width_out}
        unknown = [name for name in required if name not in known]
        if any(GUESSES.get(plain_name(name)) == GUESSES["kernel"] for name in unknown):
            known |= dict.fromkeys(pads, GUESSES["kernel"] // 2)  # else the map shrinks
        ways = [_guesses(name, signature.named[name], c) for name in unknown]
        yield [
            ([], {**known, **dict(zip(unknown, values, strict=True))})
            for values in itertools.islice(itertools.product(*ways), 60)
        ]


def _guesses(name: str, parameter: inspect.Parameter, c: int) -> list:
    plain = plain_name(name)
    if plain in GUESSES:
        first = [GUESSES[plain]]
    elif plain in WIDTH_OUT:
        first = [c]
    else:
        first = {bool: [True], "bool": [True], float: [1.0], "float": [1.0]}.get(parameter.annotation, [2 * c, c])
    return [*first, *(v for v in (3, 1, 2, 0.5, True, [c, c], None) if v not in first)]
