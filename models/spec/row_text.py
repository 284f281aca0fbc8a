"""The text of a row that is not valid YAML: what is wrong with its commas, brackets and comment signs."""

import re
from typing import NamedTuple

from graftdet.utils.text import counted

_QUOTED = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"\\]|\\.)*\"")
_COMMENT_SIGNS = re.compile(r"(//|--|;|%|/\*)\s*-?\s*\[")
_NO_COMMA = re.compile(r"(?<![\w.&!])([\w.()]+)\s*(?=\[)|\]\s*(?=[^\s,\]}])")


class TextFault(NamedTuple):
    """What is wrong with the text of a row, the line as it is meant, and the column of the fault from 1."""

    reason: str
    repaired: str
    column: int


def without_comment(line: str) -> str:
    """The line without its comment, quoted text masked, of unchanged length up to there."""
    return re.sub(r"(^|\s+)#.*$", "", _QUOTED.sub(lambda m: "q" * len(m[0]), line.rstrip()))


def is_wrong_comment(line: str) -> bool:
    """Whether a line is probably a row that is turned off by another sign than '#'."""
    return bool(_COMMENT_SIGNS.match(line.lstrip()))


def close_brackets(written: str, missing: int) -> str:
    """The row with its brackets closed; of `[..., [16, p3]` the last element is likely the name of the row."""
    named = re.fullmatch(r"(.*\[[^\[\]]*?)\s*,\s*([a-z]\w*)\]", written)
    if named and missing == 1 and named[2] not in ("nearest", "nc", "anchors"):
        return f"{named[1]}], {named[2]}]"
    return written + "]" * missing


def opened_brackets(line: str) -> int:
    """How many brackets a line opens more than it closes."""
    content = without_comment(line)
    return content.count("[") - content.count("]")


def surplus_brackets(line: str, position: int) -> int:
    """How many ']' a row on one line has more than '['; 0 where brackets alone are not enough."""
    content = without_comment(line)
    if content.count("{") != content.count("}") or content.count("'") + content.count('"'):
        return 0
    if re.match(r"\s*-\s+\[", line):
        return -opened_brackets(line)
    return min(-opened_brackets(line), 0) if position > 0 and re.match(r"\s*\[", line) else 0


def find_text_fault(line: str, in_brackets: bool) -> TextFault | None:
    """The first fault of a line that holds a row; None where there is none that YAML alone does not explain better.

    Args:
        line: the line, with its comment.
        in_brackets: whether the rows of the section are one list in brackets, so that rows have no dash.
    """
    content, start = without_comment(line), len(line) - len(line.lstrip())
    indent, text = line[:start], line[start:]
    if is_wrong_comment(line):
        return TextFault("a comment begins with '#'", f"{indent}# {text}", start + 1)
    if in_brackets and (dash := re.match(r"-\s*\[", text)):
        reason = f"rows of a list in brackets have no '- ': write {_row(text[len(dash[0]) - 1 :])}"
        return TextFault(reason, f"{indent}{text[len(dash[0]) - 1 :]}", start + 1)
    if in_brackets and (found := re.match(r"(\[?)\((.*)\)(\]?,?)$", content[start:])):
        end = start + len(found[0])
        meant = f"{found[1]}[{line[start + len(found[1]) + 1 : end - len(found[3]) - 1]}]{found[3]}"
        return TextFault(f"a row has square brackets: write {_row(meant)}", indent + meant + line[end:], start + 1)
    if ";" in content:
        meant = "".join("," if c == ";" else old for c, old in zip(content, line, strict=False))
        meant += line[len(content) :]
        return TextFault(f"elements are separated by ',': write {_row(meant)}", meant, content.index(";") + 1)
    if twice := re.search(r",(\s*,)+", content):
        meant = line[: twice.start() + 1] + line[twice.end() :]
        return TextFault("there is one ',' too many", meant, twice.start() + 2)
    if missing := _NO_COMMA.search(content, start):
        at = missing.end(1) if missing[1] else missing.start() + 1
        meant = f"{line[:at]}, {line[at:].lstrip()}"
        return TextFault(f"a comma is missing: write {_row(meant)}", meant, at + 1)
    return None


def wrong_dash(found: re.Match, first: re.Match) -> str | None:
    """What is wrong with how a row begins, beside the first row of its section."""
    if not found[2].strip():
        return "'- ' is missing before the row"
    if found[2] == "-":
        return "a space is missing after '-'"
    if found[1] != first[1]:
        return f"is indented by {counted(len(found[1]), 'space')}, the rows before it by {len(first[1])}"
    return None


def _row(line: str) -> str:
    """The row on a line, without its comment and what a list around it adds."""
    text = line[: len(without_comment(line))].strip().rstrip(",")
    text = text[line.strip().index("[") :] if "[" in text else text
    surplus = text.count("[") - text.count("]")
    if text.startswith("[[") and surplus == 1:
        return text[1:]
    return text[:surplus] if surplus < 0 and text.endswith("]" * -surplus) else text
