"""Weights that the original YOLOv5 implementation published or trained, read as data.

Its `.pt` files hold a dict whose `model` (and, during training, `ema`) is a whole pickled module. Only facts are needed
of it: the tensors with their names, the YAML, the class names, the strides. They are collected from the recorded state
of the module (see `graftdet.utils.untrusted.torch_archive`); no class of the file is imported or constructed.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from graftdet.utils.errors import UserError
from graftdet.utils.untrusted.torch_archive import read_archive
from graftdet.utils.untrusted.value_limits import RecordedObject

_MAX_MODULES = 100_000  # and their tensors: far above any detector; a file could name one module a million times
_MAX_DEPTH = 100
_MAX_NAME = 1000  # characters of the name of a tensor
_MAX_LEVELS = 16
_ADDED_KEYS = ("yaml_file",)  # that the original adds to its YAML when it builds a model
_OPTION_KEYS = ("train_args", "opt", "args")  # where a checkpoint holds the options of its training
_SIZE_KEYS = ("imgsz", "img_size", "img")
_WEIGHT_KEYS = ("ema", "model", "state_dict", "model_state_dict")  # where a checkpoint holds its weights, best first


@dataclass
class PublishedWeights:
    """The model in a `.pt` file of another program.

    Attributes:
        state: tensor name -> tensor.
        yaml: the model's YAML as a mapping, None where the file has none.
        names: class names, None where the file has none.
        nc: number of classes, None where it is unknown.
        stride: pixels per cell of each level, None where it is unknown.
        size: longer side of the training images in pixels, None where it is unknown.
        merged_batch_norms: whether batch norms were merged into the convolutions, so that their statistics are lost.
    """

    state: dict[str, torch.Tensor]
    yaml: dict | None = None
    names: list[str] | None = None
    nc: int | None = None
    stride: list[float] | None = None
    size: int | None = None
    merged_batch_norms: bool = False


def read_published(path: str | Path) -> PublishedWeights:
    """Read a published YOLOv5 checkpoint or a bare state dict, see `from_published`.

    Raises:
        UserError: the file is missing, truncated, asks for anything beyond data, or holds no weights.
    """
    return from_published(read_archive(path), path)


def from_published(content: Any, path: str | Path) -> PublishedWeights:
    """Collect the weights in the object of a published YOLOv5 checkpoint or a bare state dict.

    Args:
        content: what `read_archive` returned.
        path: the file, for messages.

    Returns:
        The weights, with float16 and bfloat16 tensors as float32.

    Raises:
        UserError: it holds no weights.
    """
    size = None
    if isinstance(content, dict):
        size = _training_size(content)
        for key in _WEIGHT_KEYS:
            if isinstance(content.get(key), (RecordedObject, dict)) and content[key]:
                content = content[key]
                break
    if isinstance(content, RecordedObject):
        published = _from_module(content, path)
    elif isinstance(content, dict):
        tensors = {name: value for name, value in content.items() if isinstance(value, torch.Tensor)}
        published = PublishedWeights({name: value for name, value in tensors.items() if isinstance(name, str)})
    else:
        raise UserError(f"{path}: holds a {type(content).__name__}, expected a model or a dict of tensors")
    if not published.state:
        raise UserError(f"{path}: holds no tensors, expected a model's weights")
    published.size = size
    published.state = {name.removeprefix("module."): _as_float32(value) for name, value in published.state.items()}
    return published


def _training_size(checkpoint: dict) -> int | None:
    """Longer side of the training images, from the options that a checkpoint holds."""
    for key in _OPTION_KEYS:
        options = checkpoint.get(key)
        options = options.state if isinstance(options, RecordedObject) else options
        for name in _SIZE_KEYS if isinstance(options, dict) else ():
            value = options.get(name)
            sides = value if isinstance(value, (list, tuple)) and value else [value]
            if all(type(side) is int and 0 < side < 1e5 for side in sides):
                return max(sides)
    return None


def _from_module(module: RecordedObject, path: str | Path) -> PublishedWeights:
    """Collect the facts of a recorded module."""
    wrapped = dict(_items(module.state.get("_modules"))).get("module")
    if "yaml" not in module.state and isinstance(wrapped, RecordedObject):  # saved inside DataParallel
        module = wrapped
    state: dict[str, torch.Tensor] = {}
    _collect_tensors(module, "", state, [0], path)
    yaml = module.state.get("yaml")
    if isinstance(yaml, dict):
        added = _ADDED_KEYS if yaml.get("scales") and yaml.get("scale") else (*_ADDED_KEYS, "scale")
        yaml = _plain({key: value for key, value in yaml.items() if key not in added})
    else:
        yaml = None
    names = _class_names(module.state.get("names"))
    nc = module.state.get("nc", (yaml or {}).get("nc"))
    stride = module.state.get("stride")
    has_stride = isinstance(stride, torch.Tensor) and stride.numel() <= _MAX_LEVELS
    return PublishedWeights(
        state=state,
        yaml=yaml,
        names=names,
        nc=nc if isinstance(nc, int) else len(names) if names else None,
        stride=[float(s) for s in stride.flatten()] if has_stride else None,
    )


def _collect_tensors(
    module: RecordedObject, prefix: str, state: dict[str, torch.Tensor], count: list[int], path: str | Path
) -> None:
    """Add the tensors of `module` and of its children to `state`, named as in `torch.nn.Module.state_dict`."""
    count[0] += 1
    if count[0] > _MAX_MODULES or prefix.count(".") > _MAX_DEPTH or len(prefix) > _MAX_NAME:
        raise UserError(f"{path}: its modules are nested without end, expected a detector")
    hidden = module.state.get("_non_persistent_buffers_set")
    hidden = {name for name in hidden if isinstance(name, str)} if isinstance(hidden, (set, list, tuple)) else set()
    for kind in ("_parameters", "_buffers"):
        for name, value in _items(module.state.get(kind)):
            if isinstance(value, torch.Tensor) and name not in hidden:
                count[0] += 1
                state[f"{prefix}{name}"] = value
    for name, child in _items(module.state.get("_modules")):
        if isinstance(child, RecordedObject):
            _collect_tensors(child, f"{prefix}{name}.", state, count, path)


def _items(value) -> list[tuple[str, Any]]:
    """The entries of a dict whose keys may be names in a model."""
    entries = value.items() if isinstance(value, dict) else ()
    return [(name, item) for name, item in entries if isinstance(name, str) and len(name) <= _MAX_NAME]


def _class_names(value) -> list[str] | None:
    """Class names as a list, from a list or from a dict of index -> name."""
    if isinstance(value, dict) and value.keys() == set(range(len(value))):
        value = [value[index] for index in range(len(value))]
    is_list = isinstance(value, (list, tuple)) and value and all(isinstance(name, (str, int, float)) for name in value)
    return [str(name) for name in value] if is_list else None


def _plain(value, depth: int = 0):
    """A copy of YAML data; whatever is not YAML data becomes None."""
    if depth > 20:
        return None
    if isinstance(value, dict):
        return {str(key): _plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item, depth + 1) for item in value]
    return value if value is None or isinstance(value, (bool, int, float, str)) else None


def _as_float32(tensor: torch.Tensor) -> torch.Tensor:
    """Half precision -> float32, anything else unchanged. A copy, so that tensors no longer view one storage."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor.clone()
