"""The modules that rows of a model YAML may name. One family per file; every file in this folder is loaded.

A block is an `nn.Module` class: `(B, c_in, H, W) -> (B, c_out, H', W')`. One that joins rows takes a list of maps; a
whole backbone returns one. A row's args are bound to its constructor by its signature
(`graftdet.models.graph.arguments`); what is special about it is declared with its registration
(`graftdet.models.blocks.registration.BlockOptions`):

    @BLOCKS.register(arguments={"r": POSITIVE_INT})
    class SE(nn.Module):
        ...

The docstring is the block's entry in `graftdet blocks`: a summary line, shapes, `Args:` with every argument,
`Source:` with paper, section and what differs from it, `Example:` with a row.
"""

import pkgutil
from importlib import import_module

from graftdet.models.blocks.registration import BlockOptions
from graftdet.utils.registry import Registry

BLOCKS = Registry("block", BlockOptions)
"""Module name -> class of the block; `BLOCKS.options(name)` is a `BlockOptions`."""

for _module in pkgutil.iter_modules(__path__):
    import_module(f".{_module.name}", __name__)
