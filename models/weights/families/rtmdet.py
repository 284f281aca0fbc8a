"""RTMDet: CSPNeXt, a PAN of CSPNeXt blocks, decoupled head with shared convolutions."""

import re
from pathlib import Path

from graftdet.models.spec.model_spec import ModelSpec
from graftdet.models.weights.families import FAMILIES
from graftdet.models.weights.families.base import (
    ConvertedWeights,
    WeightsFamily,
    adapt_batch_norms,
    rename,
    reverse_channels,
)
from graftdet.models.weights.yolov5_checkpoint import PublishedWeights
from graftdet.utils.errors import UserError

MODELS = {96: "tiny", 128: "s"}  # width of the head -> name
_HEAD = "model.22."  # of rtmdet-*.yaml
_ROWS = {
    "reduce_layers": (5, 9),
    "top_down_blocks": (8, 12),
    "downsamples": (13, 16),
    "bottom_up_blocks": (15, 18),
    "out_convs": (19, 20, 21),
}
_NAMES = [
    ("backbone.", "model.1."),
    *((f"neck.{part}.{number}.", f"model.{row}.") for part, rows in _ROWS.items() for number, row in enumerate(rows)),
    ("bbox_head.", _HEAD),
]


@FAMILIES.register()
class RTMDet(WeightsFamily):
    """RTMDet-tiny and s, at 640 pixels. They read normalized BGR images: the first convolution is converted to RGB, the
    normalization is the first row of the YAML.
    """

    name = "RTMDet"

    def recognizes(self, weights: PublishedWeights) -> bool:
        """Whether there are CSPNeXt, its PAN and the head."""
        wanted = (
            "backbone.stem.0.conv.weight",
            "backbone.stage1.1.attention.fc.weight",
            "neck.top_down_blocks.0.main_conv.conv.weight",
            "bbox_head.rtm_cls.0.weight",
        )
        return all(name in weights.state for name in wanted)

    def convert(self, weights: PublishedWeights, path: Path) -> ConvertedWeights:
        """Rename the tensors; most names are the published ones."""
        state, unused = rename(weights.state, _NAMES)
        state = {re.sub(r"(stage4\.1\.)conv(\d)\.", r"\1cv\2.", name): tensor for name, tensor in state.items()}
        width = state[f"{_HEAD}rtm_cls.0.weight"].shape[1]
        if width not in MODELS:
            expected = " or ".join(f"{known} ({name})" for known, name in MODELS.items())
            raise UserError(f"{path}: is an RTMDet whose head has {width} channels, expected {expected}")
        if f"{_HEAD}rtm_kernel.0.weight" in state:
            raise UserError(f"{path}: is a model for instance segmentation (RTMDet-Ins), expected one for detection")
        state["model.1.stem.0.conv.weight"] = reverse_channels(state["model.1.stem.0.conv.weight"])
        adapt_batch_norms(state, eps=1e-5)
        nc = state[f"{_HEAD}rtm_cls.0.bias"].shape[0]
        model, size = MODELS[width], weights.size or 640
        text = ModelSpec.read(f"rtmdet-{model}.yaml").text
        return ConvertedWeights(self.name, model, text, state, nc, size, unused, square_letterbox=True)
