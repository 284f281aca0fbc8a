"""The one parse of a model YAML: its values, and the line and column of each key and row."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import yaml

from graftdet.utils.config import compose_yaml

Path = tuple[str | int, ...]
"""Keys and indices that lead to a value: ("backbone", 3, 2) is the module of the fourth row there."""

_DEPTH = 4


class Position(NamedTuple):
    """Line and column, counted from 1; None where they are not known."""

    line: int | None = None
    column: int | None = None


@dataclass(frozen=True)
class Positions:
    """Positions of keys (of mappings) and of elements (of lists), by their path."""

    known: Mapping[Path, Position] = field(default_factory=dict)
    keys: Mapping[str, str] = field(default_factory=dict)  # keys as they are meant -> as they are written

    def find(self, path: Path) -> Position:
        """The position of what `path` leads to, or of the nearest thing around it."""
        if path:
            path = (self.keys.get(str(path[0]), path[0]), *path[1:])
        while path:
            if path in self.known:
                return self.known[path]
            path = path[:-1]
        return Position()

    def __deepcopy__(self, memo) -> "Positions":
        return self


@dataclass(frozen=True)
class Document:
    """A parsed YAML text: the mapping that it holds, the node behind it, and the positions."""

    text: str
    values: dict
    root: yaml.MappingNode
    positions: Positions

    @classmethod
    def parse(cls, text: str, file: str) -> "Document":
        """Parse YAML text that holds a mapping.

        Raises:
            YamlError: the text is not valid YAML, or holds something other than a mapping.
        """
        values, root, aliases = compose_yaml(text, file)
        known: dict[Path, Position] = {}
        _collect(root, (), aliases, known)
        return cls(text, values, root, Positions(known))


def _collect(node: yaml.Node, path: Path, aliases: Mapping, known: dict[Path, Position]) -> None:
    if len(path) >= _DEPTH:
        return
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            step = (*path, key.value if isinstance(key.value, str) else str(key.start_mark.index))
            known[step] = _position(key.start_mark)  # a later one wins: merged keys come first
            _collect(value, step, aliases, known)
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            known[(*path, index)] = _position(aliases.get((id(node), index), item.start_mark))
            _collect(item, (*path, index), aliases, known)


def _position(mark: yaml.Mark) -> Position:
    return Position(mark.line + 1, mark.column + 1)
