"""A pass over all rows of a model YAML, broken or not: the problems, and the shapes that follow all the same."""

import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace

from graftdet.models.blocks.registration import BlockOptions
from graftdet.models.graph.errors import (
    HeadPositionError,
    MapListError,
    RowError,
    RunError,
    SizeMismatchError,
    renamed_argument_problem,
    row_problem,
    written_argument_problems,
)
from graftdet.models.graph.module_names import nearest_module
from graftdet.models.graph.modules import Module, find_block
from graftdet.models.graph.row_builder import flat_shapes, gather_shapes, options_for_model, renamed_arguments
from graftdet.models.graph.row_checks import check_head_position
from graftdet.models.graph.shape_inference import PROBE_SIZE
from graftdet.models.heads import HEADS
from graftdet.models.lint.assumptions import (
    begins_with_input_width,
    first_number,
    has_same_size_arguments,
    resized_shapes,
    without_broken_sizes,
    without_wrong_arguments,
)
from graftdet.models.lint.row_cache import RowCache, build_without_memory
from graftdet.models.spec.model_spec import ModelSpec
from graftdet.models.spec.problems import Problem
from graftdet.models.spec.row import IMAGE, UNREADABLE, Row, show_row
from graftdet.utils.errors import UserError

_MAX_PASSES = 60
INPUT_RULES = frozenset(("map-list", "cannot-run", "size-mismatch", "width-mismatch"))
"""Rules of problems that may come from what a row reads, so that an earlier row may be the cause."""


class Propagation:
    """One pass over the rows, in which their shapes propagate.

    Args:
        spec: the model.
        choices: which of its likely outputs a broken row gets: row -> index in `candidates[row]`, by default the first.
            For the maps of row i that were read without picking one, the key is -2 - i.
        cache: outcomes of building rows, shared by passes over similar models.
        parsed: rows with a problem that was reported when they were parsed: row -> "inputs" where its sources are
            wrong, "own" where it is repaired and another problem may come from that only if it is its own, "all" where
            it is not readable.
        limit: the pass ends at more problems than that.

    Attributes:
        problems, warnings: what was found, in the order of rows.
        shapes: output of each row, a shape (c, h, w) or a list of them; of the head, what it reads.
        candidates: the likely outputs of broken rows, by key as in `choices`.
        consequences: number of problems that follow from others, which are not reported.
        levels: what the head reads.
        ancestors: for each row, the rows that lead to it, itself included.
    """

    def __init__(
        self,
        spec: ModelSpec,
        choices: Mapping[int, int] | None = None,
        cache: RowCache | None = None,
        parsed: Mapping[int, str] | None = None,
        limit: float = math.inf,
    ):
        self.spec, self.choices, self.parsed = spec, choices or {}, parsed or {}
        self._cache = RowCache() if cache is None else cache
        self.problems: list[Problem] = []
        self.warnings: list[Problem] = []
        self.shapes: list = []
        self.candidates: dict[int, list] = {}
        self.consequences: float = 0
        self.levels: list[tuple] = []
        self.ancestors: list[set[int]] = []
        self._unknown: set[int] = set()  # rows whose module is not known, so that their output is a guess
        self._disputed: set[int] = set()  # rows whose size is uncertain since a join of different sizes
        self._image = (spec.channels, PROBE_SIZE, PROBE_SIZE)
        for row in spec.rows:
            self.ancestors.append({row.index}.union(*(self.ancestors[s] for s in row.sources if s != IMAGE)))
            self.shapes.append(self._shape_of(row))
            if len(self.problems) > limit or self._cache.is_expired:
                self.consequences = math.inf
                break

    @property
    def cost(self) -> tuple[float, float]:
        """Problems that are reported, then problems that follow from them; infinite for a pass that was ended."""
        return (math.inf if self.consequences == math.inf else len(self.problems)), self.consequences

    def input_of(self, row: Row):
        """The shape that the first source of a row gives."""
        return self.shapes[row.sources[0]] if row.sources[0] != IMAGE else self._image

    def _report(self, row: Row, error: UserError) -> None:
        """Add the problem, unless the row is not read as it is meant and the problem may come from that."""
        problem = row_problem(self.spec, row, error)
        if any(other.row == row.index and other.rule == "unknown-module" for other in self.problems):
            return
        scope = self.parsed.get(row.index)
        hidden = (problem.rule in INPUT_RULES) == (scope == "inputs") if scope in ("inputs", "own") else scope == "all"
        if not hidden or isinstance(error, HeadPositionError):
            self.problems.append(problem)

    def _shape_of(self, row: Row):
        """The row's output; what is wrong is reported."""
        module = self._module_of(row)
        is_head, last = module is not None and module.is_head, row is self.spec.rows[-1]
        inputs = without_broken_sizes(row, self._gather(row, module))
        if module is None:
            return inputs if last else self._assume(row, inputs)
        try:
            if is_head or not any(other.module in HEADS for other in self.spec.rows):
                check_head_position(self.spec, row, is_head)
        except HeadPositionError as error:
            self._report(row, error)
            if is_head:
                return self._assume(row, inputs)
        outcome = self._try(row, module, inputs)
        if is_head:
            self.levels = inputs  # type: ignore[assignment]
            if isinstance(outcome, UserError) and self._follows_from_unknown(row, module, inputs, outcome):
                return inputs
            for old, new in renamed_arguments(row, module.options).items():
                self.warnings.append(renamed_argument_problem(self.spec, row, old, new))
            if isinstance(outcome, UserError):
                self._report(row, outcome)
            return inputs
        if isinstance(outcome, UserError):
            if any(problem.row == row.index and problem.rule == "unknown-module" for problem in self.problems):
                self._unknown.add(row.index)
            return self._after_error(row, module, inputs, outcome)
        shape, warnings, call = outcome
        self.warnings += written_argument_problems(self.spec, row, call)
        for text, hint in warnings:
            self.warnings.append(self.spec.problem("suspicious-argument", text, hint, row, "args", severity="warning"))
        certain = 0 < len(row.broken_sources) < len(row.sources)
        if self.parsed.get(row.index) == "inputs" and isinstance(shape, tuple) and not certain:
            return self._choose(row.index, resized_shapes(shape))
        return shape

    def _module_of(self, row: Row) -> Module | None:
        """The class of the row's module, the nearest one where it is unknown, with the options for this model."""
        found = None
        if row.module != UNREADABLE:
            try:
                found = find_block(row.module)
            except UserError as error:
                self._report(row, error)
                with suppress(UserError):  # a name that may mean two modules
                    near = nearest_module(row.module)
                    found = find_block(near) if near else None
                if found is None:
                    self._unknown.add(row.index)
        return found and found._replace(options=options_for_model(found.options, self.spec))

    def _gather(self, row: Row, module: Module | None):
        options = BlockOptions() if module is None else module.options
        try:
            return gather_shapes(row, self.shapes, self._image, options)
        except MapListError as error:
            self._report(row, error)
            single = [
                self._choose(-2 - index, shape) if isinstance(shape, list) and index in row.sources else shape
                for index, shape in enumerate(self.shapes)
            ]
            return gather_shapes(row, single, self._image, options)

    def _after_error(self, row: Row, module: Module, inputs, error: UserError):
        """Report the error unless it follows from another one, and continue with a likely shape."""
        follows = self._follows_from_unknown(row, module, inputs, error)
        if isinstance(error, SizeMismatchError):
            if self._disputed.intersection(row.sources) and not follows:
                self.consequences += 1
            elif not follows:
                self._report(row, SizeMismatchError(error.message, self._source_hint(row, inputs)))
                lineages = [self.ancestors[s] if s != IMAGE else set() for s in row.sources]
                self._disputed |= set.union(*lineages) - set.intersection(*lineages)  # type: ignore[arg-type]
            width = sum(s[0] for s in inputs) if row.module == "Concat" else inputs[0][0]
            return self._choose(row.index, [(width, *size) for size in dict.fromkeys(s[1:] for s in inputs)])
        if follows:
            return self._assume(row, inputs)
        wrong = {problem.row for problem in self.problems} | set(self.parsed)
        if row.joined and isinstance(error, RunError) and wrong.intersection(row.sources):
            self.consequences += 1  # the width of a broken row is a guess
            return self._assume(row, inputs)
        self._report(row, self._explain_width_in(row, module, inputs) or error)
        shapes = []
        for attempt in without_wrong_arguments(row, module):
            outcome = self._try(attempt, module, inputs)
            if not isinstance(outcome, UserError):
                if isinstance(outcome[0], list) or has_same_size_arguments(row, attempt, module):
                    return outcome[0]
                shapes.append(outcome[0])
        return self._assume(row, inputs, shapes, keeps_size=row.joined and type(error) is RunError)

    def _follows_from_unknown(self, row: Row, module: Module, inputs, error: UserError) -> bool:
        """Whether an error may come from the guessed output of an unknown module: it is counted, not reported.

        Wrong arguments are reported where the row cannot be built for maps of other widths either.
        """
        if not self._unknown.intersection(self.ancestors[row.index] - {row.index}):
            return False
        if not isinstance(error, RunError):
            shapes = inputs if isinstance(inputs, list) else [inputs]
            others = [[_with_width(shape, width) for shape in shapes] for width in (64, 256)]
            others = others if isinstance(inputs, list) else [other[0] for other in others]  # type: ignore[misc]
            if all(isinstance(self._try(row, module, other), UserError) for other in others):
                return False
        self.consequences += 1
        return True

    def _explain_width_in(self, row: Row, module: Module, inputs) -> RowError | None:
        """The error of a row whose args begin with the input width, which is filled in; None where it is not that."""
        if not begins_with_input_width(row, inputs, self.spec):
            return None
        without = self._try(replace(row, args=row.args[1:]), module, inputs)
        if isinstance(without, UserError):
            return None
        message = f"args begin with {row.args[0]}, but the input width is filled in"
        return RowError(message, f"write {show_row(row.args[1:])}", None if row.kwargs else show_row(row.args[1:]))

    def _source_hint(self, row: Row, inputs) -> str:
        """Rows of the size that the first source has, nearest to the source that differs."""
        wrong = next(s for s, shape in zip(row.sources, inputs, strict=True) if shape[1:] != inputs[0][1:])
        fit = [
            index
            for index, shape in enumerate(self.shapes)
            if not isinstance(shape, list) and shape[1:] == inputs[0][1:] and index not in row.sources
        ]
        nearest = sorted(fit, key=lambda index: (abs(index - wrong), index))[:2]
        size = f"{inputs[0][2]}x{inputs[0][1]}"
        return f"row {' or '.join(map(str, sorted(nearest)))} is {size}, too" if nearest else ""

    def _try(self, row: Row, module: Module, inputs):
        """Shape, warnings and arguments of the row as built, or the error."""
        anchors = repr(self.spec.anchors) if module.is_head else ""
        key = (row.module, repr((row.args, row.kwargs, row.number, row.joined, inputs)), anchors)
        with_sources = (key, row.sources)  # an error names rows
        if key not in self._cache and with_sources not in self._cache:
            outcome = build_without_memory(self.spec, row, module, inputs)
            self._cache[with_sources if isinstance(outcome, UserError) else key] = outcome
        return self._cache[key] if key in self._cache else self._cache[with_sources]

    def _assume(self, row: Row, inputs, likely=(), keeps_size: bool = False):
        """A likely output of a row that cannot be built.

        It is one of the `likely` ones, or its width as written or as it reads, at the same size, half or twice; with
        `keeps_size`, as of a join whose widths are wrong, at the same size only.
        """
        if isinstance(inputs, list) and any(isinstance(shape, list) for shape in inputs):
            inputs = flat_shapes(inputs)[-1]  # lists are added to the last source
        first = inputs[0] if isinstance(inputs, list) else inputs
        if not isinstance(first, tuple):
            return first
        widths = [sum(s[0] for s in inputs), first[0]] if isinstance(inputs, list) else [first[0]]
        readers = [other for other in self.spec.rows[row.index + 1 :] if row.index in other.sources]
        written = [number for other in (row, *readers) if (number := first_number(other.args)) is not None]
        widths = [self.spec.scale_width(number) for number in written if 8 <= number <= 2**14] + widths
        sizes = [size for _, *size in resized_shapes(first)]
        if 2 in row.args[1:] or 2 in row.kwargs.values():
            sizes[0], sizes[1] = sizes[1], sizes[0]
        sizes = sizes[:1] if keeps_size and isinstance(inputs, list) else sizes
        others = [(width, *size) for width in dict.fromkeys(widths) for size in sizes]
        return self._choose(row.index, list(dict.fromkeys([*likely, *others])))

    def _choose(self, key: int, candidates: list):
        self.candidates[key] = candidates
        choice = self.choices.get(key, 0)
        return candidates[choice if choice < len(candidates) else 0]


def _with_width(shape, width: int):
    """A shape with another width; a list of shapes with that width each."""
    return [_with_width(one, width) for one in shape] if isinstance(shape, list) else (width, *shape[1:])


def propagate(
    spec: ModelSpec, cache: RowCache | None = None, parsed: Mapping[int, str] | None = None, limit: float = math.inf
) -> Propagation:
    """The pass whose assumptions about broken rows lead to the fewest later problems; arguments as `Propagation`."""
    cache = RowCache() if cache is None else cache
    best = Propagation(spec, {}, cache, parsed, limit)
    cache.start_search()
    passes = 1
    for key in sorted(best.candidates):
        for choice in range(1, len(best.candidates.get(key, ()))):
            if passes >= _MAX_PASSES or best.cost == (0, 0) or cache.is_expired:
                return best
            choices = {**best.choices, key: choice}
            other = Propagation(spec, choices, cache, parsed, min(limit, len(best.problems)))
            passes += 1
            if other.cost < best.cost:
                best = other
    return best
