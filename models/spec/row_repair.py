import unicodedata
from itertools import permutations

import yaml
from graftdet.models.spec.row import UNREADABLE, show_row

# NFKC turns all others
_FORMS = {"\u3010": "[", "\u3011": "]", "\u3014": "[", "\u3015": "]", "\u3001": ","}


def in_plain_characters(written, show) -> tuple[list, str] | None:
    """What a row means whose lists are written with other characters, and those characters; None for other rows.

    `show` writes a row as it stands in a file. Words that are one word in plain characters too are left alone.
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
    if plain == value.strip() or not _is_more_than_words(plain):
        return value
    found.update((f"'{c}'" if c.strip() else f"U+{ord(c):04X}", None) for c in value if c not in plain)
    return plain


def _is_more_than_words(text: str) -> bool:
    """Whether a text holds numbers or lists, or is a part of a list that another part ends."""
    try:
        parts = yaml.safe_load(f"[{text}]")
    except (yaml.YAMLError, ValueError):
        return True
    return any(not isinstance(part, str) for part in parts)


_PARTS = ("from", "number", "module", "args", "name")


_ROW = "expected [from, number, module, args] or with a name as fifth"


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
        report(
            told + ("; is a comma missing?" if any(isinstance(part, str) and " " in part for part in written) else "")
        )
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
        rest = (
            after[-1:] if isinstance(after[-1], str) and len(after) > 1 and isinstance(after[-2], (int, float)) else []
        )
        after = [after[: len(after) - len(rest)], *(rest if len(after) > 1 else [])]
    likely = [*before, *word, *after]
    return (likely, " and ".join(why)) if why and len(likely) in (4, 5) and _fits(likely, index) else (None, "")


def _part(text: str) -> list:
    """The words and whole numbers of an element in which a comma is missing."""
    return [int(piece) if piece.lstrip("-").isdigit() else piece for piece in text.split()]
