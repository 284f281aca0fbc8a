"""TODO"""

import re
from dataclasses import dataclass, field

IMAGE = -1  # the source of a row that reads the picture itself


MOST_REPEATS = 1000  # of a row's number, by itself and times the depth multiple


UNREADABLE = "?"  # the word of a row that could not be read, where reading goes on


@dataclass(frozen=True)
class Row:
    """One row `[from, number, module, args, name]` of a model YAML, its sources resolved to row indices."""

    index: int
    section: str
    position: int  # within its section
    sources: tuple[int, ...]  # absolute indices, IMAGE for the picture
    joined: bool  # `from` was a list: the block receives a list of maps
    number: int
    word: str
    args: tuple
    kwargs: dict
    name: str | None
    written: list = field(compare=False)  # the row as the author wrote it

    def __str__(self):
        named = f" '{self.name}'" if self.name else ""
        return f"row {self.index} ({self.section} row {self.position}){named}"

    @property
    def written_sources(self) -> list:
        """The sources as the author wrote them; [] where the row is no list."""
        source = self.written[0] if isinstance(self.written, list) and self.written else []
        return source if isinstance(source, list) else [source]


def row_in(line: str) -> int:
    """The index of the row that a line of `check` is about; -1 for the file as a whole."""
    found = re.search(r", row (\d+) ", line)
    return int(found[1]) if found else -1


def show_row(written) -> str:
    """The row as it stands in a file: `[-1, 1, Conv, [64, 3, 2]]`."""
    if isinstance(written, (list, tuple)):
        return "[" + ", ".join(map(show_row, written)) + "]"
    if isinstance(written, dict):
        return "{" + ", ".join(f"{key}: {show_row(value)}" for key, value in written.items()) + "}"
    return str(written) if not isinstance(written, str) or written.strip() else repr(written)
