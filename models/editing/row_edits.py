"""Edits of the sources and modules of rows, with aliases (`*a`) resolved, and the check of their result."""

from graftdet.models.editing.source_map import Node, RowLocation
from graftdet.models.editing.text_edits import Edit
from graftdet.models.spec.model_spec import ModelSpec
from graftdet.utils.errors import UserError


def rewrite_rows(text: str, locations: list[RowLocation], wanted: list[list[str]], spec: ModelSpec) -> list[Edit]:
    """Return the edits after which each row has the sources and, last, the module given in `wanted`.

    The target of an alias is changed where it is written. An alias whose target is then different from what is wanted
    is replaced by its own text.
    """
    edits, final = [], {}
    slots = [[*location.sources, location.module] for location in locations]
    for location, nodes, texts in zip(locations, slots, wanted, strict=True):
        for node, new in zip(nodes, texts, strict=True):
            from_alias = location.from_node.alias and node is not location.module
            if location.node.alias or node.alias or from_alias:
                continue
            final[id(node)] = new
            if new != node.value:
                edits.append(Edit(node.inner, node.end, _quoted(text, node, new)))
    for location, row, nodes, texts in zip(locations, spec.rows, slots, wanted, strict=True):
        wrong = [final.get(id(node.target), node.target.value) != new for node, new in zip(nodes, texts, strict=True)]
        edits += _alias_edits(text, location, nodes, texts, wrong, f"{spec.label}, {row}")
    return edits


def _alias_edits(
    text: str, location: RowLocation, nodes: list[Node], texts: list[str], wrong: list[bool], where: str
) -> list[Edit]:
    """The edits that replace aliases by their own text, where the target is `wrong`."""
    row, from_node = location.node, location.from_node
    if row.alias:
        return [Edit(row.start, row.end, _expand_alias(text, location, texts, where))] if any(wrong) else []
    if not (from_node.alias and any(wrong[:-1])):
        return [Edit(node.start, node.end, new) for node, new, bad in zip(nodes, texts, wrong, strict=True) if bad]
    sources = ", ".join(texts[:-1])
    edits = [Edit(from_node.start, from_node.end, f"[{sources}]" if from_node.target.children else sources)]
    if wrong[-1]:
        edits.append(Edit(location.module.start, location.module.end, texts[-1]))
    return edits


def _quoted(text: str, node: Node, new: str) -> str:
    quote = text[node.inner] if text[node.inner] in "'\"" else ""
    return f"{quote}{new}{quote}"


def _expand_alias(text: str, location: RowLocation, texts: list[str], where: str) -> str:
    """The row that an alias refers to, with its own sources and module."""
    row, from_node, module = location.node.target, location.from_node, location.module
    sources = f"[{', '.join(texts[:-1])}]" if from_node.target.children else texts[0]
    between, rest = text[from_node.end : module.start], text[module.end : row.end]
    if not row.flow or "&" in between + rest:
        raise UserError(f"{where}: is written once and used twice (a YAML alias); write it out first")
    return f"[{sources}{between}{texts[-1]}{rest}"


def check_result(old: ModelSpec, text: str, sources: list, modules: list[str], new: int | None = None) -> None:
    """Raise `UserError` if a row (except the `new` one) is not as expected: aliases share more than was handled."""
    rows = [row for row in ModelSpec.from_text(text, old.label).rows if row.index != new]
    for before, row, expected, module in zip(old.rows, rows, sources, modules, strict=True):
        same = (row.args, row.kwargs, row.number, row.name) == (before.args, before.kwargs, before.number, before.name)
        if row.sources != expected or row.module != module or not same:
            raise UserError(f"{old.label}, {before}: shares a part with another row (a YAML alias); write it out first")
