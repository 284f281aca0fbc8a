"""The class behind a module name of a row: a registered block or head, a layer of torch.nn, a class of a plugin."""

from typing import Any, NamedTuple

from torch import nn

from graftdet.models.blocks import BLOCKS
from graftdet.models.blocks.registration import BlockOptions
from graftdet.models.graph.errors import UnknownModuleError
from graftdet.models.graph.module_names import module_hint, nearest_module
from graftdet.models.graph.plugins import find_in_packages, refuse_ambiguous
from graftdet.models.heads import HEADS


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
        raise UnknownModuleError(f"torch.nn has no layer '{short}'", module_hint(module), nearest_module(module))
    plugin = find_in_packages(module)
    if plugin is not None:
        return Module(plugin, BlockOptions(), False)
    raise UnknownModuleError(f"'{module}' is not a known module", module_hint(module), nearest_module(module))
