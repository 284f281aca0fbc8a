"""The class behind a module name of a row: a registered block or head, a layer of torch.nn, a class of a plugin."""

from typing import Any, NamedTuple

from torch import nn

from graftdet.models.blocks import BLOCKS
from graftdet.models.blocks.registration import BlockOptions
from graftdet.models.graph.errors import UnknownModuleError
from graftdet.models.graph.plugins import find_in_packages, refuse_ambiguous
from graftdet.models.heads import HEADS
from graftdet.utils.errors import nearest

_OWN_BLOCK = "load your own blocks with --plugins FILE.py"


class Module(NamedTuple):
    """The class behind a module name, the options of its registration, and whether it is a head."""

    block: type
    options: Any  # `BlockOptions`, of a head `HeadOptions`
    is_head: bool


def find_block(module: str) -> Module:
    """Find the class of a module name.

    Args:
        module: as a row has it: `Conv`, `nn.Upsample`, `my_package.MyBlock`.

    Raises:
        UnknownModuleError: there is none, or it may mean two.
    """
    refuse_ambiguous(module)
    if module in HEADS:
        return Module(HEADS[module], HEADS.options(module), True)
    if module in BLOCKS:
        return Module(BLOCKS[module], BLOCKS.options(module), False)
    short = module.removeprefix("torch.").removeprefix("nn.")
    if module != short:
        layer = getattr(nn, short, None)
        if isinstance(layer, type) and issubclass(layer, nn.Module):
            return Module(layer, BlockOptions(), False)
        raise UnknownModuleError(f"torch.nn has no layer '{short}'", _hint(module))
    plugin = find_in_packages(module)
    if plugin is not None:
        return Module(plugin, BlockOptions(), False)
    raise UnknownModuleError(f"'{module}' is not a known module", _hint(module))


def torch_layers() -> list[str]:
    """Names of the layers of torch.nn."""
    return [name for name, entry in vars(nn).items() if isinstance(entry, type) and issubclass(entry, nn.Module)]


def nearest_module(module: str) -> str | None:
    """The known module name that an unknown one most likely means; None where none is near."""
    short = module.removeprefix("torch.").removeprefix("nn.")
    if "." in short:  # the class of a package, not a misspelling
        last = short.rpartition(".")[2]
        return last if last in BLOCKS else None
    if short in torch_layers():
        return f"nn.{short}"
    if short in BLOCKS or short in HEADS:
        return short
    near = nearest(short, [*BLOCKS, *HEADS] if short == module else torch_layers())
    return f"nn.{near}" if near and short != module else near


def _hint(module: str) -> str:
    near = nearest_module(module)
    if near:
        return f"did you mean '{near}'?"
    if "." in module.removeprefix("torch.").removeprefix("nn."):
        return f"a block of an installed package is allowed by --plugins {module.rpartition('.')[0]}"
    return _OWN_BLOCK
