"""Weights files: own checkpoints, published files, `.safetensors`, `.pdparams`, state dicts, ONNX. None is executed.

`graftdet.models.backends.loading` chooses between these and exported files.
"""

import json
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import yaml

from graftdet.models.spec.dump import dump_model
from graftdet.models.spec.model_spec import ModelSpec
from graftdet.models.weights.families import ConvertedWeights, convert, convert_onnx
from graftdet.models.weights.paddle_file import is_paddle, read_paddle
from graftdet.models.weights.pretrained.card import WeightsCard
from graftdet.models.weights.pretrained.files import find_weights, read_card
from graftdet.models.weights.safetensors_file import is_safetensors, read_safetensors, write_safetensors
from graftdet.models.weights.yolov5_checkpoint import PublishedWeights, from_published
from graftdet.utils.checkpoint import (
    check_checkpoint,
    is_checkpoint,
    non_finite_tensors,
    read_weights_archive,
    save_checkpoint,
)
from graftdet.utils.config import CONFIGS, read_text
from graftdet.utils.errors import UserError, missing_weights
from graftdet.utils.hyperparameters import has_geometric_augmentation
from graftdet.utils.text import counted

logger = logging.getLogger(__name__)

COCO_CLASSES = 80
NOT_EXPORTED = "training and conversion need the .pt or .onnx file that it was made from"
_NUM_CLASSES = re.compile(r"^nc\s*:\s*\d+", re.MULTILINE)


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
            (`graftdet.utils.hyperparameters.has_geometric_augmentation` is false), or the publisher's program
            letterboxes into squares; validation then does the same.
        card: what pretrained weights were trained on, None for other files.
        family: name of the family of published weights that the tensors were renamed from, "" for others.
        model: name of the model within the family.
        unused: names of published tensors that detection does not need.
        merged_batch_norms: whether batch norms were merged into the convolutions and are identities now: training has
            to find their statistics first.
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
    merged_batch_norms: bool = False

    @property
    def yaml_text(self) -> str:
        """The YAML as text, one line per row, with the number of classes of the weights.

        Raises:
            UserError: the file holds weights without a YAML.
        """
        if self.yaml is None:
            raise UserError(f"{self.path}: holds weights without their YAML")
        text = self.yaml if isinstance(self.yaml, str) else dump_model(self.yaml)
        return text if self.nc is None else _NUM_CLASSES.sub(f"nc: {self.nc}", text, count=1)

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
    """Read a weights file, see `read_weights`; weights that are not finite are reported as a warning."""
    weights = read_weights(path)
    if broken := non_finite_tensors(weights.state):
        logger.warning(
            f"{path}: NaN or infinite values in {len(broken)} of {counted(len(weights.state), 'tensor')}, the first is "
            f"'{broken[0]}'; a model with them predicts nothing useful"
        )
    return weights


def read_weights(path: str | Path) -> WeightsFile:
    """Read a weights file: an own checkpoint (its EMA where it has one), a published file or a bare state dict.

    Args:
        path: a `.pt`, `.pth`, `.pdparams`, `.safetensors` or, of a known family, `.onnx` file, or the name of a file in
            `configs/weights`, with or without suffix.

    Raises:
        UserError: the file is missing, truncated, of an unknown kind, or asks for anything beyond data.
    """
    if Path(path).suffix.lower() in (".yaml", ".yml"):
        raise missing_weights(path)
    path = find_weights(path)
    if is_safetensors(path):
        return _load_safetensors(path)
    if path.suffix.lower() == ".xml":
        raise UserError(f"{path}: is an exported OpenVINO model, which detect.py and val.py run; {NOT_EXPORTED}")
    if path.suffix.lower() == ".onnx":
        return _from_family(convert_onnx(path), path, merged_batch_norms=True)
    if is_paddle(path):
        return _from_published(read_paddle(path), path)
    content = read_weights_archive(path)
    if not is_checkpoint(content):
        return _from_published(from_published(content, path), path)
    check_checkpoint(content, path)
    state = _state_dict(content.get("ema")) or _state_dict(content.get("model"))
    if not state or not isinstance(content.get("yaml"), (str, dict)):
        raise UserError(f"{path}: holds no model, expected a checkpoint with its YAML and its weights")
    options, hyperparameters = content.get("options", {}), content.get("hyperparameters", {})
    size, names = options.get("img"), content.get("names")
    return WeightsFile(
        path=path,
        source="checkpoint",
        state={name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in state.items()},
        yaml=content["yaml"],
        names=[str(name) for name in names] if names else None,
        nc=content.get("nc"),
        size=size if isinstance(size, int) else None,
        square_letterbox=content.get("square_letterbox") is True  # of imported weights, which have no hyperparameters
        or (not has_geometric_augmentation(hyperparameters) and not options.get("rect")),
        merged_batch_norms=bool(content.get("merged_batch_norms")),
    )


def save_weights(path: str | Path, weights: WeightsFile, half: bool = True) -> Path:
    """Write a file that `load_weights` reads with everything that `weights` has.

    Args:
        path: the file to write: `.safetensors`, or `.pt` for a checkpoint of this project, which holds no card.
        weights: tensors, YAML, class names and card.
        half: store weights as float16 in `.safetensors`, see `graftdet.models.weights.safetensors_file`.

    Returns:
        The path.

    Raises:
        UserError: the name ends otherwise, or the file cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() == ".pt":
        return _save_checkpoint(path, weights)
    if not is_safetensors(path):
        raise UserError(f"{path}: expected a file name that ends in .safetensors or .pt")
    values = {
        "names": weights.names,
        "nc": weights.nc,
        "size": weights.size,
        "square_letterbox": weights.square_letterbox,
        "merged_batch_norms": weights.merged_batch_norms or None,
        "card": weights.card.as_dict() if weights.card else None,
    }
    metadata = {"format": "pt", **{key: json.dumps(value) for key, value in values.items() if value is not None}}
    if weights.yaml is not None:
        metadata["yaml"] = weights.yaml if isinstance(weights.yaml, str) else weights.yaml_text
    if weights.card:
        metadata["license"] = weights.card.license
    write_safetensors(path, weights.state, metadata, half)
    return path


def _save_checkpoint(path: Path, weights: WeightsFile) -> Path:
    content = {
        "yaml": weights.yaml_text,
        "names": weights.names,
        "nc": weights.nc,
        "epoch": 0,
        "options": {"img": weights.size},
        "hyperparameters": {},
        "merged_batch_norms": weights.merged_batch_norms,
        "square_letterbox": weights.square_letterbox,
        "model": None,
        "ema": weights.state,
        "finished": True,
    }
    return save_checkpoint(path, content)


def _load_safetensors(path: Path) -> WeightsFile:
    header, state = read_safetensors(path)
    names = header.read_value("names", list)
    text = header.metadata.get("yaml")
    if not text and (converted := convert(PublishedWeights(state, size=header.read_value("size", int)), path)):
        return _from_family(converted, path, [str(name) for name in names] if names else None)
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
        merged_batch_norms=bool(header.read_value("merged_batch_norms", bool)),
    )


def _from_published(published: PublishedWeights, path: Path) -> WeightsFile:
    """Weights of another program, under the names of a model of this project where their family is known."""
    converted = convert(published, path)
    if converted is None:
        source = "published" if published.yaml else "state dict"
        return WeightsFile(path, source, published.state, published.yaml, published.names, published.nc, published.size)
    return _from_family(converted, path, published.names)


def _from_family(
    converted: ConvertedWeights, path: Path, names: list[str] | None = None, merged_batch_norms: bool = False
) -> WeightsFile:
    """Renamed weights; those of as many classes as COCO, without names, are those of COCO."""
    return WeightsFile(
        path=path,
        source="published",
        state=converted.state,
        yaml=converted.yaml,
        names=names or converted.names or (coco_names() if converted.nc == COCO_CLASSES else None),
        nc=converted.nc,
        size=converted.size,
        square_letterbox=converted.square_letterbox,
        family=converted.family,
        model=converted.model,
        unused=converted.unused,
        merged_batch_norms=merged_batch_norms,
    )


def coco_names() -> list[str]:
    """The names of the classes of COCO, in order."""
    names = yaml.safe_load(read_text(CONFIGS / "data" / "coco.yaml"))["names"]
    return [name.strip() for name in names.split(",")] if isinstance(names, str) else list(names)


def _mapping(value) -> dict:
    return value if isinstance(value, dict) else {}


def _state_dict(entry) -> dict[str, torch.Tensor]:
    """The tensors of a state dict, or of {'model': state dict, ...} as some programs save an EMA."""
    entry = _mapping(entry)
    for key in ("model", "state", "ema"):
        if isinstance(entry.get(key), dict):
            entry = entry[key]
    return {name: value for name, value in entry.items() if isinstance(value, torch.Tensor)}
