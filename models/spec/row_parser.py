"""Rows of a model YAML as written -> `Row`s: sources resolved, mistakes told with the row as it should be."""

from graftdet.models.spec.row import IMAGE, MOST_REPEATS, UNREADABLE, Row, show_row
from graftdet.models.spec.row_repair import _arrange, _in_rows
from graftdet.utils.errors import did_you_mean


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
