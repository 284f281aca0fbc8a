"""Names of modules: what an unknown one most likely means, if it is misspelled, and what to do about it otherwise."""

import re
from collections.abc import Iterable

from torch import nn

from graftdet.models.blocks import BLOCKS
from graftdet.models.graph.published_families import family_of
from graftdet.models.heads import HEADS

TIMM = "timm"
"""The package for --plugins, and the module of its models in rows."""
_OWN_BLOCK = "load your own blocks with --plugins FILE.py"
_ITS_CLASS = "load its class with --plugins FILE.py"


def torch_layers() -> list[str]:
    """Names of the layers of torch.nn."""
    return [name for name, entry in vars(nn).items() if isinstance(entry, type) and issubclass(entry, nn.Module)]


def nearest_module(module: str) -> str | None:
    """The known module name that an unknown one most likely means; None where a typing error is unlikely."""
    short = module.removeprefix("torch.").removeprefix("nn.")
    if module == TIMM:
        return None
    if "." in short:  # the class of a package, not a misspelling
        last = short.rpartition(".")[2]
        return last if last in BLOCKS else None
    if short in torch_layers():
        return f"nn.{short}"
    if short in BLOCKS or short in HEADS:
        return short
    if family_of(short):
        return None
    near = likely_typo(short, [*BLOCKS, *HEADS] if short == module else torch_layers())
    return f"nn.{near}" if near and short != module else near


def module_hint(module: str) -> str:
    """What to do about an unknown module name."""
    if module == TIMM:
        return "models of timm are available with --plugins timm"
    near, family = nearest_module(module), family_of(module)
    if near:
        return f"did you mean '{near}'?" + (f" Otherwise {_ITS_CLASS}" if near in BLOCKS or near in HEADS else "")
    if family:
        return f"it is known from {family}; {_ITS_CLASS}"
    if "." in module.removeprefix("torch.").removeprefix("nn."):
        return f"a block of an installed package is allowed by --plugins {module.rpartition('.')[0]}"
    return _OWN_BLOCK


def likely_typo(name: str, choices: Iterable[str]) -> str | None:
    """The choice of which `name` is most likely a misspelling; None where another module is as likely.

    At most one edit per five characters is one. Other digits mean another module, and so do other letters in a short
    acronym: SEAM is not stem, C2 is not C3, CBM is not CBAM.
    """
    plain = _plain(name)
    found = []
    for choice in choices:
        other = _plain(choice)
        limit = (max(len(plain), len(other)) + 4) // 5
        if abs(len(plain) - len(other)) > limit:
            continue
        if _once(plain) != _once(other):
            acronym = name.isupper() and choice.isupper() and len(plain) <= 4
            if acronym or min(len(plain), len(other)) < 3 or _digits(plain) != _digits(other):
                continue
        distance = edit_distance(plain, other)
        if distance <= limit or _once(plain) == _once(other):
            found.append((distance, choice.lower() != name.lower(), choice))
    return min(found)[2] if found else None


def edit_distance(first: str, second: str) -> int:
    """Number of characters to insert, delete, replace or exchange with their neighbor to get from one to the other.

    Source:
        Damerau, A technique for computer detection and correction of spelling errors, 1964; without edits of a
        character that was exchanged.
    """
    before: list[int] = []
    row = list(range(len(second) + 1))
    for i, a in enumerate(first, 1):
        last, row = row, [i]
        for j, b in enumerate(second, 1):
            row.append(min(last[j] + 1, row[-1] + 1, last[j - 1] + (a != b)))
            if i > 1 and j > 1 and a == second[j - 2] and first[i - 2] == b:
                row[j] = min(row[j], before[j - 2] + 1)
        before = last
    return row[-1]


def _plain(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "")


def _once(name: str) -> str:
    """The name with each repeated character once: `C33` as `C3`."""
    return re.sub(r"(.)\1+", r"\1", name)


def _digits(name: str) -> str:
    return "".join(re.findall(r"\d", _once(name)))
