"""NanoDet-m: ShuffleNet v2, a PAN without convolutions, one branch for boxes and classes."""

from collections.abc import Sequence
from pathlib import Path

import torch

from graftdet.models.spec.model_spec import ModelSpec
from graftdet.models.weights.families import FAMILIES
from graftdet.models.weights.families.base import (
    ConvertedWeights,
    WeightsFamily,
    adapt_batch_norms,
    rename,
    reverse_channels,
    size_in_name,
)
from graftdet.models.weights.yolov5_checkpoint import PublishedWeights
from graftdet.utils.errors import UserError

BINS = 8  # of the distribution of each distance
LEVELS = 3
STAGES = {2: 4, 3: 8, 4: 4}  # stage of ShuffleNet v2 -> units
STACKED = 2  # convolutions of the head before the last
_LATERAL_ROWS = (10, 7, 5)  # of nanodet-m.yaml, by level
_NAMES = [
    ("backbone.", "model.1."),
    *((f"fpn.lateral_convs.{level}.conv.", f"model.{row}.") for level, row in enumerate(_LATERAL_ROWS)),
    ("head.cls_convs.", "model.16.convs."),
    ("head.gfl_cls.", "model.16.outputs."),
]
SEPARABLE = {"depthwise": "dw.conv", "dwnorm": "dw.bn", "pointwise": "pw.conv", "pwnorm": "pw.bn"}


@FAMILIES.register()
class NanoDet(WeightsFamily):
    """NanoDet-m of the first versions, at 320 or 416 pixels. It reads normalized BGR images: the first convolution is
    converted to RGB, the normalization is the first row of the YAML.
    """

    name = "NanoDet"

    def recognizes(self, weights: PublishedWeights) -> bool:
        """Whether there are the backbone, the neck and the head of NanoDet-m."""
        names = without_training_prefix(weights.state)
        wanted = (
            "backbone.stage2.0.branch1.0.weight",
            "fpn.lateral_convs.0.conv.bias",
            "head.cls_convs.0.0.dwnorm.bias",
        )
        return all(name in names for name in (*wanted, "head.gfl_cls.0.weight"))

    def convert(self, weights: PublishedWeights, path: Path) -> ConvertedWeights:
        """Rename the tensors; the outputs of the head are reordered to distances, then classes."""
        state, unused, nc = converted_state(weights, _NAMES, "model.16.")
        if state["model.1.stage2.0.branch1.2.weight"].shape[0] != 58 or state["model.5.weight"].shape[0] != 96:
            raise UserError(f"{path}: is a NanoDet of other widths, expected NanoDet-m (ShuffleNet v2 1.0x)")
        text = ModelSpec.read("nanodet-m.yaml").text
        return ConvertedWeights(
            self.name, "m", text, state, nc, weights.size or size_in_name(path) or 320, unused, square_letterbox=True
        )

    def layer_order(self, shapes: Sequence[tuple[int, ...]]) -> list[str] | None:
        """Backbone, lateral convolutions, then the head level by level."""
        if not shapes or shapes[0] != (24, 3, 3, 3) or shapes[-1][1:] != (96, 1, 1):
            return None
        names = backbone_layers()
        names += [f"fpn.lateral_convs.{level}.conv" for level in range(LEVELS)]
        for level in range(LEVELS):
            convs = [f"head.cls_convs.{level}.{number}" for number in range(STACKED)]
            names += [f"{conv}.{layer}" for conv in convs for layer in ("depthwise", "pointwise")]
            names.append(f"head.gfl_cls.{level}")
        return names

    def batch_norm_of(self, layer: str) -> str | None:
        """The next layer of the backbone; `dwnorm` and `pwnorm` in the head."""
        parent, _, name = layer.rpartition(".")
        if layer.startswith("backbone."):
            return f"{parent}.{int(name) + 1}"
        return {"depthwise": f"{parent}.dwnorm", "pointwise": f"{parent}.pwnorm"}.get(name)


def backbone_layers() -> list[str]:
    """Published names of the convolutions of ShuffleNet v2, in the order in which they run."""
    names = ["backbone.conv1.0"]
    for stage, units in STAGES.items():
        for unit in range(units):
            layers = ["branch2.0", "branch2.3", "branch2.5"]
            layers = ["branch1.0", "branch1.2", *layers] if unit == 0 else layers
            names += [f"backbone.stage{stage}.{unit}.{layer}" for layer in layers]
    return names


def without_training_prefix(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors without the prefixes of training checkpoints; of an average and the last weights, the average."""
    for prefix in ("avg_model.", "model."):
        found = {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
        if found:
            return found
    return state


def converted_state(
    weights: PublishedWeights, names: Sequence[tuple[str, str]], head: str
) -> tuple[dict[str, torch.Tensor], list[str], int]:
    """Convert the tensors of a NanoDet whose backbone is row 1 of the YAML.

    Args:
        weights: The published file; unchanged.
        names: Published prefixes and ours, see `rename`.
        head: Our prefix of the head.

    Returns:
        The tensors under our names, the published names that are not used, and the number of classes.
    """
    state, unused = rename(without_training_prefix(weights.state), names)
    state = {_rename_separable(name): tensor for name, tensor in state.items()}
    move_classes_behind_distances(state, f"{head}outputs.")
    state["model.1.conv1.0.weight"] = reverse_channels(state["model.1.conv1.0.weight"])
    if not weights.merged_batch_norms:
        adapt_batch_norms(state, eps=1e-5)
    return state, unused, state[f"{head}outputs.0.bias"].shape[0] - 4 * BINS


def _rename_separable(name: str) -> str:
    """`dw.conv` and the like for the layers of a depthwise separable convolution, which has `depthwise`, `dwnorm`."""
    layer, _, kind = name.rpartition(".")
    parent, _, last = layer.rpartition(".")
    return f"{parent}.{SEPARABLE[last]}.{kind}" if last in SEPARABLE else name


def move_classes_behind_distances(state: dict[str, torch.Tensor], outputs: str) -> None:
    """Reorder the outputs of the convolutions `outputs`, classes then distances as published, in place."""
    for name in [name for name in state if name.startswith(outputs)]:
        state[name] = state[name].roll(4 * BINS, 0)
