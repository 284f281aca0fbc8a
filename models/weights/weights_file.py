"""Weights files: own checkpoints, published YOLOv5 files, bare state dicts. Nothing in a file is executed.

`graftdet.models.backends.loading` chooses between these and exported files.
"""

from dataclasses import dataclass
from pathlib import Path

import torch

from graftdet.models.spec.model_spec import ModelSpec
from graftdet.models.weights.yolov5_checkpoint import read_published
from graftdet.utils.checkpoint import ForeignCheckpoint, load_checkpoint
from graftdet.utils.errors import UserError
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
    """

    path: Path
    source: str
    state: dict[str, torch.Tensor]
    yaml: str | dict | None = None
    names: list[str] | None = None
    nc: int | None = None
    size: int | None = None
    square_letterbox: bool = False

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
    """Read a `.pt` file: an own checkpoint (its EMA where it has one), a published YOLOv5 file or a bare state dict.

    Raises:
        UserError: the file is missing, truncated, of an unknown kind, or asks for anything beyond data.
    """
    path = Path(path)
    try:
        content = load_checkpoint(path)
    except ForeignCheckpoint:
        published = read_published(path)
        source = "published" if published.yaml else "state dict"
        return WeightsFile(path, source, published.state, published.yaml, published.names, published.nc)
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


def _mapping(value) -> dict:
    return value if isinstance(value, dict) else {}


def _state_dict(entry) -> dict[str, torch.Tensor]:
    """The tensors of a state dict, or of {'model': state dict, ...} as some programs save an EMA."""
    entry = _mapping(entry)
    for key in ("model", "state", "ema"):
        if isinstance(entry.get(key), dict):
            entry = entry[key]
    return {name: value for name, value in entry.items() if isinstance(value, torch.Tensor)}
