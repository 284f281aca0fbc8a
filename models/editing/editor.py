"""`python -m models insert` and `swap`: rows of a model YAML cut out, grafted in, renumbered, the rest untouched.

Only the characters that must change are changed, so comments, quotes, spacing and line ends stay as their author
wrote them; the one exception is a comment behind a row that starts with the row's index, which follows the index.
"""

import re

from graftdet.models.editing.argument_mapping import fit_args
from graftdet.models.editing.source_map import SECTIONS, Part, Place, find_rows
from graftdet.models.editing.text_edits import Edit, apply_edits, find_counts, new_count, put_row
from graftdet.models.graph.modules import find_block
from graftdet.models.spec.model_spec import ModelSpec
from graftdet.utils.errors import UserError, did_you_mean
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError


def insert_row(text: str, after: int | str, row: str, where: str = "model", readers: str = "next") -> str:
    """Return the YAML with `row` (YAML text of one row) behind row `after`, an index or a name; -1 is the very start.

    Every source that is an index of a row behind the new one grows by one, and every negative offset that reaches over
    it by one too, so that all rows read what they read before, except: the row right behind the new one, where it reads
    -1, now reads the new row. With readers="all" every row that reads row `after`, by index or name too, does.
    Raises `UserError`.
    """
    spec = ModelSpec.from_text(text, where)
    after = find_index(spec, after)
    name = _check_row(row, where)
    places = find_rows(text, where)
    sources, wanted = [], []
    for old, place in zip(spec.rows, places, strict=True):
        moved = [_move(s, t, old.index, after, readers) for s, t in zip(old.written_sources, old.sources, strict=True)]
        sources.append(tuple(moved))
        wanted.append(
            [
                _told(t, s, p, old.index, after, name)
                for t, s, p in zip(moved, old.written_sources, place.sources, strict=True)
            ]
        )
    edits = _rewrite(
        text, places, [[*told, place.word.meant.value] for told, place in zip(wanted, places, strict=True)], spec
    )
    counts = find_counts(text, places)
    edits += [Edit(found.start(1), found.end(1), str(index + 1)) for index, found in counts.items() if index > after]
    edits += put_row(text, places, after, row.strip(), new_count(counts.get(max(after, 0)), after + 1))
    text = apply_edits(text, edits)
    _check_result(spec, text, sources, [old.module for old in spec.rows], after + 1)
    return text


def swap_word(text: str, old: str, new: str, where: str = "model", rows: str | None = None) -> tuple[str, list[int]]:
    """Return the YAML with the word `old` replaced by `new`, and the indices of the rows where it was.

    `rows` limits it: 'backbone', 'head', or indices, ranges and names ('2,4,6-8,neck'). Another word for the same block
    counts where `old` itself occurs nowhere. Args become those of the new word (`graftdet.models.editing.argument_mapping`).
    Raises `UserError` when no row there has the word.
    """
    spec = ModelSpec.from_text(text, where)
    chosen = select_rows(spec, rows)
    places = find_rows(text, where)
    found = {row.index for row in spec.rows if row.index in chosen and row.module == old}
    found = found or {row.index for row in spec.rows if row.index in chosen and _is_same_block(row.module, old)}
    if not found:
        words = sorted({row.module for row in spec.rows if row.index in chosen})
        hint = did_you_mean(old, words) or f"; expected one of {', '.join(words)}"
        raise UserError(f"{where}: no row{f' of {rows}' if rows else ''} has the word '{old}'{hint}")
    words = [new if row.index in found else row.module for row in spec.rows]
    wanted = [[*(s.meant.value for s in place.sources), word] for place, word in zip(places, words, strict=True)]
    text = apply_edits(text, _rewrite(text, places, wanted, spec))
    _check_result(spec, text, [row.sources for row in spec.rows], words)
    return fit_args(text, {index: spec.rows[index].module for index in sorted(found)}, where), sorted(found)


def _is_same_block(word: str, other: str) -> bool:
    try:
        return find_block(word) == find_block(other)
    except UserError:
        return False


def select_rows(spec: ModelSpec, rows: str | None) -> set[int]:
    """Indices that `rows` means: None (all), 'backbone', 'head', or a list of indices, ranges and names."""
    if rows is None:
        return {row.index for row in spec.rows}
    if not rows.strip(" ,"):
        raise UserError("--rows: is empty, expected backbone, head, or indices, ranges and names")
    chosen: set[int] = set()
    names = spec.row_names
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
            raise UserError(
                f"--rows {part}: expected backbone, head, 0 to {len(spec.rows) - 1}, a range or a row's name{near}"
            )
    return chosen


def find_index(spec: ModelSpec, after: int | str) -> int:
    """The row that `after`, an index or a name, means: -1, the start, to the last one before the head. Raises `UserError`."""
    names = spec.row_names
    if after in names:
        return names[after]
    try:
        index = int(after)
    except ValueError:
        raise UserError(
            f"--after {after}: {spec.label} has no row of that name{did_you_mean(str(after), names)}"
        ) from None
    if not -1 <= index < len(spec.rows) - 1:
        last = len(spec.rows) - 2
        raise UserError(
            f"--after {after}: {spec.label} has rows 0 to {last} before its head; expected one of them, or -1 for the start"
        )
    return index


def _check_row(row: str, where: str) -> str | None:
    """The name of the new row, where it has one. Raises `UserError` where `row` is no YAML text of one row."""
    problem = f"{where}: the new row must be one YAML list [from, number, module, args] on one line, got {row!r}"
    try:
        reader = YAML(typ="safe", pure=True)
        value, node = reader.load(row), reader.compose(row)
    except (YAMLError, ValueError, RecursionError):
        raise UserError(problem) from None
    if (
        isinstance(value, list)
        and len(value) > 1
        and all(isinstance(part, list) and len(part) in (4, 5) for part in value)
    ):
        raise UserError(f"{problem}; give several rows one after the other, each in quotes of its own")
    if (
        not isinstance(value, list)
        or len(value) not in (4, 5)
        or "\n" in row.strip()
        or not row.strip().startswith("[")
    ):
        raise UserError(problem)
    if node.end_mark.index != len(row.rstrip()):
        raise UserError(f"{problem}; what is behind its last bracket does not belong to it")
    return value[4] if len(value) == 5 else None


def _move(written: int | str, target: int, index: int, after: int, readers: str) -> int:
    """The row that row `index` reads once a row stands behind row `after`, where it was row `target`."""
    if target == after and index > after and (readers == "all" or (written == -1 and index == after + 1)):
        return after + 1
    return target + (target > after)


def _told(target: int, written: int | str, part: Part, index: int, after: int, name: str | None) -> str:
    """The new text of a source that must mean row `target`: an index, an offset or a name, as it was."""
    if isinstance(written, str):
        return (name or str(target)) if target == after + 1 else part.meant.value
    new = target if written >= 0 else target - index - (index > after)
    return part.meant.value if new == written else str(new)


def _rewrite(text: str, places: list[Place], wanted: list[list[str]], spec: ModelSpec) -> list[Edit]:
    """The edits after which each row has the sources and, last, the word of its line in `wanted`.

    What an alias stands for is changed where it is written; an alias that then says something else than is wanted of
    it is written out.
    """
    edits, final = [], {}
    slots = [[*place.sources, place.word] for place in places]
    for place, parts, line in zip(places, slots, wanted, strict=True):
        for part, new in zip(parts, line, strict=True):
            if place.part.alias or part.alias or (place.origin.alias and part is not place.word):
                continue
            final[id(part)] = new
            if new != part.value:
                edits.append(Edit(part.inner, part.end, _quoted(text, part, new)))
    for place, row, parts, line in zip(places, spec.rows, slots, wanted, strict=True):
        wrong = [final.get(id(part.meant), part.meant.value) != new for part, new in zip(parts, line, strict=True)]
        if place.part.alias and any(wrong):
            edits.append(Edit(place.part.start, place.part.end, _write_out(text, place, line, f"{spec.label}, {row}")))
        elif place.origin.alias and any(wrong[:-1]):
            joined = ", ".join(line[:-1])
            edits.append(
                Edit(place.origin.start, place.origin.end, f"[{joined}]" if place.origin.meant.parts else joined)
            )
        elif not place.part.alias:
            edits += [Edit(part.start, part.end, new) for part, new, bad in zip(parts, line, wrong, strict=True) if bad]
        if wrong[-1] and place.origin.alias and not place.part.alias and any(wrong[:-1]):
            edits.append(Edit(place.word.start, place.word.end, line[-1]))
    return edits


def _quoted(text: str, part: Part, new: str) -> str:
    quote = text[part.inner] if text[part.inner] in "'\"" else ""
    return f"{quote}{new}{quote}"


def _write_out(text: str, place: Place, line: list[str], at: str) -> str:
    """The row that an alias stands for, with sources and word of its own."""
    row, origin, word = place.part.meant, place.origin, place.word
    sources = f"[{', '.join(line[:-1])}]" if origin.meant.parts else line[0]
    rest = text[origin.end : word.start], text[word.end : row.end]
    if not row.flow or "&" in "".join(rest):
        raise UserError(f"{at}: is written once and used twice (a YAML alias); write it out first")
    return f"[{sources}{rest[0]}{line[-1]}{rest[1]}"


def _check_result(old: ModelSpec, text: str, sources: list, words: list[str], new: int | None = None) -> None:
    """Raise `UserError` where the rows, but the `new` one, are not what they should be: then aliases share more than
    is seen here."""
    rows = [row for row in ModelSpec.from_text(text, old.label).rows if row.index != new]
    for before, row, told, word in zip(old.rows, rows, sources, words, strict=True):
        same = (row.args, row.kwargs, row.number, row.name) == (before.args, before.kwargs, before.number, before.name)
        if row.sources != told or row.module != word or not same:
            raise UserError(
                f"{old.label}, {before}: shares a part with another place in the file (a YAML alias); write it out first"
            )
