"""Positions of rows, sources and modules in the text of a model YAML, with aliases (`*a`) resolved."""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml import events as ev
from ruamel.yaml.error import YAMLError
from ruamel.yaml.tokens import BlockEntryToken, FlowEntryToken

from graftdet.utils.errors import UserError

SECTIONS = ("backbone", "head")
_PROPERTIES = re.compile(r"(?:[&!][^\s,\[\]{}]*\s+)*")  # an anchor or a tag before a value


@dataclass
class Node:
    """A YAML node in the text.

    Attributes:
        start: Index of its first character, including an anchor or tag.
        inner: Index of its first character after anchor and tag.
        end: Index after its last character.
        value: Text of a scalar without quotes; None for lists and mappings.
        children: Items of a list; key, value, key, value ... of a mapping.
        flow: Written in flow style (`[...]` or `{...}`).
        line: Line number from 0.
        alias: For an alias, the node that it refers to.
    """

    start: int
    inner: int
    end: int
    value: str | None = None
    children: list["Node"] = field(default_factory=list)
    flow: bool = False
    line: int = 0
    alias: "Node | None" = None

    @property
    def target(self) -> "Node":
        """The node that an alias refers to, else the node itself."""
        return self.alias or self


@dataclass
class RowLocation:
    """A row in the text.

    Attributes:
        node: The row.
        section: The list that contains it.
        dash: Index of the dash before it; -1 in flow style.
        comma: Index of the comma after it, if there is one.
    """

    node: Node
    section: Node
    dash: int
    comma: int | None

    @property
    def from_node(self) -> Node:
        """The row's `from`, a scalar or a list."""
        return self.node.target.children[0]

    @property
    def sources(self) -> list[Node]:
        """The scalars of the row's `from`; some may be aliases."""
        return self.from_node.target.children or [self.from_node]

    @property
    def module(self) -> Node:
        """The module name."""
        return self.node.target.children[2]


def locate_rows(text: str, where: str) -> list[RowLocation]:
    """Return the locations of all rows in order.

    Args:
        text: A YAML that `ModelSpec` can read.
        where: Name of the file, for messages.

    Raises:
        UserError: If a section is an alias or merged, or a row is not a list.
    """
    try:
        events = YAML(typ="safe", pure=True).parse(text)
        root = _compose(text, iter(events), {})
        tokens = list(YAML(typ="safe", pure=True).scan(text))
    except (YAMLError, StopIteration, RecursionError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else "malformed YAML"
        raise UserError(f"{where}: its rows cannot be located in the text ({reason})") from None
    sections = {key.value: value for key, value in zip(root.children[::2], root.children[1::2], strict=True)}
    dashes = [t.start_mark.index for t in tokens if isinstance(t, BlockEntryToken)]
    commas = [t.start_mark.index for t in tokens if isinstance(t, FlowEntryToken)]
    locations = []
    for name in SECTIONS:
        section = sections.get(name)
        if section is None or section.alias:
            raise UserError(f"{where}: '{name}' is an alias or merged (YAML's * and <<); write out its rows first")
        for number, node in enumerate(section.children):
            dash = bisect_left(dashes, node.start) - 1
            comma = bisect_right(commas, node.end - 1)
            limit = section.children[number + 1].start if number + 1 < len(section.children) else section.end
            locations.append(
                RowLocation(
                    node,
                    section,
                    dashes[dash] if dash >= 0 and not section.flow else -1,
                    commas[comma] if section.flow and comma < len(commas) and commas[comma] < limit else None,
                )
            )
    if any(len(row.node.target.children) < 4 or row.module.target.value is None for row in locations):
        raise UserError(f"{where}: expected rows that are lists [from, number, module, args]")
    return locations


def _compose(text: str, events: Iterator, anchors: dict[str, Node], event: Any = None) -> Node:
    """The node that starts with `event` (default: the first one of the document)."""
    while event is None or isinstance(event, (ev.StreamStartEvent, ev.DocumentStartEvent)):
        event = next(events)
    start, end = event.start_mark.index, event.end_mark.index
    if isinstance(event, ev.AliasEvent):
        return Node(start, start, end, line=event.start_mark.line, alias=anchors[event.anchor])
    inner = _PROPERTIES.match(text, start).end() if event.anchor or event.tag else start
    node = Node(start, inner, end, getattr(event, "value", None), line=event.start_mark.line)
    if event.anchor:
        anchors[event.anchor] = node
    if isinstance(event, ev.ScalarEvent):
        return node
    node.flow = bool(event.flow_style)
    for child in events:
        if isinstance(child, (ev.SequenceEndEvent, ev.MappingEndEvent)):
            # a list in block style ends after its comments according to its mark: take the end of its last child
            node.end = child.end_mark.index if node.flow or not node.children else node.children[-1].end
            return node
        node.children.append(_compose(text, events, anchors, child))
    raise ValueError("unexpected end of the document")
