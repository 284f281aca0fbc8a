"""Going through all rows of a model YAML, mistakes or not: what is wrong, and the shapes that follow all the same."""

import difflib
import math
from dataclasses import replace
from typing import NamedTuple

import torch
from graftdet.models.blocks import BLOCKS
from graftdet.models.blocks.activations import default_activation
from graftdet.models.graph.arguments import nearest_argument
from graftdet.models.graph.row_builder import (
    RunError,
    build_head,
    build_row,
    find_block,
    gather_shapes,
    options_for_model,
    torch_layers,
)
from graftdet.models.graph.shape_inference import PROBE_SIZE, needs_values
from graftdet.models.graph.signatures import plain_name, read_signature
from graftdet.models.heads import HEADS
from graftdet.models.spec.model_spec import ModelSpec
from graftdet.models.spec.row import IMAGE, UNREADABLE, Row, show_row
from graftdet.utils.errors import UserError
from torch import nn

_MOST_WALKS = 60
_REDUCTIONS = ("reduction", "reductionratio", "r", "squeeze", "squeezefactor")


class Problem(NamedTuple):
    """A mistake in a row. Kinds: word; place (of a head); args; maps, run and join, which follow from what is read."""

    row: int
    kind: str
    text: str


FROM_INPUTS = ("maps", "run", "join")


class Walk:
    """One pass over the rows.

    `choices` says which of the likely outputs a wrong row gets (row -> place in `options[row]`, default the first); of
    the maps of row i that were read without choosing one, the key is -2 - i. `told` are rows with a mistake that is
    told already: row -> "from" where what it reads is in question, "all" where anything is. More than `limit` problems
    end the walk.
    Afterwards `shapes` is the output of each row, `follow_ups` the number of problems that follow from told ones.
    """

    def __init__(self, spec: ModelSpec, choices=None, cache=None, told=None, limit: float = math.inf):
        self.spec, self.choices, self.told = spec, choices or {}, told or {}
        self._cache = {} if cache is None else cache
        self.problems: list[Problem] = []
        self.warnings: list[str] = []
        self.shapes: list = []
        self.options: dict[int, list] = {}
        self.follow_ups: float = 0
        self.head_reads: list[tuple] = []
        self.has_head = any(row.word in HEADS for row in spec.rows)
        self._disputed: set[int] = set()  # rows whose size is in question since a join of different sizes
        self.ancestors: list[set[int]] = []
        for row in spec.rows:
            self.ancestors.append({row.index}.union(*(self.ancestors[s] for s in row.sources if s != IMAGE)))
            self.shapes.append(self._shape_of(row))
            if len(self.problems) > limit:
                self.follow_ups = math.inf
                break

    @property
    def cost(self) -> tuple[float, float]:
        """Lines that are told, then problems that follow from them."""
        return len(self.problems), self.follow_ups

    def _tell(self, row: Row, kind: str, message: str) -> None:
        told = self.told.get(row.index)
        if any(problem.row == row.index and problem.kind == "word" for problem in self.problems):
            return  # what it means is a guess
        if kind == "place" or not (told == "all" or (told == "from" and kind in FROM_INPUTS)):
            word = "" if kind == "word" else f" {row.word}"
            self.problems.append(Problem(row.index, kind, f"{self.spec.where}, {row}{word}: {message}"))

    def _shape_of(self, row: Row):
        """The row's output shape, (c, h, w) or a list of them; what is wrong is noted."""
        options, is_head = {}, False
        block = None
        if row.word != UNREADABLE:
            try:
                block, options, is_head = find_block(row.word)
            except UserError as error:
                self._tell(row, "word", str(error))
                block, options, is_head = _nearest_block(row.word)
        inputs, last = self._gather(row, options, is_head), row is self.spec.rows[-1]
        if block is None:
            return inputs if last else self._assume(row, inputs)
        options = options_for_model(options, self.spec)
        if is_head and not last:
            behind = (
                "there is another one"
                if self.spec.rows[-1].word in HEADS
                else f"move it behind row {len(self.spec.rows) - 1}"
            )
            self._tell(row, "place", f"a head must be the last row; {behind}")
            return self._assume(row, inputs)
        if last and not is_head and not self.has_head:
            self._tell(
                row,
                "place",
                f"the last row must be a head ({', '.join(HEADS)}), such as [[17, 20, 23], 1, Detect, [nc, anchors]]",
            )
        outcome = self._try(row, block, options, inputs, is_head)
        if is_head:
            self.head_reads = inputs
            if isinstance(outcome, UserError):
                self._tell(row, "args", str(outcome))
            return inputs
        if not isinstance(outcome, UserError):
            shape, warnings = outcome
            self.warnings += [f"{self.spec.where}, {row} {row.word}: {text}" for text in warnings]
            if self.told.get(row.index) and isinstance(shape, tuple):
                return self._choose(row.index, _resized(shape))
            return shape
        return self._after_mistake(row, block, options, inputs, outcome)

    def _gather(self, row, options, is_head):
        image = (self.spec.channels, PROBE_SIZE, PROBE_SIZE)
        try:
            return gather_shapes(row, self.shapes, image, options, is_head)
        except UserError as error:
            self._tell(row, "maps", str(error))
            single = [
                self._choose(-2 - index, shape) if isinstance(shape, list) and index in row.sources else shape
                for index, shape in enumerate(self.shapes)
            ]
            return gather_shapes(row, single, image, options, is_head)

    def _after_mistake(self, row, block, options, inputs, error):
        """Tell the mistake unless it follows from another one, and go on with a likely shape."""
        sizes = {shape[1:] for shape in inputs} if row.joined and isinstance(inputs, list) else set()
        if len(sizes) > 1 and isinstance(error, RunError):
            if self._disputed.intersection(row.sources):
                self.follow_ups += 1
            else:
                self._tell(row, "join", str(error) + self._suggest_source(row, inputs))
                lineages = [self.ancestors[s] if s != IMAGE else set() for s in row.sources]
                self._disputed |= set.union(*lineages) - set.intersection(*lineages)
            width = sum(s[0] for s in inputs) if row.word == "Concat" else inputs[0][0]
            return self._choose(row.index, [(width, *size) for size in dict.fromkeys(s[1:] for s in inputs)])
        wrong = {problem.row for problem in self.problems} | set(self.told)
        if row.joined and isinstance(error, RunError) and wrong.intersection(row.sources):
            self.follow_ups += 1  # the width of a row that is wrong itself is a guess
            return self._assume(row, inputs)
        hint = self._width_in_hint(row, block, options, inputs)
        self._tell(
            row,
            "args" if hint or not isinstance(error, RunError) else "run",
            str(error).split(": Calculated")[0] + hint,
        )
        attempts = [
            self._try(attempt, block, options, inputs, False) for attempt in _without_mistakes(row, block, options)
        ]
        shapes = [outcome[0] for outcome in attempts if not isinstance(outcome, UserError)]
        if any(isinstance(shape, list) for shape in shapes):
            return shapes[0]
        return self._assume(row, inputs, shapes)

    def _width_in_hint(self, row, block, options, inputs) -> str:
        if not begins_with_width_in(row, inputs, self.spec):
            return ""
        without = self._try(replace(row, args=row.args[1:]), block, options, inputs, False)
        return "" if isinstance(without, UserError) else f"; the width in is left out: write {show_row(row.args[1:])}"

    def _suggest_source(self, row, inputs) -> str:
        """Rows of the size that the first source has, nearest to the source that differs."""
        wrong = next(s for s, shape in zip(row.sources, inputs, strict=True) if shape[1:] != inputs[0][1:])
        fit = [
            i for i, shape in enumerate(self.shapes)
            if not isinstance(shape, list) and shape[1:] == inputs[0][1:] and i not in row.sources
        ]  # fmt: skip
        nearest = sorted(fit, key=lambda i: (abs(i - wrong), i))[:2]
        size = f"{inputs[0][2]}x{inputs[0][1]}"
        return f"; row {' or '.join(map(str, sorted(nearest)))} gives {size} too" if nearest else ""

    def _try(self, row, block, options, inputs, is_head):
        """(shape, warnings) of the row as built, or the mistake as a `UserError`."""
        key = (
            row.word,
            repr((row.args, row.kwargs, row.number, row.joined, inputs)),
            repr(self.spec.anchors) if is_head else "",
        )
        names_rows = (key, row.sources)
        if key not in self._cache and names_rows not in self._cache:
            outcome = _build(self.spec, row, block, options, inputs, is_head)
            self._cache[names_rows if isinstance(outcome, UserError) else key] = outcome
        return self._cache[key] if key in self._cache else self._cache[names_rows]

    def _assume(self, row, inputs, likely=()):
        """Outputs that a row can have that cannot be built: the `likely` ones; its width as written, or the one it
        reads; the same size, half or twice."""
        first = inputs[0] if isinstance(inputs, list) else inputs
        if not isinstance(first, tuple):
            return first
        c = first[0]
        widths = [sum(s[0] for s in inputs), c] if isinstance(inputs, list) else [c]
        readers = [other for other in self.spec.rows[row.index + 1 :] if row.index in other.sources]
        written = [number for other in (row, *readers) if (number := _first_number(other.args)) is not None]
        widths = [self.spec.scale_width(number) for number in written if 8 <= number <= 2**14] + widths
        sizes = [size for _, *size in _resized(first)]
        if 2 in row.args[1:] or 2 in row.kwargs.values():
            sizes[0], sizes[1] = sizes[1], sizes[0]
        others = [(width, *size) for width in dict.fromkeys(widths) for size in sizes]
        return self._choose(row.index, list(dict.fromkeys([*likely, *others])))

    def _choose(self, key: int, candidates: list):
        self.options[key] = candidates
        choice = self.choices.get(key, 0)
        return candidates[choice if choice < len(candidates) else 0]


def begins_with_width_in(row: Row, inputs, spec: ModelSpec) -> bool:
    """Whether a row's args begin with the width it reads, and a second width, as constructors do."""
    first, second = _first_number(row.args), _first_number(row.args[1:])
    if not isinstance(inputs, tuple) or first is None or (second or 0) < 8:
        return False
    return inputs[0] in (first, spec.scale_width(first))


def _first_number(args) -> int | None:
    """The first argument, or the first within it, where that is a whole number."""
    while isinstance(args, (list, tuple)) and args:
        args = args[0]
    return args if isinstance(args, int) and not isinstance(args, bool) else None


def _resized(shape) -> list[tuple]:
    """A shape, and the same at half, twice, a quarter and four times its size."""
    c, h, w = shape
    return [shape, (c, -(-h // 2), -(-w // 2)), (c, 2 * h, 2 * w), (c, -(-h // 4), -(-w // 4)), (c, 4 * h, 4 * w)]


def find_likeliest_walk(spec: ModelSpec, cache=None, told=None, limit: float = math.inf) -> Walk:
    """The walk whose assumptions about wrong rows lead to the fewest problems after them."""
    cache = {} if cache is None else cache
    best = Walk(spec, {}, cache, told, limit)
    walks = 1
    for index in sorted(best.options):
        for choice in range(1, len(best.options.get(index, ()))):
            if walks >= _MOST_WALKS or best.cost == (0, 0):
                return best
            other = Walk(spec, {**best.choices, index: choice}, cache, told, min(limit, len(best.problems)))
            walks += 1
            if other.cost < best.cost:
                best = other
    return best


def _nearest_block(word: str):
    """What a misspelt word most likely means, as `find_block` gives it; None where nothing is near."""
    short = word.removeprefix("torch.").removeprefix("nn.")
    known = [*BLOCKS, *HEADS] if short == word else torch_layers()
    if "." in short and short.rsplit(".", 1)[1] in BLOCKS:
        short = short.rsplit(".", 1)[1]
    if "." in short:
        return None, {}, False  # of a package, not a misspelling
    near = difflib.get_close_matches(short.lower(), [k.lower() for k in known], n=1, cutoff=0.6)
    if not near:
        near = [short.lower()] if short in (known := torch_layers()) else []
    if not near:
        return None, {}, False
    found = next(k for k in known if k.lower() == near[0])
    try:
        return find_block(found if found in BLOCKS or found in HEADS else f"nn.{found}")
    except UserError:  # a word that may mean two blocks
        return None, {}, False


def _without_mistakes(row: Row, block, options):
    """The row with fewer and fewer of its arguments, the wrong ones of which are then gone."""
    names = read_signature(block, options).named
    known = {key if key in names else nearest_argument(key, names): value for key, value in row.kwargs.items()}
    known.pop(None, None)
    yield replace(row, args=row.args[: len(names)], kwargs=known)
    for count in range(len(row.args), -1, -1):
        yield replace(row, args=row.args[:count], kwargs={})


def _build(spec, row, block, options, inputs, is_head):
    """Build one row without weights in memory; blocks that cannot be built so are built for real."""
    for device in ("meta", "cpu"):
        try:
            with torch.device(device), default_activation(spec.activation):
                _, recipe, shape = (build_head if is_head else build_row)(spec, row, block, options, inputs)
        except UserError as error:
            if device == "meta" and needs_values(error):
                continue
            return error
        else:
            return shape, ([] if is_head else _argument_warnings(spec, row, block, options, recipe, inputs))


def _argument_warnings(spec, row, block, options, recipe, inputs) -> list[str]:
    """Arguments that a block takes and that are likely not meant."""
    found = []
    norm = {nn.BatchNorm2d: 0, nn.GroupNorm: 1}.get(block)
    if (
        norm is not None
        and len(row.args) > norm
        and isinstance(width := row.args[norm], int)
        and isinstance(inputs, tuple)
    ):
        if inputs[0] not in (width, spec.scale_width(width)):
            found.append(f"is written for {width} channels, but reads {inputs[0]}, which are taken")
    for name, parameter in read_signature(block, options).named.items():
        value, default = recipe.kwargs.get(name, parameter.default), parameter.default
        if isinstance(default, bool) and isinstance(value, (int, float)) and value not in (0, 1):
            found.append(f"argument '{name}' is {value}, expected true or false")
        elif isinstance(value, bool) and isinstance(default, int) and not isinstance(default, bool):
            found.append(f"argument '{name}' is {value}, expected a number such as {default}")
        elif plain_name(name) in _REDUCTIONS and isinstance(value, int) and value > 1 and isinstance(inputs, tuple):
            if inputs[0] % value:
                divisors = [d for d in range(1, inputs[0] + 1) if inputs[0] % d == 0]
                nearest = min(divisors, key=lambda d: abs(d - value))
                found.append(f"{inputs[0]} channels do not divide by {name} {value}; {nearest} does")
    return found
