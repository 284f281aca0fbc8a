"""The edits of the page's toolbar: insert, swap, rename and delete rows of a text."""

from collections.abc import Callable, Mapping
from typing import Any

from graftdet.utils.errors import UserError


def apply_edit(text: str, file: str, edit: Mapping[str, Any]) -> str:
    """Return a model YAML after an edit; comments and layout survive.

    Args:
        text: the YAML.
        file: its name, for messages.
        edit: `kind` is "insert" (`after`, `row`, optional `readers`), "swap" (`old`, `new`, optional `rows`), "rename"
            (`row`, `name`) or "delete" (`row`).

    Raises:
        UserError: the edit is not of that form, or cannot be made.
    """
    kind = edit.get("kind")
    if kind not in _EDITS:
        raise UserError(f"kind {kind!r}: expected one of {', '.join(_EDITS)}")
    return _EDITS[kind](text, file, edit)


def _insert(text: str, file: str, edit: Mapping[str, Any]) -> str:
    from graftdet.models.editing.editor import insert_row

    readers = edit.get("readers", "next")
    if readers not in ("next", "all"):
        raise UserError(f"readers {readers!r}: expected next or all")
    return insert_row(text, _number(edit, "after"), _text(edit, "row"), file, readers)


def _swap(text: str, file: str, edit: Mapping[str, Any]) -> str:
    from graftdet.models.editing.editor import swap_module
    from graftdet.models.graph.modules import find_block

    new = _text(edit, "new")
    find_block(new)
    return swap_module(text, _text(edit, "old"), new, file, _text(edit, "rows") if edit.get("rows") else None)[0]


def _rename(text: str, file: str, edit: Mapping[str, Any]) -> str:
    from graftdet.models.editing.row_removal import rename_row

    return rename_row(text, _number(edit, "row"), _text(edit, "name"), file)


def _delete(text: str, file: str, edit: Mapping[str, Any]) -> str:
    from graftdet.models.editing.row_removal import delete_row

    return delete_row(text, _number(edit, "row"), file)


_EDITS: Mapping[str, Callable[[str, str, Mapping[str, Any]], str]] = {
    "insert": _insert,
    "swap": _swap,
    "rename": _rename,
    "delete": _delete,
}


def _text(values: Mapping[str, Any], key: str) -> str:
    value = values.get(key)
    if not isinstance(value, str):
        raise UserError(f"{key}: expected text, got {value!r:.80}")
    return value


def _number(values: Mapping[str, Any], key: str) -> int:
    value = values.get(key)
    if isinstance(value, bool) or not isinstance(value, int):
        raise UserError(f"{key}: expected a whole number, got {value!r:.80}")
    return value
