"""The args of rows once another word takes its place: what both know by name stays, anchors of heads come and go."""

from dataclasses import dataclass, field
from inspect import Parameter

from graftdet.models.blocks.registration import PLAIN
from graftdet.models.editing.source_map import Part, find_rows
from graftdet.models.editing.text_edits import Edit, apply_edits
from graftdet.models.graph.modules import find_block
from graftdet.models.graph.signatures import POSITIONAL, REQUIRED, SHORT_NAMES, plain_name, read_signature
from graftdet.models.spec.model_spec import ModelSpec, resolve_constants
from graftdet.utils.errors import UserError

ANCHORS_A_LEVEL = 3  # where the YAML has none of its own; their sizes are found before training


@dataclass(frozen=True)
class _Word:
    """What a row with a word may say: parameters by name, in order."""

    named: dict[str, Parameter]
    width_out: str | None
    is_head: bool
    aliases: dict[str, str] = field(default_factory=dict)  # older names of arguments -> present names

    def meaning(self, name: str) -> str:
        """One name for all that authors call an argument: `k` for kernel_size, `c2` for any output width."""
        plain = plain_name(name)
        return (
            "c2"
            if name == self.width_out
            else next((short for short, forms in SHORT_NAMES.items() if plain in forms), plain)
        )


def fit_args(text: str, words: dict[int, str], where: str) -> str:
    """Return the YAML, in which the rows `words` (index: the word before) have another word now, with args for that.

    Args that both words know by name stay as they are written, under the new word's name and in its place. Of a block's
    others those stay whose place the old word does not know, others go. A head that needs anchors gets the YAML's, or a
    number a level. Nothing changes in rows of torch.nn's layers, of words that take any arguments, and where a block
    took a head's place. Raises `UserError` where args are shared with another place (a YAML alias).
    """
    spec = ModelSpec.from_text(text, where)
    places, edits = find_rows(text, where), {}
    for index, old in words.items():
        part = places[index].part.meant.parts[3]
        fitted = _fit(text, part.meant, spec, index, old)
        if fitted is not None and edits.setdefault(part.start, Edit(part.start, part.end, fitted)).new != fitted:
            raise UserError(_shared(spec, index))
    if not edits:
        return text
    text = apply_edits(text, list(edits.values()))
    try:
        after = ModelSpec.from_text(text, where).rows
    except UserError:  # an alias of what was replaced
        after = None
    if after is None or any(
        row != before and row.index not in words for before, row in zip(spec.rows, after, strict=True)
    ):
        raise UserError(_shared(spec, max(words)))
    return text


def _shared(spec: ModelSpec, index: int) -> str:
    return f"{spec.label}, {spec.rows[index]}: shares its args with another place in the file (a YAML alias); write them out first"


def _fit(text: str, part: Part, spec: ModelSpec, index: int, old_word: str) -> str | None:
    """The text of a row's args for its new word; None where they stay."""
    row = spec.rows[index]
    old, new = _read_word(old_word), _read_word(row.module)
    if old is None or new is None or old.is_head != new.is_head:
        return None
    written = _written_args(text, part, list(old.named), old.aliases)
    if written is None:
        return None
    values = dict(zip(written, [*row.args, *row.kwargs.values()], strict=True))
    known = {new.meaning(name): name for name in new.named}
    places = [name for name, parameter in new.named.items() if parameter.kind in POSITIONAL]
    meant = {}  # the new word's name of each arg
    for place, name in enumerate(written):
        there = places[place] if place < min(len(places), len(row.args)) else None
        if old.meaning(name) in known:
            meant[name] = known[old.meaning(name)]
        elif there is not None and _may_stand(values[name], old, name, new, there):
            meant[name] = there
    told = {meant[name]: written[name] for name in meant}
    if "anchors" in new.named and "anchors" not in told and old_word != row.module:
        told["anchors"] = "anchors" if spec.anchors is not None else str(ANCHORS_A_LEVEL)
    if len(meant) == len(written) and list(told) == [*places[: len(row.args)], *list(written)[len(row.args) :]]:
        return None
    told = {name: told[name] for name in new.named if name in told}
    if not row.kwargs and list(told) == places[: len(told)]:
        return f"[{', '.join(told.values())}]"
    return f"{{{', '.join(f'{name}: {value}' for name, value in told.items())}}}"


def _may_stand(value, old: _Word, name: str, new: _Word, name_there: str) -> bool:
    """Whether an arg that the new word does not know by name means its argument `name_there`, which stands in the same
    place: the old word does not know that one, and both are of one kind."""
    if (
        old.is_head
        or old.width_out == name
        or new.width_out == name_there
        or new.meaning(name_there) in map(old.meaning, old.named)
    ):
        return False
    default, value = new.named[name_there].default, resolve_constants(value)
    kinds = [(bool,), (int, float, list, tuple), (str,)]
    return (
        default is REQUIRED or default is None or any(type(default) in kind and type(value) in kind for kind in kinds)
    )


def _read_word(word: str) -> _Word | None:
    """None for a word that is not known, and for one that takes more arguments than it names."""
    try:
        block, options, is_head = find_block(word)
    except UserError:
        return None
    aliases, options = (options.argument_aliases, PLAIN) if is_head else ({}, options)
    signature = read_signature(block, options)
    if block.__module__.startswith("torch.nn") or signature.open_positional or signature.open_keywords:
        return None
    filled_in = {"ch"} if is_head else {signature.width_in}
    filled_in |= {"n"} if options.rule == "infer" else set()
    named = {name: parameter for name, parameter in signature.named.items() if name not in filled_in}
    return _Word(named, options.width_out or signature.width_out, is_head, aliases)


def _written_args(text: str, part: Part, names: list[str], aliases: dict[str, str]) -> dict[str, str] | None:
    """The text of each of a row's args by name; None where they are not what the word takes, which building it tells."""
    if part.value is not None:
        return None
    pairs = []
    if text[part.inner] in "[-":
        parts = list(part.parts)
        if (
            parts and parts[-1].meant.value is None and text[parts[-1].meant.inner] == "{"
        ):  # named ones behind the others
            pairs = parts.pop().meant.parts
        if len(parts) > len(names):
            return None
        keys, parts = names[: len(parts)], [*parts, *pairs[1::2]]
    else:
        pairs, keys, parts = part.parts, [], part.parts[1::2]
    keys = [*keys, *(aliases.get(key.value, key.value) for key in pairs[::2])]
    if len(keys) != len(parts) or len(set(keys)) < len(keys) or not set(keys) <= set(names):
        return None
    return {key: text[value.start : value.end] for key, value in zip(keys, parts, strict=True)}
