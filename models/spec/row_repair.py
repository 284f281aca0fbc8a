"""Rows that are not of the form `[from, number, module, args, name]`: what they most likely mean."""

import unicodedata
from collections.abc import Iterator
from itertools import permutations
from typing import Any

import yaml

from graftdet.models.spec.row import PARTS, UNREADABLE, show_row

Fault = tuple[str, str]
"""What is wrong with a row, and the fix."""

# NFKC replaces all others
_FORMS = {"\u3010": "[", "\u3011": "]", "\u3014": "[", "\u3015": "]", "\u3001": ","}


def in_plain_characters(written, show) -> tuple[list, str] | None:
    """What a row means whose lists are written with other characters, and those characters; None for other rows.

    `show` writes a row as it stands in a file. Text that is one name in plain characters too is left alone.
    """
    found: dict[str, None] = {}
    plain = _replaced(written, found)
    if not found:
        return None
    try:
        meant = yaml.safe_load(show(plain))
    except (yaml.YAMLError, ValueError):
        return None
    return (meant, " and ".join(found)) if isinstance(meant, list) else None


def _replaced(value, found: dict):
    if isinstance(value, (list, tuple)):
        return [_replaced(part, found) for part in value]
    if isinstance(value, dict):
        return {_replaced(key, found): _replaced(part, found) for key, part in value.items()}
    if not isinstance(value, str):
        return value
    plain = "".join(_FORMS.get(c) or unicodedata.normalize("NFKC", c) for c in value).replace(";", ",").strip()
    if plain.count("(") != plain.count(")") or plain.startswith("("):
        plain = plain.replace("(", "[").replace(")", "]")
    if plain == value.strip() or not _is_more_than_names(plain):
        return value
    found.update((f"'{c}'" if c.strip() else f"U+{ord(c):04X}", None) for c in value if c not in plain)
    return plain


def _is_more_than_names(text: str) -> bool:
    """Whether a text holds numbers or lists, or is a part of a list that another part ends."""
    try:
        parts = yaml.safe_load(f"[{text}]")
    except (yaml.YAMLError, ValueError):
        return True
    return any(not isinstance(part, str) for part in parts)


_FORMAT = "expected [from, number, module, args] or with a name as fifth"


def split_rows(written_rows: list) -> Iterator[tuple[int, Any, Fault | None]]:
    """Index in the list, row, and what is wrong with it; two rows written in one list are two, in order."""
    for number, written in enumerate(written_rows):
        pair = None
        if isinstance(written, list) and 8 <= len(written) <= 10:
            pairs = [(written[:cut], written[cut:]) for cut in (4, 5) if 4 <= len(written) - cut <= 5]
            pair = next((pair for pair in pairs if all(map(_fits, pair))), None)
        if pair:
            fix = f"write {show_row(pair[0])} and {show_row(pair[1])} on two lines"
            yield number, pair[0], ("contains two rows", fix)
            yield number, pair[1], None
        else:
            yield number, written, None


def repair_row(written, index: int) -> tuple[list, Fault | None]:
    """The elements of a row in order, and what was wrong with it; a row of another form is replaced by the likely one.

    Args:
        written: the row as YAML gives it.
        index: of the row, which its sources must be below.

    Returns:
        Four or five elements (from, number, module, args, name), and None or a message with its fix.
    """
    plain = in_plain_characters(written, show_row)
    if plain and len(plain[0]) in (4, 5) and _fits([-1, *plain[0][1:]]):
        message = f"YAML reads {plain[1]} as part of a name in {show_row(written)}"
        return plain[0], (message, f"write {show_row(plain[0])}")
    message = f"{_FORMAT}, got {show_row(written)}"
    unreadable = [-1, 1, UNREADABLE, []]
    if isinstance(written, dict) and {"from", "module"} <= set(written) <= set(PARTS):
        likely = [written["from"], written.get("number", 1), written["module"], written.get("args", [])]
        likely += [written["name"]] if "name" in written else []
        if _fits([-1, *likely[1:]]):
            return likely, (message, f"a row is a list: write {show_row(likely)}")
    if not isinstance(written, list) or not written:
        spaced = isinstance(written, str) and " " in written
        return unreadable, (message, "is a comma missing?" if spaced else "")
    brackets = len(written) == 5 and _is_int(written[3]) and not isinstance(written[4], str)
    spaced = any(isinstance(part, str) and " " in part.strip() for part in written[:3])
    if len(written) in (4, 5) and not brackets and not spaced:
        bare = _is_int(written[3]) and written[3] >= 0 and _fits([*written[:3], written[3:4], *written[4:]], index)
        if bare or _fits([-1, *written[1:]]) or not _in_another_order(written, index):
            return written, None
    likely, reason = _likely_row(written, index)
    if likely is None:
        spaced = any(isinstance(part, str) and " " in part for part in written)
        return unreadable, (message, "is a comma missing?" if spaced else "")
    return likely, (message, f"{reason}: write {show_row(likely)}")


def _fits(row: list, index: float = float("inf")) -> bool:
    source, number, module, args, *name = row
    sources = source if isinstance(source, list) and source else [source]
    return (
        all((isinstance(s, str) and index == float("inf")) or (_is_int(s) and s < index) for s in sources)
        and (_is_int(number) and number >= 1)
        and (isinstance(module, str) and isinstance(args, (list, dict)))
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
    split = [piece for part in row for piece in (_split_text(part) if isinstance(part, str) else [part])]
    if len(split) > len(row) and len(split) in (4, 5) and _fits(split):
        return split, "a comma is missing"
    in_order = _in_another_order(row, index)
    if in_order:
        return in_order, "the elements are in another order"
    names = [i for i, part in enumerate(row) if isinstance(part, str)]
    at = names[0] if names else len(row)
    if names and names[0] == 0 and len(names) > 1 and names[1] <= 2:
        at = names[1]  # `from` is a name
    before, module, after = row[:at], row[at : at + 1], row[at + 1 :]
    reasons = []
    if len(before) == 1 and module:
        alone = _is_int(before[0]) and before[0] > 0
        reasons.append("'from' is missing" if alone else "the number is missing")
        before = [-1, before[0]] if alone else [before[0], 1]
    elif len(before) > 2 and all(_is_int(part) for part in before):
        reasons.append("sources belong in brackets")
        before = [before[:-1], before[-1]]
    if not after and module:
        reasons.append("args are missing ([] where there are none)")
        after = [[]]
    elif after and not isinstance(after[0], (list, dict)) and module:
        reasons.append("args belong in brackets")
        rest = (
            after[-1:] if isinstance(after[-1], str) and len(after) > 1 and isinstance(after[-2], (int, float)) else []
        )
        after = [after[: len(after) - len(rest)], *(rest if len(after) > 1 else [])]
    likely = [*before, *module, *after]
    return (likely, " and ".join(reasons)) if reasons and len(likely) in (4, 5) and _fits(likely, index) else (None, "")


def _split_text(text: str) -> list:
    """The names and whole numbers of an element in which a comma is missing."""
    return [int(piece) if piece.lstrip("-").isdigit() else piece for piece in text.split()]
