"""Data sets: formats, audit, conversion, augmentation, loading and the sources that pictures come from.

Names are imported on first use, so that `import data.sources` needs no torch.
"""

from importlib import import_module

_HOMES = {
    "load_data_config": "config",
    "open_split": "config",
    "DataConfig": "config",
    "Sample": "formats.base",
    "Split": "formats.base",
    "FORMATS": "formats",
}


def __getattr__(name: str):
    if name not in _HOMES:
        raise AttributeError(f"module 'data' has no attribute '{name}'")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__():
    return sorted(_HOMES)
