"""Where rows, their sources and their words stand in the text of a model YAML, aliases (`*a`) told from what they mean."""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field

from graftdet.utils.errors import UserError
from ruamel.yaml import YAML
from ruamel.yaml import events as ev
from ruamel.yaml.error import YAMLError
from ruamel.yaml.tokens import BlockEntryToken, FlowEntryToken

SECTIONS = ("backbone", "head")
_PROPERTIES = re.compile(r"(?:[&!][^\s,\[\]{}]*\s+)*")  # an anchor or a tag in front of a value


@dataclass
class Part:
    """A piece of YAML in the text, from character `start` (its anchor or tag counts) to `end`; `inner` is behind those.

    A list or a mapping has `parts` (of a mapping: key, value, key, value); `value` is a scalar's text without quotes.
    `alias` is the part that an alias stands for.
    """

    start: int
    inner: int
    end: int
    value: str | None = None
    parts: list["Part"] = field(default_factory=list)
    flow: bool = False
    line: int = 0
    alias: "Part | None" = None

    @property
    def meant(self) -> "Part":
        """What the part says: an alias's target, else itself."""
        return self.alias or self


@dataclass
class Place:
    """A row: its part, the section that it is in, the dash before it, and the comma behind it (None: none)."""

    part: Part
    section: Part
    dash: int
    comma: int | None

    @property
    def origin(self) -> Part:
        """The first part of the row's `from`: the list where it is one."""
        return self.part.meant.parts[0]

    @property
    def sources(self) -> list[Part]:
        """The scalars of the row's `from`, as they stand there: some may be aliases."""
        return self.origin.meant.parts or [self.origin]

    @property
    def word(self) -> Part:
        return self.part.meant.parts[2]


def find_rows(text: str, where: str) -> list[Place]:
    """All rows in order, of a text that `ModelSpec` has read. Raises `UserError` where they are no plain lists."""
    try:
        events = YAML(typ="safe", pure=True).parse(text)
        root = _compose(text, iter(events), {})
        tokens = list(YAML(typ="safe", pure=True).scan(text))
    except (YAMLError, StopIteration, RecursionError, ValueError) as error:
        raise UserError(
            f"{where}: its rows cannot be found in the text ({str(error).splitlines()[0] if str(error) else 'torn'})"
        ) from None
    sections = {key.value: value for key, value in zip(root.parts[::2], root.parts[1::2], strict=True)}
    dashes = [t.start_mark.index for t in tokens if isinstance(t, BlockEntryToken)]
    commas = [t.start_mark.index for t in tokens if isinstance(t, FlowEntryToken)]
    places = []
    for name in SECTIONS:
        section = sections.get(name)
        if section is None or section.alias:
            raise UserError(f"{where}: '{name}' is an alias or merged in (YAML's * and <<); write its rows out first")
        for number, part in enumerate(section.parts):
            dash = bisect_left(dashes, part.start) - 1
            comma = bisect_right(commas, part.end - 1)
            limit = section.parts[number + 1].start if number + 1 < len(section.parts) else section.end
            places.append(
                Place(
                    part,
                    section,
                    dashes[dash] if dash >= 0 and not section.flow else -1,
                    commas[comma] if section.flow and comma < len(commas) and commas[comma] < limit else None,
                )  # fmt: skip
            )
    if any(len(place.part.meant.parts) < 4 or place.word.meant.value is None for place in places):
        raise UserError(f"{where}: its rows are no plain lists")
    return places


def _compose(text: str, events: Iterator, anchors: dict[str, Part], event=None) -> Part:
    """The part that begins with `event`, by default the first one of the document."""
    while event is None or isinstance(event, (ev.StreamStartEvent, ev.DocumentStartEvent)):
        event = next(events)
    start, end = event.start_mark.index, event.end_mark.index
    if isinstance(event, ev.AliasEvent):
        return Part(start, start, end, line=event.start_mark.line, alias=anchors[event.anchor])
    inner = _PROPERTIES.match(text, start).end() if event.anchor or event.tag else start
    part = Part(start, inner, end, getattr(event, "value", None), line=event.start_mark.line)
    if event.anchor:
        anchors[event.anchor] = part
    if isinstance(event, ev.ScalarEvent):
        return part
    part.flow = bool(event.flow_style)
    for inside in events:
        if isinstance(inside, (ev.SequenceEndEvent, ev.MappingEndEvent)):
            # the mark of a list in block style lies behind its comments, so the end of its last part
            part.end = inside.end_mark.index if part.flow or not part.parts else part.parts[-1].end
            return part
        part.parts.append(_compose(text, events, anchors, inside))
    raise ValueError("torn")
