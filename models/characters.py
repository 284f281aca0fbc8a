"""Rows of a model YAML with characters that only look like YAML's: full-width ones, round brackets, semicolons."""

import unicodedata

import yaml

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
