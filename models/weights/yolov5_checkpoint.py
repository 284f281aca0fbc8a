"""Weights that the original YOLOv5 implementation published or trained, read as data.

Its `.pt` files hold a dict whose `model` (and, while training, `ema`) is a whole pickled module. What is needed of it
are facts: the tensors with their names, the YAML, the class names, the strides. They are collected from the module's
recorded state (`graftdet.models.weights.torch_archive`); no class of the file is imported or made.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from graftdet.models.weights.restricted_unpickler import Inert
from graftdet.models.weights.torch_archive import read_archive
from graftdet.utils.errors import UserError

_MOST_MODULES = 100_000  # far above any detector; a crafted file could name one module a million times
_NOT_YAML = (
    "yaml_file",
    "scale",
)  # keys the original adds to its YAML when it builds; another one is `ch`, which says what is so


@dataclass
class Published:
    """What a foreign `.pt` file says about a model: tensors by name, and the rest where it is known (else None)."""

    state: dict[str, torch.Tensor]
    yaml: dict | None = None
    names: list[str] | None = None
    nc: int | None = None
    stride: list[float] | None = None


def read_published(path: str | Path) -> Published:
    """Read a published YOLOv5 checkpoint or a bare state dict; float16 and bfloat16 tensors become float32.

    Raises `UserError` when the file is missing, torn, asks for anything beyond data, or holds no weights.
    """
    content = read_archive(path)
    if isinstance(content, dict):
        for key in ("ema", "model", "state_dict", "model_state_dict"):
            if isinstance(content.get(key), (Inert, dict)) and content[key]:
                content = content[key]
                break
    if isinstance(content, Inert):
        found = _from_module(content, path)
    elif isinstance(content, dict):
        found = Published({str(name): value for name, value in content.items() if isinstance(value, torch.Tensor)})
    else:
        raise UserError(f"{path}: holds a {type(content).__name__}, expected a model or a dict of tensors")
    if not found.state:
        raise UserError(f"{path}: holds no tensors, expected a model's weights")
    found.state = {_bare_name(name): _as_float32(value) for name, value in found.state.items()}
    return found


def _from_module(module: Inert, path: str | Path) -> Published:
    """Collect the facts of a recorded module."""
    wrapped = dict(_items(module.state.get("_modules"))).get("module")
    if "yaml" not in module.state and isinstance(wrapped, Inert):  # saved inside DataParallel
        module = wrapped
    state: dict[str, torch.Tensor] = {}
    _collect(module, "", state, [0], path)
    yaml = module.state.get("yaml")
    yaml = (
        _plain({key: value for key, value in yaml.items() if key not in _NOT_YAML}) if isinstance(yaml, dict) else None
    )
    names = _names(module.state.get("names"))
    nc = module.state.get("nc", (yaml or {}).get("nc"))
    stride = module.state.get("stride")
    return Published(
        state=state,
        yaml=yaml,
        names=names,
        nc=nc if isinstance(nc, int) else len(names) if names else None,
        stride=[float(s) for s in stride.flatten()] if isinstance(stride, torch.Tensor) else None,
    )


def _collect(module: Inert, prefix: str, state: dict, count: list[int], path: str | Path) -> None:
    """Add the tensors of `module` and of what it holds to `state`, named as `torch.nn.Module.state_dict` names them."""
    count[0] += 1
    if count[0] > _MOST_MODULES or prefix.count(".") > 100:
        raise UserError(f"{path}: its modules are nested without end, expected a detector")
    hidden = module.state.get("_non_persistent_buffers_set")
    hidden = hidden if isinstance(hidden, (set, frozenset, list, tuple)) else ()
    for kind in ("_parameters", "_buffers"):
        for name, value in _items(module.state.get(kind)):
            if isinstance(value, torch.Tensor) and name not in hidden:
                state[f"{prefix}{name}"] = value
    for name, child in _items(module.state.get("_modules")):
        if isinstance(child, Inert):
            _collect(child, f"{prefix}{name}.", state, count, path)


def _items(value) -> list[tuple]:
    return list(value.items()) if isinstance(value, dict) else []


def _names(value) -> list[str] | None:
    """Class names as a list, from a list or from a dict of index -> name."""
    if isinstance(value, dict) and sorted(value, key=str) == sorted(range(len(value)), key=str):
        value = [value[index] for index in range(len(value))]
    return [str(name) for name in value] if isinstance(value, (list, tuple)) and value else None


def _plain(value, depth: int = 0):
    """A copy of YAML data without anything that is no YAML data; the original's `None` and texts stay as they are."""
    if depth > 20:
        return None
    if isinstance(value, dict):
        return {str(key): _plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item, depth + 1) for item in value]
    return value if value is None or isinstance(value, (bool, int, float, str)) else None


def _bare_name(name: str) -> str:
    return name.removeprefix("module.")


def _as_float32(tensor: torch.Tensor) -> torch.Tensor:
    """Half precision -> float32; anything else as it is. A copy, so that tensors no longer share storages."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor.clone()
