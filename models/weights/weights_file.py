"""Weights files: own checkpoints, published YOLOv5 files, `.safetensors`, bare state dicts. None is executed.

`graftdet.models.backends.loading` chooses between these and exported files.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import yaml

from graftdet.models.spec.model_spec import ModelSpec
from graftdet.models.weights.families import convert
from graftdet.models.weights.pretrained.card import WeightsCard
from graftdet.models.weights.pretrained.files import find_weights, read_card
from graftdet.models.weights.safetensors_file import is_safetensors, read_safetensors, write_safetensors
from graftdet.models.weights.yolov5_checkpoint import PublishedWeights, read_published
from graftdet.utils.checkpoint import ForeignCheckpoint, load_checkpoint
from graftdet.utils.errors import UserError, missing_weights
from graftdet.utils.hyperparameters import has_geometric_augmentation


@dataclass
class WeightsFile:
    """The content of a weights file.

    Attributes:
        path: the file.
        source: 'checkpoint' (of this project), 'published' or 'state dict'.
        state: tensor name -> tensor.
        yaml: the model's YAML, as text or as a mapping; None where the file has none.
        names: class names, None where the file has none.
        nc: number of classes, None where it is unknown.
        size: longer side of the training images in pixels, None where it is unknown.
        square_letterbox: whether training used square letterboxing without geometric augmentation
            (`graftdet.utils.hyperparameters.has_geometric_augmentation` is false); validation then does the same.
        card: what pretrained weights were trained on, None for other files.
        family: name of the family of published weights that the tensors were renamed from, "" for others.
        model: name of the model within the family.
        unused: names of published tensors that detection does not need.
    """

    path: Path
    source: str
    state: dict[str, torch.Tensor]
    yaml: str | dict | None = None
    names: list[str] | None = None
    nc: int | None = None
    size: int | None = None
    square_letterbox: bool = False
    card: WeightsCard | None = None
    family: str = ""
    model: str = ""
    unused: Sequence[str] = ()

    def read_spec(self, where: str | None = None) -> ModelSpec | None:
        """The YAML of the file as a spec, not yet built; None where the file has no YAML.

        Args:
            where: the name of the YAML in error messages (default: the path of the file).

        Raises:
            UserError: the YAML is not valid.
        """
        where = where or str(self.path)
        if self.yaml is None:
            return None
        if isinstance(self.yaml, str):
            return ModelSpec.from_text(self.yaml, where)
        return ModelSpec.from_dict(self.yaml, where)


def load_weights(path: str | Path) -> WeightsFile:
    """Read a weights file: an own checkpoint (its EMA where it has one), a published YOLOv5 file or a bare state dict.

    Args:
        path: a `.pt` or `.safetensors` file, or the name of a file in `configs/weights`, with or without suffix.

    Raises:
        UserError: the file is missing, truncated, of an unknown kind, or asks for anything beyond data.
    """
    if Path(path).suffix.lower() in (".yaml", ".yml"):
        raise missing_weights(path)
    path = find_weights(path)
    if is_safetensors(path):
        return _load_safetensors(path)
    try:
        content = load_checkpoint(path)
    except ForeignCheckpoint:
        return _from_published(read_published(path), path)
    state = _state_dict(content.get("ema")) or _state_dict(content.get("model"))
    if not state or not isinstance(content.get("yaml"), (str, dict)):
        raise UserError(f"{path}: holds no model, expected a checkpoint with its YAML and its weights")
    options, hyperparameters = (_mapping(content.get(key)) for key in ("options", "hyperparameters"))
    size, names = options.get("img"), content.get("names")
    return WeightsFile(
        path=path,
        source="checkpoint",
        state={name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in state.items()},
        yaml=content["yaml"],
        names=[str(name) for name in names] if names else None,
        nc=content.get("nc"),
        size=size if isinstance(size, int) else None,
        square_letterbox=not has_geometric_augmentation(hyperparameters) and not options.get("rect"),
    )


def save_weights(path: str | Path, weights: WeightsFile, half: bool = True) -> Path:
    """Write a `.safetensors` file that `load_weights` reads with everything that `weights` has.

    Args:
        path: the file to write.
        weights: tensors, YAML, class names and card.
        half: store weights as float16, see `graftdet.models.weights.safetensors_file.write_safetensors`.

    Returns:
        The path.

    Raises:
        UserError: the name does not end in `.safetensors`, or the file cannot be written.
    """
    path = Path(path)
    if not is_safetensors(path):
        raise UserError(f"{path}: expected a file name that ends in .safetensors")
    values = {
        "names": weights.names,
        "nc": weights.nc,
        "size": weights.size,
        "square_letterbox": weights.square_letterbox,
        "card": weights.card.as_dict() if weights.card else None,
    }
    metadata = {"format": "pt", **{key: json.dumps(value) for key, value in values.items() if value is not None}}
    if weights.yaml is not None:
        text = weights.yaml if isinstance(weights.yaml, str) else yaml.safe_dump(weights.yaml, sort_keys=False)
        metadata["yaml"] = text
    if weights.card:
        metadata["license"] = weights.card.license
    write_safetensors(path, weights.state, metadata, half)
    return path


def _load_safetensors(path: Path) -> WeightsFile:
    header, state = read_safetensors(path)
    names = header.read_value("names", list)
    text = header.metadata.get("yaml")
    return WeightsFile(
        path=path,
        source="checkpoint" if text else "state dict",
        state=state,
        yaml=text,
        names=[str(name) for name in names] if names else None,
        nc=header.read_value("nc", int),
        size=header.read_value("size", int),
        square_letterbox=bool(header.read_value("square_letterbox", bool)),
        card=read_card(header),
    )


def _from_published(published: PublishedWeights, path: Path) -> WeightsFile:
    """Weights of another program, under the names of a model of this project where their family is known."""
    converted = convert(published, path)
    if converted is None:
        source = "published" if published.yaml else "state dict"
        return WeightsFile(path, source, published.state, published.yaml, published.names, published.nc, published.size)
    return WeightsFile(
        path=path,
        source="published",
        state=converted.state,
        yaml=converted.yaml,
        names=published.names,
        nc=converted.nc,
        size=converted.size,
        family=converted.family,
        model=converted.model,
        unused=converted.unused,
    )


def _mapping(value) -> dict:
    return value if isinstance(value, dict) else {}


def _state_dict(entry) -> dict[str, torch.Tensor]:
    """The tensors of a state dict, or of {'model': state dict, ...} as some programs save an EMA."""
    entry = _mapping(entry)
    for key in ("model", "state", "ema"):
        if isinstance(entry.get(key), dict):
            entry = entry[key]
    return {name: value for name, value in entry.items() if isinstance(value, torch.Tensor)}
