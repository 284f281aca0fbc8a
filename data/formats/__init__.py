"""Data formats, one file each. `FORMATS` holds them all; a file added to this folder is registered on first use."""

from importlib import import_module
from pkgutil import iter_modules


def __getattr__(name: str):
    if name != "FORMATS":
        raise AttributeError(f"module 'graftdet.data.formats' has no attribute '{name}'")
    for module in sorted(module.name for module in iter_modules(__path__)):
        import_module(f"{__name__}.{module}")
    from graftdet.data.formats.format import FORMATS

    return FORMATS
