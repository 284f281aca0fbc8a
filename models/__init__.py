"""YAML rows become a graph: blocks, parser, heads, losses and exported forms.

Names load on first use, so that an exported file can be run without importing torch:
`build_model`, `load_model`, `load_plugins`, `BLOCKS`, `HEADS`, `DetectionModel`, `ModelSpec`.
"""

from importlib import import_module

_HOME = {
    "build_model": "graph.detection_model",
    "DetectionModel": "graph.detection_model",
    "ModelSpec": "spec.model_spec",
    "load_model": "backends.loading",
    "load_plugins": "graph.plugins",
    "BLOCKS": "blocks",
    "HEADS": "heads",
}


def __getattr__(name):
    if name not in _HOME:
        raise AttributeError(f"module 'models' has no attribute '{name}'")
    return getattr(import_module(f".{_HOME[name]}", __name__), name)


def __dir__():
    return sorted([*globals(), *_HOME])


if __name__ == "models":  # imported by its bare name, from a checkout
    from graftdet.utils.bare_imports import alias_package

    alias_package(__name__)
