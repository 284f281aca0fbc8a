"""What a broken row most likely means: its arguments without the wrong ones, its likely sizes."""

import inspect
from collections.abc import Iterator
from dataclasses import replace

from graftdet.models.graph.argument_checks import nearest_argument
from graftdet.models.graph.modules import Module
from graftdet.models.graph.signatures import SHORT_NAMES, plain_name, read_signature
from graftdet.models.spec.model_spec import ModelSpec
from graftdet.models.spec.row import Row

Shape = tuple[int, int, int]
"""Channels, height, width of a map."""


def begins_with_input_width(row: Row, inputs: Shape | list[Shape], spec: ModelSpec) -> bool:
    """Whether a row's args begin with the width it reads, followed by a second width, as constructors do."""
    first, second = first_number(row.args), first_number(row.args[1:])
    if not isinstance(inputs, tuple) or first is None or (second or 0) < 8:
        return False
    return inputs[0] in (first, spec.scale_width(first))


def first_number(args: object) -> int | None:
    """The first argument, or the first within it, where that is a whole number."""
    while isinstance(args, (list, tuple)) and args:
        args = args[0]
    return args if isinstance(args, int) and not isinstance(args, bool) else None


def resized_shapes(shape: Shape) -> list[Shape]:
    """A shape, and the same at half, twice, a quarter and four times its size."""
    c, h, w = shape
    return [shape, (c, -(-h // 2), -(-w // 2)), (c, 2 * h, 2 * w), (c, -(-h // 4), -(-w // 4)), (c, 4 * h, 4 * w)]


def without_broken_sizes(row: Row, inputs: Shape | list) -> Shape | list:
    """What a row reads, where broken sources have the size of a source that is not."""
    sound = [i for i in range(len(row.sources)) if i not in row.broken_sources]
    if not row.broken_sources or not sound or not isinstance(inputs, list) or len(inputs) != len(row.sources):
        return inputs
    if any(isinstance(shape, list) for shape in inputs):  # it takes maps of any size
        return inputs
    size = inputs[sound[0]][1:]
    return [(shape[0], *size) if i in row.broken_sources else shape for i, shape in enumerate(inputs)]


def without_wrong_arguments(row: Row, module: Module) -> Iterator[Row]:
    """The row with its arguments repaired, then with fewer and fewer of them, so that the wrong ones are gone."""
    names = read_signature(module.block, module.options).named
    known = {key if key in names else nearest_argument(key, names): value for key, value in row.kwargs.items()}
    known.pop(None, None)
    args = [_as_number(value) for value in row.args]
    yield replace(row, args=tuple(args[: len(names)]), kwargs={key: _as_number(value) for key, value in known.items()})
    for count in range(len(row.args), -1, -1):
        yield replace(row, args=tuple(args[:count]), kwargs={})


def _as_number(value):
    """The whole number that a text means; other values as they are."""
    return int(value) if isinstance(value, str) and value.strip().lstrip("-").isdigit() else value


def has_same_size_arguments(row: Row, attempt: Row, module: Module) -> bool:
    """Whether an attempt has all arguments of the row that determine its output size."""
    (given, parameters), (tried, _) = given_arguments(row, module), given_arguments(attempt, module)
    names = [name for name in parameters if any(plain_name(name) in SHORT_NAMES[key] for key in "skpd")]
    return all(tried.get(name) == _as_number(given.get(name)) for name in names)


def given_arguments(row: Row, module: Module) -> tuple[dict, dict[str, inspect.Parameter]]:
    """The arguments of a row by name (misspelled: the nearest one), and the parameters that it may give, in order."""
    signature = read_signature(module.block, module.options)
    parameters = {name: p for name, p in signature.named.items() if name not in (signature.width_in, "n")}
    given = dict(zip(parameters, row.args, strict=False))
    for key, value in row.kwargs.items():
        name = key if key in parameters else nearest_argument(key, parameters)
        if name:
            given[name] = value
    return given, parameters
