"""Match the layers of a file with those of a row by structure, where their names do not agree.

A layer is what has tensors: a convolution, a batch norm, a linear layer. Two layers correspond where they have the same
kinds of tensors in the same shapes and stand at the same position in the order of layers.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

import torch

from graftdet.models.weights.row_matching import COUNTER

MIN_LAYERS = 4  # fewer layers of equal shapes say little: two convolutions and their batch norms
MAX_STEPS = 20_000  # of the search, far above what a backbone needs

Signature = tuple[tuple[str, tuple[int, ...]], ...]
"""Kind (`weight`, `running_mean`, ...) and shape of each tensor of a layer."""


class AmbiguousStructureError(Exception):
    """Layers can be matched in more than one way; the text says why."""


@dataclass
class _Node:
    """A module of the file by its name: a layer, or what contains layers."""

    name: str
    signature: Signature = ()
    children: dict[str, "_Node"] = field(default_factory=dict)

    def layers(self) -> Iterator["_Node"]:
        """This node, if it is a layer, and all layers below it."""
        if self.signature:
            yield self
        for child in self.children.values():
            yield from child.layers()

    def outline(self) -> tuple[Signature, ...]:
        """The signatures of its layers: equal for modules that shapes cannot tell apart."""
        return tuple(layer.signature for layer in self.layers())


def match_structure(own: Mapping[str, torch.Tensor], state: Mapping[str, torch.Tensor]) -> dict[str, str]:
    """Match all layers of a row with consecutive layers of a file.

    The order in which the file lists its layers comes first. Where it does not lead to a match, modules with names,
    such as `branch1` and `branch2`, may change places among their siblings, while numbered ones keep their order; the
    match has to be the only one then.

    Args:
        own: tensors of the row, in the order of its `state_dict`.
        state: tensors of the file.

    Returns:
        Name in `own` -> name in `state`, batch counters included where both have them; {} where the layers of the row
        are not found in the file.

    Raises:
        AmbiguousStructureError: there are several matches.
    """
    ours, tree = list(_tree(own).layers()), _tree(state)
    if len(ours) < MIN_LAYERS:
        return {}
    wanted = [layer.signature for layer in ours]
    order_is_lost = list(state) == sorted(state)  # .safetensors files list their tensors by name
    matches = [] if order_is_lost else _consecutive(wanted, list(tree.layers()))
    if not matches:
        matches = _reordered(wanted, tree, order_is_lost)
    if len(matches) > 1:
        first, second = next(pair for pair in zip(*matches, strict=True) if pair[0] != pair[1])
        raise AmbiguousStructureError(f"the same layers occur more than once, as in {first} and {second}")
    found = dict(zip((layer.name for layer in ours), matches[0], strict=True)) if matches else {}
    names = ((name, *name.rpartition(".")[::2]) for name in own)
    sources = {name: f"{found[layer]}.{kind}".removeprefix(".") for name, layer, kind in names if layer in found}
    return {name: source for name, source in sources.items() if source in state}


def _tree(state: Mapping[str, torch.Tensor]) -> _Node:
    """The modules that the names of tensors speak of; numbered siblings in the order of their numbers."""
    root = _Node("")
    tensors: dict[str, list[tuple[str, tuple[int, ...]]]] = {}
    for name, tensor in state.items():
        layer, _, kind = name.rpartition(".")
        if kind != COUNTER:
            tensors.setdefault(layer, []).append((kind, tuple(tensor.shape)))
    for layer, kinds in tensors.items():
        node = root
        for part in filter(None, layer.split(".")):
            node = node.children.setdefault(part, _Node(f"{node.name}.{part}".removeprefix(".")))
        node.signature = tuple(sorted(kinds))
    _sort_numbers(root)
    return root


def _sort_numbers(node: _Node) -> None:
    if all(name.isdigit() for name in node.children):
        node.children = {name: node.children[name] for name in sorted(node.children, key=int)}
    for child in node.children.values():
        _sort_numbers(child)


def _consecutive(wanted: Sequence[Signature], layers: Sequence[_Node]) -> list[list[str]]:
    """The names of each run of layers with the signatures `wanted`, in the order of the file."""
    theirs, count = [layer.signature for layer in layers], len(wanted)
    starts = (i for i in range(len(theirs) - count + 1) if theirs[i : i + count] == wanted)
    return [[layer.name for layer in layers[start : start + count]] for start in starts]


def _reordered(wanted: Sequence[Signature], tree: _Node, order_is_lost: bool) -> list[list[str]]:
    """At most two different matches in which named siblings may change places."""
    matches: list[list[str]] = []
    problems: list[str] = []
    for root in _containers(tree):
        search = _Search(wanted, order_is_lost)
        matches += [names for names in islice(search.from_root(root), 2) if names not in matches]
        problems += [search.problem] if search.problem else []
        if len(matches) > 1:
            break
    if not matches and problems:
        raise AmbiguousStructureError(problems[0])
    return matches


def _containers(node: _Node) -> Iterator[_Node]:
    if node.children:
        yield node
        for child in node.children.values():
            yield from _containers(child)


class _Search:
    """Depth-first search for the layers `wanted`, in order, in the tree of a file."""

    def __init__(self, wanted: Sequence[Signature], order_is_lost: bool):
        self.wanted, self.order_is_lost = wanted, order_is_lost
        self.steps = 0
        self.problem = ""  # why a part of the file cannot be ordered

    def from_root(self, root: _Node) -> Iterator[list[str]]:
        """The names of the layers of each match that begins with a layer of `root`; what follows is left over."""
        for names in self._after(root, []):
            if len(names) == len(self.wanted):
                yield names

    def _after(self, node: _Node, names: list[str]) -> Iterator[list[str]]:
        """`names` continued by all layers of `node`, or by as many as are wanted."""
        self.steps += 1
        if self.steps > MAX_STEPS:
            raise AmbiguousStructureError("the layers of the file can be ordered in too many ways")
        if len(names) == len(self.wanted):
            yield names
            return
        if node.signature:
            if node.signature != self.wanted[len(names)]:
                return
            names = [*names, node.name]
        groups = self._groups(node)
        if alike := next((group for group in groups if self.order_is_lost and not _are_numbered(group)), None):
            if names or Counter(self.wanted) <= Counter(node.outline()):
                pair = " and ".join(child.name for child in alike[:2])
                self.problem = f"the file lists its tensors by name, and {pair} have the same shapes"
            return
        yield from self._children(groups, names)

    def _children(self, groups: list[list[_Node]], names: list[str]) -> Iterator[list[str]]:
        """Every order of the groups in which their layers are those wanted; a group keeps its own order."""
        if not groups or len(names) == len(self.wanted):
            yield names
            return
        for i, (child, *others) in enumerate(groups):
            rest = [*groups[:i], *([others] if others else []), *groups[i + 1 :]]
            for continued in self._after(child, names):
                yield from self._children(rest, continued)

    def _groups(self, node: _Node) -> list[list[_Node]]:
        """The children of `node`: numbered ones and those of equal outline in one group each, the others alone."""
        groups: dict[object, list[_Node]] = {}
        for name, child in node.children.items():
            groups.setdefault("numbered" if name.isdigit() else child.outline(), []).append(child)
        for group in groups.values() if self.order_is_lost else ():
            group.sort(key=lambda child: _number(child.name))
        return list(groups.values())


def _are_numbered(group: list[_Node]) -> bool:
    """Whether numbers in their names, as in `bn1` and `bn2`, order modules that are otherwise alike."""
    return len({re.sub(r"\d+$", "", child.name) for child in group}) == 1


def _number(name: str) -> int:
    found = re.search(r"\d+$", name)
    return int(found[0]) if found else -1
