"""One row of a model YAML, with its sources as row indices."""

from dataclasses import dataclass, field

IMAGE = -1
"""The source of a row that reads the image itself."""

MAX_REPEATS = 1000
"""Largest number of a row, before and after the depth multiple."""

UNREADABLE = "?"
"""The module of a row that could not be read, where reading continues."""

PARTS = ("from", "number", "module", "args", "name")
"""The elements of a row, in order."""


@dataclass(frozen=True)
class Row:
    """One row `[from, number, module, args, name]` of a model YAML.

    Attributes:
        index: of the row, over both sections.
        section, position: "backbone" or "head", and the index within it.
        sources: indices of the rows that it reads, `IMAGE` for the image.
        joined: `from` was a list, so the block receives a list of maps.
        number: as written, before the depth multiple.
        module: name of the block.
        args, kwargs: positional and named arguments, as written.
        name: the row's own name.
        written: the row as the author wrote it.
        path: keys and indices that lead to it in the YAML.
        in_order: `written` has the elements of a row in their order.
        broken_sources: positions in `sources` of those that name no row before this one, and are a guess.
    """

    index: int
    section: str
    position: int
    sources: tuple[int, ...]
    joined: bool
    number: int
    module: str
    args: tuple
    kwargs: dict
    name: str | None
    written: list = field(compare=False)
    path: tuple[str | int, ...] = field(default=(), compare=False)
    in_order: bool = field(default=True, compare=False)
    broken_sources: frozenset[int] = field(default=frozenset(), compare=False)

    def __str__(self) -> str:
        named = f" '{self.name}'" if self.name else ""
        return f"row {self.index} ({self.section} row {self.position}){named}"

    @property
    def written_sources(self) -> list:
        """The sources as the author wrote them; [] where the row is no list."""
        source = self.written[0] if isinstance(self.written, list) and self.written else []
        return source if isinstance(source, list) else [source]

    def path_of(self, part: str | None) -> tuple[str | int, ...]:
        """The path of an element ("from", "module", ...) in the YAML; of the row itself where that is not known."""
        return (*self.path, PARTS.index(part)) if part and self.in_order else self.path


def show_row(written) -> str:
    """The row as a YAML file has it: `[-1, 1, Conv, [64, 3, 2]]`."""
    if isinstance(written, (list, tuple)):
        return "[" + ", ".join(map(show_row, written)) + "]"
    if isinstance(written, dict):
        return "{" + ", ".join(f"{key}: {show_row(value)}" for key, value in written.items()) + "}"
    return str(written) if not isinstance(written, str) or written.strip() else repr(written)


def scale_depth(number: int, multiple: float) -> int:
    """Return how many blocks a row's `number` builds: that times the depth `multiple`, at least 1; 1 stays 1."""
    return max(round(number * multiple), 1) if number > 1 else number
