"""Characters in rows that look like those of YAML: full-width punctuation, non-breaking spaces, typographic dashes."""

import re

from graftdet.models.spec.problems import Problem, Report

_LOOKALIKES = {
    "\uff0c": ("a full-width comma", ","),
    "\u3001": ("an ideographic comma", ","),
    "\uff3b": ("a full-width bracket", "["),
    "\uff3d": ("a full-width bracket", "]"),
    "\u3010": ("a full-width bracket", "["),
    "\u3011": ("a full-width bracket", "]"),
    "\uff0d": ("a full-width minus", "-"),
    "\u2212": ("a mathematical minus", "-"),
    "\u2013": ("an en dash", "-"),
    "\u2014": ("an em dash", "-"),
    "\u3000": ("an ideographic space", " "),
    "\u00a0": ("a non-breaking space", " "),
}
_TABLE = str.maketrans({character: meant for character, (_, meant) in _LOOKALIKES.items()})
_ANY = re.compile("[" + "".join(_LOOKALIKES) + "]")
_ROW_START = re.compile(r"\s*[-\uff0d\u2212\u2013\u2014]?\s*[\[\uff3b\u3010]")
_QUOTED_OR_COMMENT = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"\\]|\\.)*\"|(?:^|(?<=\s))#.*$")


def replace_lookalikes(text: str, file: str, report: Report) -> str:
    """Report rows with characters that YAML does not read as the punctuation or space they look like.

    Args:
        text: the text of a model YAML.
        file: its name in problems.
        report: takes one problem per line.

    Returns:
        The text with these characters replaced one by one, so that positions stay; quoted text and comments as they
        were.
    """
    lines = text.split("\n")
    for number, line in enumerate(lines):
        if not _ANY.search(line) or not _ROW_START.match(line):
            continue
        found = _ANY.search(_QUOTED_OR_COMMENT.sub(lambda match: " " * len(match[0]), line))
        if found:
            name, meant = _LOOKALIKES[found[0]]
            message = f"not valid YAML: holds {name}; write {'a space' if meant == ' ' else repr(meant)}"
            report(Problem("yaml-syntax", "error", None, number + 1, found.start() + 1, message, file=file))
            lines[number] = _replace(line)
    return "\n".join(lines)


def _replace(line: str) -> str:
    """The line with its lookalikes replaced outside quotes and comments."""
    parts, end = [], 0
    for match in _QUOTED_OR_COMMENT.finditer(line):
        parts += [line[end : match.start()].translate(_TABLE), match[0]]
        end = match.end()
    return "".join([*parts, line[end:].translate(_TABLE)])
