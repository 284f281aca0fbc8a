"""Detection heads, one per file. Every file in this folder is loaded; see `base.Head` for their contract."""

import pkgutil
from importlib import import_module

from graftdet.models.heads.base import HeadRegistry

HEADS = HeadRegistry()
"""name -> subclass of `graftdet.models.heads.base.Head`; `HEADS.options(name)` is a `HeadOptions`."""

for _module in pkgutil.iter_modules(__path__):
    import_module(f".{_module.name}", __name__)
