"""Arguments of rows after a swap: those that both modules know by name stay, anchors of heads are added or removed."""

from dataclasses import dataclass, field
from inspect import Parameter

from graftdet.models.blocks.registration import PLAIN
from graftdet.models.editing.source_map import Node, locate_rows
from graftdet.models.editing.text_edits import Edit, apply_edits
from graftdet.models.graph.modules import find_block
from graftdet.models.graph.signatures import POSITIONAL, REQUIRED, SHORT_NAMES, plain_name, read_signature
from graftdet.models.spec.model_spec import ModelSpec, resolve_constants
from graftdet.utils.errors import UserError

ANCHORS_PER_LEVEL = 3  # if the YAML has no anchors; their sizes are computed before training


@dataclass(frozen=True)
class _Interface:
    """The parameters that a row with a module may give, by name and in order."""

    named: dict[str, Parameter]
    width_out: str | None
    is_head: bool
    aliases: dict[str, str] = field(default_factory=dict)  # older names of arguments -> present names

    def canonical(self, name: str) -> str:
        """One name for all synonyms of an argument: `k` for kernel_size, `c2` for any output width."""
        plain = plain_name(name)
        return (
            "c2"
            if name == self.width_out
            else next((short for short, forms in SHORT_NAMES.items() if plain in forms), plain)
        )


def map_arguments(text: str, modules: dict[int, str], where: str) -> str:
    """Adapt the args of rows whose module was replaced.

    Args that both modules know by name stay as written, under the new module's name and at its position. Of the other
    args of a block, those stay whose position is an argument that the old module does not have. A head that needs
    anchors gets those of the YAML, or a number per level. Rows are unchanged if one of the modules is a layer of
    torch.nn, takes any arguments or is unknown, and if a block replaces a head.

    Args:
        text: The YAML with the new modules.
        modules: Old module name by row index.
        where: Name of the file, for messages.

    Returns:
        The YAML with adapted args.

    Raises:
        UserError: If args are shared with another row (a YAML alias).
    """
    spec = ModelSpec.from_text(text, where)
    rows, edits = locate_rows(text, where), {}
    for index, old in modules.items():
        node = rows[index].node.target.children[3]
        args = _mapped_args(text, node.target, spec, index, old)
        if args is not None and edits.setdefault(node.start, Edit(node.start, node.end, args)).new != args:
            raise UserError(_shared(spec, index))
    if not edits:
        return text
    text = apply_edits(text, list(edits.values()))
    try:
        after = ModelSpec.from_text(text, where).rows
    except UserError:  # an alias of a replaced node
        after = None
    if after is None or any(
        row != before and row.index not in modules for before, row in zip(spec.rows, after, strict=True)
    ):
        raise UserError(_shared(spec, max(modules)))
    return text


def _shared(spec: ModelSpec, index: int) -> str:
    return f"{spec.label}, {spec.rows[index]}: shares its args with another row (a YAML alias); write them out first"


def _mapped_args(text: str, node: Node, spec: ModelSpec, index: int, old_module: str) -> str | None:
    """The text of a row's args for its new module; None if they do not change."""
    row = spec.rows[index]
    old, new = _read_interface(old_module), _read_interface(row.module)
    if old is None or new is None or old.is_head != new.is_head:
        return None
    written = _written_args(text, node, list(old.named), old.aliases)
    if written is None:
        return None
    values = dict(zip(written, [*row.args, *row.kwargs.values()], strict=True))
    known = {new.canonical(name): name for name in new.named}
    positional = [name for name, parameter in new.named.items() if parameter.kind in POSITIONAL]
    new_names = {}  # old argument name -> new one
    for position, name in enumerate(written):
        candidate = positional[position] if position < min(len(positional), len(row.args)) else None
        if old.canonical(name) in known:
            new_names[name] = known[old.canonical(name)]
        elif candidate is not None and _may_become(values[name], old, name, new, candidate):
            new_names[name] = candidate
    args = {new_names[name]: written[name] for name in new_names}
    if "anchors" in new.named and "anchors" not in args and old_module != row.module:
        args["anchors"] = "anchors" if spec.anchors is not None else str(ANCHORS_PER_LEVEL)
    before = [*positional[: len(row.args)], *list(written)[len(row.args) :]]
    if len(new_names) == len(written) and list(args) == before:
        return None
    args = {name: args[name] for name in new.named if name in args}
    if not row.kwargs and list(args) == positional[: len(args)]:
        return f"[{', '.join(args.values())}]"
    return f"{{{', '.join(f'{name}: {value}' for name, value in args.items())}}}"


def _may_become(value: object, old: _Interface, name: str, new: _Interface, candidate: str) -> bool:
    """Whether the argument `name` of the old module may become `candidate`, at the same position in the new one.

    The old module must not have an argument `candidate`, and both must be of the same kind.
    """
    if old.is_head or old.width_out == name or new.width_out == candidate:
        return False
    if new.canonical(candidate) in map(old.canonical, old.named):
        return False
    default, value = new.named[candidate].default, resolve_constants(value)
    kinds = [(bool,), (int, float, list, tuple), (str,)]
    return (
        default is REQUIRED or default is None or any(type(default) in kind and type(value) in kind for kind in kinds)
    )


def _read_interface(module: str) -> _Interface | None:
    """None for an unknown module, a layer of torch.nn, and a module with *args or **kwargs."""
    try:
        block, options, is_head = find_block(module)
    except UserError:
        return None
    aliases, options = (options.argument_aliases, PLAIN) if is_head else ({}, options)
    signature = read_signature(block, options)
    if block.__module__.startswith("torch.nn") or signature.open_positional or signature.open_keywords:
        return None
    filled_in = {"ch"} if is_head else {signature.width_in}
    filled_in |= {"n"} if options.rule == "infer" else set()
    named = {name: parameter for name, parameter in signature.named.items() if name not in filled_in}
    return _Interface(named, options.width_out or signature.width_out, is_head, aliases)


def _written_args(text: str, node: Node, names: list[str], aliases: dict[str, str]) -> dict[str, str] | None:
    """The text of a row's args by name; None if the module does not accept them (an error when the model is built)."""
    if node.value is not None:
        return None
    pairs = []
    if text[node.inner] in "[-":
        children = list(node.children)
        last = children[-1].target if children else None
        if last is not None and last.value is None and text[last.inner] == "{":  # keyword arguments
            pairs = children.pop().target.children
        if len(children) > len(names):
            return None
        keys, children = names[: len(children)], [*children, *pairs[1::2]]
    else:
        pairs, keys, children = node.children, [], node.children[1::2]
    keys = [*keys, *(aliases.get(key.value, key.value) for key in pairs[::2])]
    if len(keys) != len(children) or len(set(keys)) < len(keys) or not set(keys) <= set(names):
        return None
    return {key: text[value.start : value.end] for key, value in zip(keys, children, strict=True)}
