"""What a family of published weights defines: how to recognize its files, and how its tensors become a model's."""

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from graftdet.models.weights.yolov5_checkpoint import PublishedWeights

MODEL_EPS = 1e-3  # of the batch norms of every `DetectionModel`


@dataclass
class ConvertedWeights:
    """Published weights under the names of a model YAML of this project.

    Attributes:
        family: name of the family.
        model: name of the model within the family, such as 'nano'; "" where the family has one.
        yaml: the model YAML, as text or as a mapping.
        state: tensor name -> tensor, as the model of `yaml` has them.
        nc: number of classes.
        size: longer side of the training images in pixels, None where it is unknown.
        unused: names of published tensors that detection does not need.
        square_letterbox: whether the publisher's program letterboxes all images into squares; they are validated so.
        names: class names of the family, for files without; None where it has none.
    """

    family: str
    model: str
    yaml: str | dict
    state: dict[str, torch.Tensor]
    nc: int
    size: int | None = None
    unused: list[str] = field(default_factory=list)
    square_letterbox: bool = False
    names: list[str] | None = None


class WeightsFamily(ABC):
    """A family of published detectors. A file of this package defines one and adds it by `@FAMILIES.register()`.

    Attributes:
        name: as in `graftdet.models.weights.pretrained.families`, which has license and publisher.
    """

    name: str

    @abstractmethod
    def recognizes(self, weights: PublishedWeights) -> bool:
        """Whether the names and shapes of the tensors are those of the family."""

    @abstractmethod
    def convert(self, weights: PublishedWeights, path: Path) -> ConvertedWeights:
        """Rename the tensors of a recognized file.

        Raises:
            UserError: a part of the published model is unknown; the message names it.
        """

    def layer_order(self, shapes: Sequence[tuple[int, ...]]) -> list[str] | None:
        """Names of the convolutions in the order in which a published ONNX file of the family runs them.

        Args:
            shapes: shapes of the weights of all convolutions of a file, in order.

        Returns:
            The names, without `.weight`; those with a batch norm, which exported files have merged, are those for
            which `batch_norm_of` gives one. None where the file is not of this family.
        """
        return None

    def batch_norm_of(self, layer: str) -> str | None:
        """Name of the batch norm behind a convolution, None where it has none."""
        return None


def size_in_name(path: Path) -> int | None:
    """The longer side of the training images in the name of a published file, as in `picodet_s_416_coco.pdparams`."""
    numbers = [int(number) for number in re.findall(r"(?<!\d)\d{3,4}(?!\d)", path.stem)]
    return next((number for number in numbers if 128 <= number <= 1536 and number % 32 == 0), None)


def rename(
    state: Mapping[str, torch.Tensor], prefixes: Iterable[tuple[str, str]]
) -> tuple[dict[str, torch.Tensor], list[str]]:
    """Rename tensors by the first of `prefixes`, (published, own), that their name begins with.

    Returns:
        The renamed tensors, and the names that begin with none.
    """
    prefixes = list(prefixes)
    renamed, left = {}, []
    for name, tensor in state.items():
        match = next(((old, new) for old, new in prefixes if name.startswith(old)), None)
        if match is None:
            left.append(name)
        else:
            renamed[match[1] + name.removeprefix(match[0])] = tensor
    return renamed, left


def adapt_batch_norms(state: dict[str, torch.Tensor], eps: float) -> None:
    """Rescale batch norms trained with `eps` so that they compute the same with `MODEL_EPS`, in place, in eval mode."""
    for name in [name for name in state if name.endswith(".running_var")]:
        weight, variance = f"{name.removesuffix('running_var')}weight", state[name].clamp(min=0).double()
        state[weight] = (state[weight] * ((variance + MODEL_EPS) / (variance + eps)).sqrt()).float()


def scale_input(state: dict[str, torch.Tensor], batch_norm: str, factor: float) -> None:
    """Let the convolution before `batch_norm` read inputs that are `factor` times smaller, in place.

    The weights of the convolution stay as they are: the batch norm takes the factor, which is exact in eval mode.
    """
    mean, variance = (state[f"{batch_norm}.running_{name}"].double() for name in ("mean", "var"))
    small = variance.clamp(min=0) / factor**2
    scale = ((small + MODEL_EPS) / (variance.clamp(min=0) + MODEL_EPS)).sqrt() * factor
    state[f"{batch_norm}.running_mean"] = (mean / factor).float()
    state[f"{batch_norm}.running_var"] = small.float()
    state[f"{batch_norm}.weight"] = (state[f"{batch_norm}.weight"] * scale).float()


def reverse_channels(weight: torch.Tensor) -> torch.Tensor:
    """The weight (c2, 3 groups, k, k) of a convolution trained on BGR images, for RGB images."""
    return weight.unflatten(1, (-1, 3)).flip(2).flatten(1, 2).contiguous()
