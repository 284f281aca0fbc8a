"""Rows of a model YAML as written -> `Row`s: sources resolved, mistakes told with the row as it should be."""

import re
from dataclasses import dataclass, field
from itertools import permutations

from utils.errors import did_you_mean

from .characters import in_plain_characters

IMAGE = -1  # the source of a row that reads the picture itself
MOST_REPEATS = 1000  # of a row's number, by itself and times the depth multiple
UNREADABLE = "?"  # the word of a row that could not be read, where reading goes on
_PARTS = ("from", "number", "module", "args", "name")
_ROW = "expected [from, number, module, args] or with a name as fifth"


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


def parse_rows(sections: dict[str, list], where: str, report) -> tuple[Row, ...]:
    """All rows of `sections` (backbone, head) in order. Of each row the first mistake alone is told."""
    rows, indices = [], {}
    for section, written_rows in sections.items():
        for position, (written, problem) in enumerate(_in_rows(written_rows)):
            at = f"{where}, row {len(rows)} ({section} row {position})"
            found = [f"{at}: {problem}"] if problem else []
            row = _parse_row(written, len(rows), section, position, indices, at, found.append)
            for problem in found[:1]:
                report(problem)
            rows.append(row)
            if row.name:
                indices[row.name] = row.index
    return tuple(rows)


def _in_rows(written_rows: list):
    """Each row and None; of two rows in one, the first with what is wrong, and the second."""
    for written in written_rows:
        pair = None
        if isinstance(written, list) and 8 <= len(written) <= 10:
            pairs = [(written[:cut], written[cut:]) for cut in (4, 5) if 4 <= len(written) - cut <= 5]
            pair = next((pair for pair in pairs if all(map(_fits, pair))), None)
        if pair:
            yield pair[0], f"holds two rows; write {show_row(pair[0])} and {show_row(pair[1])} in two lines"
            yield pair[1], None
        else:
            yield written, None


def _parse_row(written, index, section, position, indices, at, report) -> Row:
    source, number, word, args, *name = _arrange(written, index, at, report)
    if isinstance(number, float) and number.is_integer():
        number = int(number)
    if isinstance(number, bool) or not isinstance(number, int) or number < 1:
        report(f"{at}: number must be a whole number of at least 1, got {number!r}")
        number = 1
    elif number > MOST_REPEATS:
        report(f"{at}: number must be at most {MOST_REPEATS}, got {number}")
        number = 1
    if not isinstance(word, str) or not word:
        report(f"{at}: module must be a word such as Conv, got {word!r}")
        word = UNREADABLE
    at = at if word == UNREADABLE else f"{at} {word}"
    args, kwargs = _parse_args(args, at, report)
    name = name[0] if name else None
    if name is not None and (not isinstance(name, str) or not name or name.lstrip("-").isdigit()):
        name = report(f"{at}: a row's name must be a word, got {name!r}")
    if name in indices:
        name = report(f"{at}: the name '{name}' is row {indices[name]}'s already; expected a name of its own")
    joined = isinstance(source, list)
    if joined and len(source) == 1 and isinstance(source[0], list):
        report(f"{at}: 'from' is a list in a list; write {show_row(source[0])}")
        source = source[0]
    if joined and not source:
        report(f"{at}: 'from' is empty; expected -1, a row's index or a list of them")
        source, joined = -1, False
    sources = source if joined else [source]
    sources = tuple(_resolve_source(s, index, indices, at, report) for s in sources)
    return Row(index, section, position, sources, joined, number, word, args, kwargs, name, written)


def _arrange(written, index, at, report) -> list:
    """The elements of a row in order; a row that is not of that form is told, and given the likely one."""
    plain = in_plain_characters(written, show_row)
    if plain and len(plain[0]) in (4, 5) and _fits([-1, *plain[0][1:]]):
        report(f"{at}: YAML takes {plain[1]} for part of a word in {show_row(written)}; write {show_row(plain[0])}")
        return plain[0]
    told = f"{at}: {_ROW}, got {show_row(written)}"
    if isinstance(written, dict) and {"from", "module"} <= set(written) <= set(_PARTS):
        likely = [written["from"], written.get("number", 1), written["module"], written.get("args", [])]
        likely += [written["name"]] if "name" in written else []
        if _fits([-1, *likely[1:]]):
            report(f"{told}; a row is a list: write {show_row(likely)}")
            return likely
    if not isinstance(written, list) or not written:
        report(told + ("; is a comma missing?" if isinstance(written, str) and " " in written else ""))
        return [-1, 1, UNREADABLE, []]
    brackets = len(written) == 5 and _is_int(written[3]) and not isinstance(written[4], str)
    spaced = any(isinstance(part, str) and " " in part.strip() for part in written[:3])
    if len(written) in (4, 5) and not brackets and not spaced:
        bare = _is_int(written[3]) and written[3] >= 0 and _fits([*written[:3], written[3:4], *written[4:]], index)
        if bare or _fits([-1, *written[1:]]) or not _in_another_order(written, index):
            return written
    likely, why = _likely_row(written, index)
    if likely is None:
        report(told + ("; is a comma missing?" if any(isinstance(part, str) and " " in part for part in written) else ""))
        return [-1, 1, UNREADABLE, []]
    report(f"{told}; {why}: write {show_row(likely)}")
    return likely


def _fits(row: list, index: float = float("inf")) -> bool:
    source, number, word, args, *name = row
    sources = source if isinstance(source, list) and source else [source]
    return (
        all((isinstance(s, str) and index == float("inf")) or (_is_int(s) and s < index) for s in sources)
        and (_is_int(number) and number >= 1)
        and (isinstance(word, str) and isinstance(args, (list, dict)))
        and all(isinstance(n, str) for n in name)
    )


def _is_int(value) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _in_another_order(row: list, index: int) -> list | None:
    """The same elements in the order that fits, with as few of them moved as can be."""
    if len(row) not in (4, 5):
        return None
    orders = [order for order in permutations(range(len(row))) if _fits([row[i] for i in order], index)]
    best = min(orders, key=lambda order: sum(i != j for i, j in enumerate(order)), default=None)
    return None if best is None else [row[i] for i in best]


def _likely_row(row: list, index: int) -> tuple[list | None, str]:
    """What a row of another form most likely means, and what is wrong with it; None where nothing is likely."""
    parted = [piece for part in row for piece in (_part(part) if isinstance(part, str) else [part])]
    if len(parted) > len(row) and len(parted) in (4, 5) and _fits(parted):
        return parted, "a comma is missing"
    in_order = _in_another_order(row, index)
    if in_order:
        return in_order, "the order is another"
    words = [i for i, part in enumerate(row) if isinstance(part, str)]
    at = words[0] if words else len(row)
    if words and words[0] == 0 and len(words) > 1 and words[1] <= 2:
        at = words[1]  # `from` is a name
    before, word, after = row[:at], row[at : at + 1], row[at + 1 :]
    why = []
    if len(before) == 1 and word:
        alone = _is_int(before[0]) and before[0] > 0
        why.append("'from' is missing" if alone else "the number is missing")
        before = [-1, before[0]] if alone else [before[0], 1]
    elif len(before) > 2 and all(_is_int(part) for part in before):
        why.append("sources belong in brackets")
        before = [before[:-1], before[-1]]
    if not after and word:
        why.append("args are missing, [] where there are none")
        after = [[]]
    elif after and not isinstance(after[0], (list, dict)) and word:
        why.append("args belong in brackets")
        rest = after[-1:] if isinstance(after[-1], str) and len(after) > 1 and isinstance(after[-2], (int, float)) else []
        after = [after[: len(after) - len(rest)], *(rest if len(after) > 1 else [])]
    likely = [*before, *word, *after]
    return (likely, " and ".join(why)) if why and len(likely) in (4, 5) and _fits(likely, index) else (None, "")


def _part(text: str) -> list:
    """The words and whole numbers of an element in which a comma is missing."""
    return [int(piece) if piece.lstrip("-").isdigit() else piece for piece in text.split()]


def _parse_args(args, at, report) -> tuple[tuple, dict]:
    args = [] if args is None else args
    if isinstance(args, dict):
        args, kwargs = [], args
    elif isinstance(args, list):
        kwargs = args[-1] if args and isinstance(args[-1], dict) else {}
        args = args[:-1] if args and isinstance(args[-1], dict) else args
    else:
        report(f"{at}: args must be a list or a mapping of names, got {args!r}; write [{args}]")
        args, kwargs = [args], {}
    if any(not isinstance(key, str) for key in kwargs):
        report(f"{at}: argument names must be words, got {sorted(map(str, kwargs))}")
        kwargs = {key: value for key, value in kwargs.items() if isinstance(key, str)}
    return tuple(args), kwargs


def _resolve_source(source, index, indices, at, report) -> int:
    """Return the absolute index that `source` (an index, a negative offset or a row's name) means in row `index`."""
    if isinstance(source, str):
        if source in indices:
            return indices[source]
        named = f"; names before it: {', '.join(indices)}" if indices else "; no row before it has a name"
        near = f"; write {source} without quotes" if source.lstrip("-").isdigit() else did_you_mean(source, indices)
        report(f"{at}: 'from' names '{source}', which is no row before this one{near or named}")
    elif isinstance(source, bool) or not isinstance(source, int):
        report(f"{at}: 'from' must be a row's index, a negative offset or a row's name, got {source!r}")
    else:
        absolute = source if source >= 0 else index + source
        if IMAGE <= absolute < index:
            return absolute
        valid = f"0 to {index - 1} or -1 to -{index}" if index else "-1 (the picture)"
        report(f"{at}: 'from' is {source}, but only rows before it can be read: {valid}")
    return index - 1
