"""`python -m models insert` and `swap`: rows of a model YAML cut out, grafted in, renumbered, the rest untouched.

Only the characters that must change are changed, so comments, quotes, spacing and line ends stay as their author
wrote them; the one exception is a comment behind a row that starts with the row's index, which follows the index.
"""

import re
import sys
from dataclasses import dataclass
from pathlib import Path

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import MappingNode, ScalarNode, SequenceNode

from utils.config import find_config, read_text
from utils.errors import UserError, did_you_mean

from .graph import build_model
from .spec import ModelSpec, Row

SECTIONS = ("backbone", "head")


@dataclass
class Place:
    """A row in the text: from character `start` to `end`, and its node."""

    node: SequenceNode
    section: SequenceNode

    @property
    def start(self) -> int:
        return self.node.start_mark.index

    @property
    def end(self) -> int:
        """Behind the last character. The mark of a list in block style lies behind its comments, so its last part's."""
        node = self.node
        while isinstance(node, (SequenceNode, MappingNode)) and not node.flow_style and node.value:
            node = node.value[-1] if isinstance(node, SequenceNode) else node.value[-1][1]
        return node.end_mark.index


def insert_row(text: str, after: int | str, row: str, where: str = "model", readers: str = "next") -> str:
    """Return the YAML with `row` (YAML text of one row) behind row `after`, an index or a name; -1 is the very start.

    Every source that is an index of a row behind the new one grows by one, and every negative offset that reaches over
    it by one too, so that all rows read what they read before, except: the row right behind the new one, where it reads
    -1, now reads the new row. With readers="all" every row that reads row `after`, by index or name too, does.
    Raises `UserError`.
    """
    spec = ModelSpec.from_text(text, where)
    after = _index_of(spec, after)
    _check_row(row, where)
    places = _find_rows(text, where)
    edits: dict[int, tuple[int, str]] = {}
    for old in spec.rows:
        for node, source in _sources(places[old.index].node, old):
            new = _moved(source, old.index, after, readers, spec)
            if new is not None and str(new) != node.value:
                _edit(edits, node.start_mark.index, node.end_mark.index, str(new), where, old)
    counting = _renumber_comments(text, places, after, edits)
    for position, added in _insertion(text, places, after, row.strip(), f"  # {after + 1}" if counting else ""):
        edits[position] = (position, added)
    return _apply(text, edits)


def swap_word(text: str, old: str, new: str, where: str = "model", rows: str | None = None) -> tuple[str, list[int]]:
    """Return the YAML with the word `old` replaced by `new`, and the indices of the rows where it was.

    `rows` limits it: 'backbone', 'head', or indices, ranges and names ('2,4,6-8,neck'). Raises `UserError` when no row
    there has the word.
    """
    spec = ModelSpec.from_text(text, where)
    chosen = select_rows(spec, rows)
    places = _find_rows(text, where)
    found = [row for row in spec.rows if row.index in chosen and row.word == old]
    if not found:
        words = sorted({row.word for row in spec.rows if row.index in chosen})
        hint = did_you_mean(old, words) or f"; expected one of {', '.join(words)}"
        raise UserError(f"{where}: no row{f' of {rows}' if rows else ''} has the word '{old}'{hint}")
    edits: dict[int, tuple[int, str]] = {}
    for row in found:
        node = places[row.index].node.value[2]
        written = text[node.start_mark.index : node.end_mark.index]
        quote = written[0] if written[:1] in ("'", '"') else ""
        _edit(edits, node.start_mark.index, node.end_mark.index, f"{quote}{new}{quote}", where, row)
    return _apply(text, edits), [row.index for row in found]


def select_rows(spec: ModelSpec, rows: str | None) -> set[int]:
    """Indices that `rows` means: None (all), 'backbone', 'head', or a list of indices, ranges and names."""
    if rows is None:
        return {row.index for row in spec.rows}
    chosen: set[int] = set()
    names = {row.name: row.index for row in spec.rows if row.name}
    for part in filter(None, (p.strip() for p in rows.split(","))):
        span = re.fullmatch(r"(\d+)(?:-(\d+))?", part)
        if part in SECTIONS:
            chosen.update(row.index for row in spec.rows if row.section == part)
        elif part in names:
            chosen.add(names[part])
        elif span and int(span[1]) <= int(span[2] or span[1]) < len(spec.rows):
            chosen.update(range(int(span[1]), int(span[2] or span[1]) + 1))
        else:
            near = did_you_mean(part, [*SECTIONS, *names])
            raise UserError(f"--rows {part}: expected backbone, head, 0 to {len(spec.rows) - 1}, a range or a row's name{near}")
    return chosen


def _index_of(spec: ModelSpec, after: int | str) -> int:
    names = {row.name: row.index for row in spec.rows if row.name}
    if after in names:
        return names[after]
    try:
        index = int(after)
    except ValueError:
        raise UserError(f"--after {after}: {spec.where} has no row of that name{did_you_mean(str(after), names)}") from None
    if not -1 <= index < len(spec.rows) - 1:
        last = len(spec.rows) - 2
        raise UserError(f"--after {after}: {spec.where} has rows 0 to {last} before its head; expected one of them, or -1 for the start")
    return index


def _check_row(row: str, where: str) -> None:
    problem = f"{where}: the new row must be one YAML list [from, number, module, args] on one line, got {row!r}"
    try:
        value = YAML(typ="safe", pure=True).load(row)
    except YAMLError:
        raise UserError(problem) from None
    if not isinstance(value, list) or len(value) not in (4, 5) or "\n" in row.strip() or not row.strip().startswith("["):
        raise UserError(problem)


def _find_rows(text: str, where: str) -> list[Place]:
    """All rows in order; `ModelSpec` has read the same text already."""
    root = YAML(typ="rt", pure=True).compose(text)
    sections = {key.value: value for key, value in root.value} if isinstance(root, MappingNode) else {}
    places = [Place(row, sections[name]) for name in SECTIONS for row in sections[name].value]
    if any(not isinstance(place.node, SequenceNode) for place in places):
        raise UserError(f"{where}: its rows are no plain lists")
    return places


def _sources(node: SequenceNode, row: Row) -> list[tuple[ScalarNode, int | str]]:
    """The scalars of a row's `from`, each with its value as written."""
    first, written = node.value[0], row.written[0]
    if isinstance(first, SequenceNode):
        return list(zip(first.value, written, strict=True))
    return [(first, written)]


def _moved(source, index: int, after: int, readers: str, spec: ModelSpec):
    """What `source` of row `index` must be once a row stands behind row `after`; None: as it is."""
    if isinstance(source, str):
        return after + 1 if readers == "all" and spec.rows[after].name == source and index > after >= 0 else None
    target = source if source >= 0 else index + source
    if index <= after:
        return None
    if target == after and (readers == "all" or (source == -1 and index == after + 1)):
        return source if source < 0 else source + 1
    if source >= 0:
        return source + 1 if source > after else None
    return source - 1 if target <= after else None


def _edit(edits, start, end, new, where, row) -> None:
    if edits.get(start, (end, new)) != (end, new):
        raise UserError(f"{where}, {row}: is written once and used twice (a YAML alias); write it out first")
    edits[start] = (end, new)


def _renumber_comments(text: str, places: list[Place], after: int, edits) -> bool:
    """`# 17 (P3)` behind row 17 becomes `# 18 (P3)`, in a file whose comments count the rows; whether row `after` is so
    counted."""
    starts = re.compile(r"[ \t,\]]*#[ \t]*(?:row[ \t]+|layer[ \t]+)?(\d+)(?![\d.x])")
    found = {index: starts.match(text, place.end) for index, place in enumerate(places)}
    numbered = {index: match for index, match in found.items() if match}
    counting = [index for index, match in numbered.items() if int(match[1]) == index]
    if len(counting) < 2 or 2 * len(counting) < len(numbered):
        return False
    for index in counting:
        if index > after:
            edits[numbered[index].start(1)] = (numbered[index].end(1), str(index + 1))
    return max(after, 0) in counting


def _insertion(text: str, places: list[Place], after: int, row: str, comment: str):
    """Where text goes in for the new row and its comment, and what: (position, text) pairs."""
    newline = "\r\n" if "\r\n" in text else "\n"
    anchor = places[max(after, 0)]
    line_start = text.rfind("\n", 0, anchor.start) + 1
    line_end = re.compile(r"[ \t]*(#[^\r\n]*)?(?=\r?\n|$)")
    if not anchor.section.flow_style:
        dash = line_start + len(text[line_start : anchor.start]) - len(text[line_start : anchor.start].lstrip())
        if dash >= anchor.start:  # the row's own dash stands on a line above
            dash = text.rfind("-", 0, anchor.start)
            line_start = text.rfind("\n", 0, dash) + 1
        if after < 0:
            return [(line_start, f"{text[line_start:dash]}- {row}{comment}{newline}")]
        rest = line_end.match(text, anchor.end)
        return [(rest.end() if rest else anchor.end, f"{newline}{text[line_start:dash]}- {row}{comment}")]
    indent = newline + " " * (anchor.start - line_start)
    if anchor.section.start_mark.line == anchor.section.end_mark.line:
        indent, comment = " ", ""
    if after < 0:
        return [(anchor.start, f"{row},{comment}{indent}")]
    comma = re.compile(r"\s*,").match(text, anchor.end)
    if comma is None:  # the last of its section
        rest = line_end.match(text, anchor.end)
        return [(anchor.end, ","), (rest.end(), indent + row + comment)] if rest else [(anchor.end, f",{indent}{row}")]
    rest = line_end.match(text, comma.end())
    return [(rest.end(), f"{indent}{row},{comment}")] if rest else [(comma.end(), f"{indent}{row},")]


def _apply(text: str, edits: dict[int, tuple[int, str]]) -> str:
    for start in sorted(edits, reverse=True):
        end, new = edits[start]
        text = text[:start] + new + text[end:]
    return text


def add_file_arguments(parser) -> None:
    """The arguments that all commands have which rewrite a file."""
    parser.add_argument("cfg", metavar="FILE.yaml", help="model YAML, a path or a bare name")
    target = parser.add_mutually_exclusive_group()
    target.add_argument("-o", "--output", metavar="FILE", help="write here instead of to standard output")
    target.add_argument("--in-place", action="store_true", help="rewrite FILE.yaml itself")


def read_model_text(cfg: str) -> tuple[Path, str]:
    """The path of a model YAML and its text, line ends as they are."""
    path = find_config(cfg, "models")
    read_text(path)  # tells what is no text
    return path, path.read_bytes().decode("utf-8")


def write_model_text(args, path: Path, old: str, new: str, what: str) -> ModelSpec:
    """Build the rewritten model, and write its text where `args` say. Raises `UserError`, and writes nothing, when it
    cannot be built although the old one can."""
    mark = "\ufeff" if old.startswith("\ufeff") else ""
    spec = ModelSpec.from_text(new, path.name)
    try:
        build_model(spec.with_classes(spec.nc or 80))
    except UserError as error:
        try:
            build_model(ModelSpec.from_text(old.removeprefix(mark), path.name).with_classes(spec.nc or 80))
        except UserError as before:
            raise UserError(f"before any change: {before}") from None
        raise UserError(f"{what}: {error}") from None
    if not args.output and not args.in_place:
        sys.stdout.write(new)
        return spec
    target = path if args.in_place else Path(args.output)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(target.name + ".part")
        part.write_bytes((mark + new).encode("utf-8"))
        part.replace(target)
    except OSError as error:
        raise UserError(f"{target}: cannot be written ({error.strerror})") from None
    return spec
