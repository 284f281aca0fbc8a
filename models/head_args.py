"""The args of a head's row once another head takes its place: what both know stays, anchors come and go."""

from utils.errors import UserError

from .places import Part, find_rows
from .putting import Edit, apply_edits
from .rows import find_block
from .signatures import read_signature
from .spec import ModelSpec

ANCHORS_A_LEVEL = 3  # where the YAML has none of its own; their sizes are found before training


def fit_head_args(text: str, old: str, where: str) -> str:
    """Return the YAML, whose head was `old` before its word was swapped, with args for the head that it has now.

    Args that both heads know by one name stay as they are written, others go. A head that needs anchors gets the YAML's,
    or a number a level. Where either word is no head the text comes back as it is. Raises `UserError` where the args
    are shared with another place (a YAML alias).
    """
    spec = ModelSpec.from_text(text, where)
    row = spec.rows[-1]
    known = [_argument_names(word) for word in (old, row.word)]
    part = find_rows(text, where)[-1].part.meant.parts[3]
    written = _written_args(text, part.meant, known[0])
    if written is None or known[1] is None:
        return text
    told = {name: written[name] for name in known[1] if name in written}
    if "anchors" in known[1] and "anchors" not in known[0]:
        told["anchors"] = "anchors" if spec.anchors is not None else str(ANCHORS_A_LEVEL)
    if told == written:
        return text
    if not row.kwargs and list(told) == known[1][: len(told)]:
        new = f"[{', '.join(told.values())}]"
    else:
        new = f"{{{', '.join(f'{name}: {value}' for name, value in told.items())}}}"
    text = apply_edits(text, [Edit(part.start, part.end, new)])
    if ModelSpec.from_text(text, where).rows[:-1] != spec.rows[:-1]:
        raise UserError(f"{where}, {row}: shares its args with another place in the file (a YAML alias); write them out first")
    return text


def _argument_names(word: str) -> list[str] | None:
    """What a head's row may say, in order; None for a word that is no head."""
    try:
        head, _, is_head = find_block(word)
    except UserError:
        return None
    return [name for name in read_signature(head, {"rule": "plain"}).named if name != "ch"] if is_head else None


def _written_args(text: str, part: Part, names: list[str] | None) -> dict[str, str] | None:
    """The text of each of a head's args by name; None where they are not what it takes, which building it tells."""
    if names is None or part.value is not None:
        return None
    if text[part.inner] in "[-":
        keys, parts = names[: len(part.parts)], part.parts
    else:
        keys, parts = [key.value for key in part.parts[::2]], part.parts[1::2]
    if len(keys) != len(parts) or not set(keys) <= set(names):
        return None
    return {key: text[value.start : value.end] for key, value in zip(keys, parts, strict=True)}
