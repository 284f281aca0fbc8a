"""Weights in and out of files: own checkpoints, published YOLOv5 files, bare state dicts; and into models.

Nothing in a file is executed. `graftdet.models.backends.loading` chooses between these and exported files.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
import yaml
from graftdet.models.spec.model_spec import ModelSpec
from graftdet.models.weights.yolov5_checkpoint import read_published
from graftdet.utils.checkpoint import ForeignCheckpoint, load_checkpoint
from graftdet.utils.errors import UserError
from graftdet.utils.hyperparameters import has_geometric_augmentation


@dataclass
class WeightsFile:
    """What a weights file holds. `source` is 'checkpoint' (our own), 'published' or 'state dict'.

    `state` maps weight names to tensors; `yaml` is the model's YAML as text or as a mapping; the rest is None where
    the file does not say. `size` is the picture size of training; `squares` says that it was on squares which nothing
    moved about in (`graftdet.utils.hyperparameters.has_geometric_augmentation`).
    """

    path: Path
    source: str
    state: dict[str, torch.Tensor]
    yaml: str | dict | None = None
    names: list[str] | None = None
    nc: int | None = None
    size: int | None = None
    squares: bool = False


def load_weights(path: str | Path) -> WeightsFile:
    """Read a `.pt` file: our own checkpoint (its EMA where it has one), a published YOLOv5 file, a bare state dict.

    Raises `UserError` when it is missing, torn, foreign, or asks for anything beyond data.
    """
    path = Path(path)
    try:
        content = load_checkpoint(path)
    except ForeignCheckpoint:
        found = read_published(path)
        source = "published" if found.yaml else "state dict"
        return WeightsFile(path, source, found.state, found.yaml, found.names, found.nc)
    state = _tensors(content.get("ema")) or _tensors(content.get("model"))
    if not state or not isinstance(content.get("yaml"), (str, dict)):
        raise UserError(f"{path}: holds no model, expected a checkpoint with its YAML and its weights")
    options, recipe = (
        content.get(key) if isinstance(content.get(key), dict) else {} for key in ("options", "hyperparameters")
    )
    size, names = options.get("img"), content.get("names")
    return WeightsFile(
        path=path,
        source="checkpoint",
        state={name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in state.items()},
        yaml=content["yaml"],
        names=[str(name) for name in names] if names else None,
        nc=content.get("nc"),
        size=size if isinstance(size, int) else None,
        squares=not has_geometric_augmentation(recipe) and not options.get("rect"),
    )


def _tensors(entry) -> dict[str, torch.Tensor]:
    """The tensors of a state dict, or of {'model': state dict, ...} as an EMA may be kept."""
    if not isinstance(entry, dict):
        return {}
    for key in ("model", "state", "ema"):
        if isinstance(entry.get(key), dict):
            entry = entry[key]
    return {name: value for name, value in entry.items() if isinstance(value, torch.Tensor)}


def _spec_of(weights: WeightsFile) -> ModelSpec | None:
    """The YAML of the file, unbuilt; None where it has none that can be read."""
    try:
        return None if weights.yaml is None else _read_spec(weights, str(weights.path))
    except UserError:
        return None


def _read_spec(weights: WeightsFile, where: str) -> ModelSpec:
    """The YAML of the file, which may be text or a mapping; `where` names it in errors."""
    if isinstance(weights.yaml, str):
        return ModelSpec.from_text(weights.yaml, where)
    return ModelSpec.from_dict(weights.yaml, where, yaml.safe_dump(weights.yaml, sort_keys=False))
