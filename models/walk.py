"""Going through all rows of a model YAML, mistakes or not: what is wrong, and the shapes that follow all the same."""

import difflib
from dataclasses import replace

import torch

from utils.errors import UserError

from .activations import default_activation
from .blocks import BLOCKS
from .heads import HEADS
from .probe import PROBE_SIZE
from .rows import build_head, build_row, find_block, gather_shapes, settle_options, torch_layers
from .rules import nearest_argument, scale_width
from .signatures import plain_name, read_signature
from .spec import IMAGE, UNREADABLE, ModelSpec, Row

_MOST_WALKS = 40
_REDUCTIONS = ("reduction", "reductionratio", "r", "squeeze", "squeezefactor")


class Walk:
    """One pass over the rows.

    `choices` says which of the likely outputs a wrong row gets (row -> place in `options[row]`, default the first); of
    the maps of row i that were read without choosing one, the key is -2 - i.
    Afterwards `problems` and `warnings` are lines of text, `shapes` the output of each row, `follow_ups` the number of
    problems that follow from one that is told already.
    """

    def __init__(self, spec: ModelSpec, choices: dict[int, int], cache: dict):
        self.spec, self.choices, self._cache = spec, choices, cache
        self.problems: list[str] = []
        self.warnings: list[str] = []
        self.shapes: list = []
        self.options: dict[int, list] = {}
        self.follow_ups = 0
        self.head_reads: list[tuple] = []
        self._disputed: set[int] = set()  # rows whose size is in question since a join of different sizes
        self._ancestors: list[set[int]] = []
        for row in spec.rows:
            self._ancestors.append({row.index}.union(*(self._ancestors[s] for s in row.sources if s != IMAGE)))
            self.shapes.append(self._shape_of(row))

    @property
    def cost(self) -> tuple[int, int]:
        """Lines that are told, then problems that follow from them."""
        return len(self.problems), self.follow_ups

    def _tell(self, row: Row, message: str, word: bool = True) -> None:
        self.problems.append(f"{self.spec.where}, {row}{f' {row.word}' if word else ''}: {message}")

    def _shape_of(self, row: Row):
        """The row's output shape, (c, h, w) or a list of them; what is wrong is noted."""
        options, is_head = {}, False
        block = None
        if row.word != UNREADABLE:
            try:
                block, options, is_head = find_block(row.word)
            except UserError as error:
                self._tell(row, str(error), word=False)
                block, options, is_head = _nearest_block(row.word)
        inputs = self._gather(row, options, is_head)
        if block is None:
            last = row.index == len(self.spec.rows) - 1
            return self._assume(row, inputs) if not last else inputs
        options = settle_options(options, self.spec)
        last = row.index == len(self.spec.rows) - 1
        if is_head != last:
            self._tell(row, "a head must be the last row" if is_head else f"the last row must be a head ({', '.join(HEADS)})")
        outcome = self._try(row, block, options, inputs, is_head)
        if is_head:
            self.head_reads = inputs
            if isinstance(outcome, str) and last:
                self._tell(row, outcome)
            return inputs if last else self._assume(row, inputs)
        if not isinstance(outcome, str):
            shape, warnings = outcome
            self.warnings += [f"{self.spec.where}, {row} {row.word}: {text}" for text in warnings]
            return shape
        return self._after_mistake(row, block, options, inputs, outcome)

    def _gather(self, row, options, is_head):
        image = (self.spec.channels, PROBE_SIZE, PROBE_SIZE)
        try:
            return gather_shapes(row, self.shapes, image, options, is_head)
        except UserError as error:
            self._tell(row, str(error))
            single = [
                self._choose(-2 - index, shape) if isinstance(shape, list) and index in row.sources else shape
                for index, shape in enumerate(self.shapes)
            ]
            return gather_shapes(row, single, image, options, is_head)

    def _after_mistake(self, row, block, options, inputs, message):
        """Tell the mistake unless it follows from another one, and go on with a likely shape."""
        sizes = {shape[1:] for shape in inputs} if isinstance(inputs, list) else set()
        if len(sizes) > 1:
            if self._disputed.intersection(row.sources):
                self.follow_ups += 1
            else:
                self._tell(row, message + self._suggest_source(row, inputs))
                lineages = [self._ancestors[s] if s != IMAGE else set() for s in row.sources]
                self._disputed |= set.union(*lineages) - set.intersection(*lineages)
            width = sum(s[0] for s in inputs) if row.word == "Concat" else inputs[0][0]
            return self._choose(row.index, [(width, *size) for size in dict.fromkeys(s[1:] for s in inputs)])
        self._tell(row, message)
        attempts = [self._try(attempt, block, options, inputs, False) for attempt in _without_mistakes(row, block, options)]
        shapes = [outcome[0] for outcome in attempts if not isinstance(outcome, str)]
        if any(isinstance(shape, list) for shape in shapes):
            return shapes[0]
        return self._assume(row, inputs, shapes)

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
        """(shape, warnings) of the row as built, or the mistake as text."""
        key = (row.index, row.word, repr((row.args, row.kwargs, inputs)))
        if key not in self._cache:
            self._cache[key] = _build(self.spec, row, block, options, inputs, is_head)
        return self._cache[key]

    def _assume(self, row, inputs, likely=()):
        """Outputs that a row can have that cannot be built: the `likely` ones; its width as written, or the one it
        reads; the same size, half or twice."""
        first = inputs[0] if isinstance(inputs, list) else inputs
        if not isinstance(first, tuple):
            return first
        c, h, w = first
        number = row.args[0] if row.args else None
        widths = [sum(s[0] for s in inputs), c] if isinstance(inputs, list) else [c]
        if isinstance(number, int) and not isinstance(number, bool) and 8 <= number <= 2**14:
            widths.insert(0, scale_width(number, self.spec.width_multiple))
        sizes = [(h, w), (-(-h // 2), -(-w // 2)), (2 * h, 2 * w)]
        if 2 in row.args[1:] or 2 in row.kwargs.values():
            sizes[0], sizes[1] = sizes[1], sizes[0]
        others = [(width, *size) for width in dict.fromkeys(widths) for size in sizes]
        return self._choose(row.index, list(dict.fromkeys([*likely, *others])))

    def _choose(self, key: int, candidates: list):
        self.options[key] = candidates
        choice = self.choices.get(key, 0)
        return candidates[choice if choice < len(candidates) else 0]


def find_likeliest_walk(spec: ModelSpec) -> Walk:
    """The walk whose assumptions about wrong rows lead to the fewest problems after them."""
    cache: dict = {}
    best = Walk(spec, {}, cache)
    walks = 1
    for index in sorted(best.options):
        for choice in range(1, len(best.options.get(index, ()))):
            if walks >= _MOST_WALKS or best.cost == (0, 0):
                return best
            other = Walk(spec, {**best.choices, index: choice}, cache)
            walks += 1
            if other.cost < best.cost:
                best = other
    return best


def _nearest_block(word: str):
    """What a misspelt word most likely means, as `find_block` gives it; None where nothing is near."""
    short = word.removeprefix("torch.").removeprefix("nn.")
    known = [*BLOCKS, *HEADS] if short == word else torch_layers()
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
    message = ""
    for device in ("meta", "cpu"):
        try:
            with torch.device(device), default_activation(spec.activation):
                _, recipe, shape = (build_head if is_head else build_row)(spec, row, block, options, inputs, None)
        except UserError as error:
            message = str(error)
        else:
            return shape, ([] if is_head else _argument_warnings(row, block, options, recipe, inputs))
    return message


def _argument_warnings(row, block, options, recipe, inputs) -> list[str]:
    """Arguments that a block takes and that are likely not meant."""
    found = []
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
