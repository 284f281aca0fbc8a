"""NanoDet-Plus: ShuffleNet v2, Ghost-PAN with four levels, one branch for boxes and classes."""

from collections.abc import Sequence
from pathlib import Path

from graftdet.models.spec.model_spec import ModelSpec
from graftdet.models.weights.families import FAMILIES
from graftdet.models.weights.families.base import ConvertedWeights, WeightsFamily, size_in_name
from graftdet.models.weights.families.nanodet import (
    STACKED,
    backbone_layers,
    converted_state,
    without_training_prefix,
)
from graftdet.models.weights.yolov5_checkpoint import PublishedWeights
from graftdet.utils.errors import UserError

MODELS = {96: "m", 128: "m-1.5x"}  # width of the neck -> name
LEVELS = 4
_TOP_DOWN, _BOTTOM_UP = (9, 13), (16, 19)  # rows of nanodet-plus-*.yaml
_ROWS = {  # part of the neck -> its rows
    "reduce_layers.{}.": (11, 7, 5),
    "top_down_blocks.{}.blocks.0.": _TOP_DOWN,
    "downsamples.{}.": (14, 17),
    "bottom_up_blocks.{}.blocks.0.": _BOTTOM_UP,
    "extra_lvl_in_conv.{}.": (20,),
    "extra_lvl_out_conv.{}.": (21,),
}
_HEAD = "model.23."
_NAMES = [
    ("backbone.", "model.1."),
    *(
        (f"fpn.{part.format(number)}", f"model.{row}.")
        for part, rows in _ROWS.items()
        for number, row in enumerate(rows)
    ),
    ("head.cls_convs.", f"{_HEAD}convs."),
    ("head.gfl_cls.", f"{_HEAD}outputs."),
]
_GHOST_LAYERS = (
    *("ghost1.primary_conv.0", "ghost1.cheap_operation.0", "ghost2.primary_conv.0", "ghost2.cheap_operation.0"),
    *("shortcut.0", "shortcut.2"),
)


@FAMILIES.register()
class NanoDetPlus(WeightsFamily):
    """NanoDet-Plus-m and m-1.5x, at 320 or 416 pixels, without the branch that guides the assignment in training.

    They read normalized BGR images: the first convolution is converted to RGB, the normalization is the first row of
    the YAML.
    """

    name = "NanoDet-Plus"

    def recognizes(self, weights: PublishedWeights) -> bool:
        """Whether there are the backbone, Ghost-PAN and the head of NanoDet-Plus."""
        names = without_training_prefix(weights.state)
        wanted = (
            "backbone.stage2.0.branch1.0.weight",
            "fpn.top_down_blocks.0.blocks.0.ghost1.primary_conv.0.weight",
            "head.cls_convs.0.0.dwnorm.bias",
        )
        return all(name in names for name in (*wanted, "head.gfl_cls.0.weight"))

    def convert(self, weights: PublishedWeights, path: Path) -> ConvertedWeights:
        """Rename the tensors; the outputs of the head are reordered to distances, then classes."""
        state, unused, nc = converted_state(weights, _NAMES, _HEAD)
        width = state["model.5.conv.weight"].shape[0]
        if width not in MODELS:
            expected = " or ".join(map(str, MODELS))
            raise UserError(f"{path}: is a NanoDet-Plus whose neck has {width} channels, expected {expected}")
        model, size = MODELS[width], weights.size or size_in_name(path) or 416
        text = ModelSpec.read(f"nanodet-plus-{model}.yaml").text
        return ConvertedWeights(self.name, model, text, state, nc, size, unused, square_letterbox=True)

    def layer_order(self, shapes: Sequence[tuple[int, ...]]) -> list[str] | None:
        """Backbone, neck, then the head level by level."""
        if not shapes or shapes[0] != (24, 3, 3, 3) or shapes[-1][1:] not in [(width, 1, 1) for width in MODELS]:
            return None

        def ghost(part: str, number: int) -> list[str]:
            return [f"fpn.{part}.{number}.blocks.0.{layer}" for layer in _GHOST_LAYERS]

        def separable(name: str) -> list[str]:
            return [f"{name}.depthwise", f"{name}.pointwise"]

        names = backbone_layers() + [f"fpn.reduce_layers.{number}.conv" for number in range(3)]
        for number in range(len(_TOP_DOWN)):
            names += ghost("top_down_blocks", number)
        for number in range(len(_BOTTOM_UP)):
            names += [*separable(f"fpn.downsamples.{number}"), *ghost("bottom_up_blocks", number)]
        names += [*separable("fpn.extra_lvl_in_conv.0"), *separable("fpn.extra_lvl_out_conv.0")]
        for level in range(LEVELS):
            for number in range(STACKED):
                names += separable(f"head.cls_convs.{level}.{number}")
            names.append(f"head.gfl_cls.{level}")
        return names

    def batch_norm_of(self, layer: str) -> str | None:
        """`dwnorm` and `pwnorm`, `bn`, or the next layer; none behind the last convolutions."""
        parent, _, name = layer.rpartition(".")
        known = {"depthwise": "dwnorm", "pointwise": "pwnorm", "conv": "bn"}
        if name in known:
            return f"{parent}.{known[name]}"
        return None if ".gfl_cls." in layer else f"{parent}.{int(name) + 1}"
