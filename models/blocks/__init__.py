"""The words that YAML rows may use. One family a file; every file in this folder is loaded."""

import pkgutil
from importlib import import_module

from graftdet.utils.registry import Registry

BLOCKS = Registry("block")
"""word -> nn.Module class: `(B, c_in, H, W) -> (B, c_out, H', W')`. A class whose row joins several rows takes a list
of maps. How a row's args become constructor arguments follows from the signature (`graftdet.models.graph.arguments`); options at
registration: `rule="stack"` (an argument named n is not the row's number), `width_out="name"` (that argument, where
given, is the output width instead of c2), `takes_lists=True` (reads a row that gives a list of maps),
`beside={word: {argument: value}}` (other defaults in a model that has that word), `at_size={"mlx": {argument: value}}` (what the
sizes m, l and x of a file with `scales` have, even where its rows say False, as the published sizes of that block do)."""

for _module in pkgutil.iter_modules(__path__):
    import_module(f".{_module.name}", __name__)
