"""Descriptions of the modules that rows may name, read from docstrings, signatures and registrations."""

import inspect
import re
import textwrap
from dataclasses import dataclass

from graftdet.models.blocks import BLOCKS
from graftdet.models.blocks.registration import PLAIN, BlockOptions
from graftdet.models.graph.modules import find_block
from graftdet.models.graph.signatures import REQUIRED, VAR_POSITIONAL, read_signature
from graftdet.models.heads import HEADS

_SECTION = re.compile(r"([A-Z]\w+):\s*")
_ARGUMENT = re.compile(r"^(?P<names>\*{0,2}\w+(?:, *\w+)*)(?: *\([^)]*\))?: +(?P<meaning>.*)")
_YEAR = re.compile(r"\b(19|20)\d\d\b")


@dataclass(frozen=True)
class ArgumentDescription:
    """One constructor argument.

    Args:
        name: the name, as a keyword in a row.
        meaning: what it is, from the docstring; empty if it is not documented.
        default: the default as a row writes it; None for a required argument.
        filled_in: it is no argument of the row: the input width, or the row's number.
    """

    name: str
    meaning: str
    default: str | None
    filled_in: bool


@dataclass(frozen=True)
class ModuleDescription:
    """What `graftdet blocks` reports about one module.

    Args:
        name: the first name that it is registered under.
        kind: "block" or "head".
        aliases: its other names.
        family: the source file's name, such as "csp".
        signature: the arguments of a row, such as "Conv(c2, k=1)".
        purpose: one line.
        details: input and output shapes, and what else matters.
        arguments: all constructor arguments.
        source: paper and section, and what differs from it.
        example: a row of a model YAML.
    """

    name: str
    kind: str
    aliases: tuple[str, ...]
    family: str
    signature: str
    purpose: str
    details: str
    arguments: tuple[ArgumentDescription, ...]
    source: str
    example: str


def describe_module(name: str) -> ModuleDescription:
    """Describe a block, head, plugin class or torch layer.

    Args:
        name: a module name, as in the third element of a row.

    Raises:
        UserError: there is no such module; the message names the most similar one.
    """
    block, options, is_head = find_block(name)
    names = [known for known, entry in (HEADS if is_head else BLOCKS).items() if entry is block] or [name]
    purpose, details, sections = _read_docstring(vars(block).get("__doc__") or "")
    if block.__module__.startswith("torch."):
        details, sections["Source"] = "", f"torch.nn, see the documentation of torch.nn.{block.__name__}"
    arguments = _describe_arguments(block, options, is_head, _read_arguments(sections.get("Args", "")))
    return ModuleDescription(
        name=names[0],
        kind="head" if is_head else "block",
        aliases=tuple(names[1:]),
        family=block.__module__.rsplit(".", 1)[-1],
        signature=_row_signature(names[0], block, arguments),
        purpose=purpose,
        details=details,
        arguments=arguments,
        source=_one_line(sections.get("Source", "")) or _cited_in(f"{purpose}\n{details}"),
        example=sections.get("Example", "") or (_head_example(names[0], arguments) if is_head else ""),
    )


def describe_all(plugins: bool = True) -> list[ModuleDescription]:
    """Describe every registered block, then every head, each once, in the order of their names.

    Args:
        plugins: include classes that were registered by plugins.
    """
    descriptions = []
    for registry in (BLOCKS, HEADS):
        first_names: dict[type, str] = {}
        for name, block in registry.items():
            if plugins or block.__module__.startswith("graftdet.models."):
                first_names.setdefault(block, name)
        descriptions += [describe_module(name) for name in sorted(first_names.values(), key=str.lower)]
    return descriptions


def _read_docstring(docstring: str) -> tuple[str, str, dict[str, str]]:
    """The summary, the other paragraphs joined, and the indented sections by title, dedented."""
    sections: dict[str, list[str]] = {"": []}
    title = ""
    for line in inspect.cleandoc(docstring).splitlines():
        header = _SECTION.fullmatch(line)
        if header:
            title = header[1]
        elif line and not line[0].isspace():
            title = ""  # a section ends at the first line that is not indented
        if not header:
            sections.setdefault(title, []).append(line)
    summary, _, details = "\n".join(sections.pop("")).strip().partition("\n\n")
    bodies = {name: textwrap.dedent("\n".join(lines)).strip() for name, lines in sections.items()}
    return _one_line(summary), _one_line(details), bodies


def _read_arguments(section: str) -> dict[str, str]:
    """Argument names and meanings of an `Args:` section; continuation lines are indented."""
    entries: list[tuple[str, list[str]]] = []
    for line in section.splitlines():
        argument = _ARGUMENT.match(line)
        if argument:
            entries.append((argument["names"], [argument["meaning"]]))
        elif entries:
            entries[-1][1].append(line.strip())
    return {name.strip(" *"): " ".join(lines) for names, lines in entries for name in names.split(",")}


def _describe_arguments(block, options, is_head: bool, meanings: dict[str, str]) -> tuple[ArgumentDescription, ...]:
    signature = read_signature(block, PLAIN if is_head else options)
    filled_in = {"ch"} if is_head else {signature.width_in}
    if not is_head and isinstance(options, BlockOptions) and options.rule == "infer":
        filled_in.add("n")
    return tuple(
        ArgumentDescription(
            name=name,
            meaning=meanings.get(name, ""),
            default=None if parameter.default is REQUIRED else show_value(parameter.default),
            filled_in=name in filled_in,
        )
        for name, parameter in signature.named.items()
        if parameter.kind is not VAR_POSITIONAL
    )


def _row_signature(name: str, block, arguments: tuple[ArgumentDescription, ...]) -> str:
    shown = [a.name if a.default is None else f"{a.name}={a.default}" for a in arguments if not a.filled_in]
    return f"{name}({', '.join(shown)})"


def show_value(value: object) -> str:
    """A default value as a row of a YAML writes it."""
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(show_value, value))}]"
    return value if isinstance(value, str) else repr(value)


def _head_example(name: str, arguments: tuple[ArgumentDescription, ...]) -> str:
    args = "nc, anchors" if any(argument.name == "anchors" for argument in arguments) else "nc"
    return f"[[17, 20, 23], 1, {name}, [{args}]]"


def _cited_in(text: str) -> str:
    """The citations in parentheses of a text, for a docstring without `Source:` section."""
    cited = re.findall(r"\(([^()]*(?:\([^()]*\)[^()]*)*)\)", text)
    return "; ".join(_one_line(part) for part in cited if _YEAR.search(part))


def _one_line(text: str) -> str:
    return " ".join(text.split())
