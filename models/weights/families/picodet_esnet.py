"""PicoDet of PaddleDetection 2.3: ESNet, CSP-PAN, one branch for boxes and classes."""

import re
from pathlib import Path

from graftdet.models.spec.model_spec import ModelSpec
from graftdet.models.weights.families import FAMILIES
from graftdet.models.weights.families.base import (
    ConvertedWeights,
    WeightsFamily,
    adapt_batch_norms,
    rename,
    size_in_name,
)
from graftdet.models.weights.families.nanodet import BINS, move_classes_behind_distances
from graftdet.models.weights.families.picodet import SEPARABLE, head_name
from graftdet.models.weights.yolov5_checkpoint import PublishedWeights
from graftdet.utils.errors import UserError

SIZES = {96: "s", 128: "m", 160: "l"}  # width of the neck -> name
_HEAD = "model.23."  # of picodet-esnet-*.yaml
_CSP = {"main_conv": "cv1", "short_conv": "cv2", "final_conv": "cv3", "blocks.0.conv1": "m.0.0"}
_CSP_ROWS = {"top_down_blocks": (10, 13), "bottom_up_blocks": (16, 19)}
_SEPARABLE_ROWS = {"downsamples.0": 14, "downsamples.1": 17, "first_top_conv": 20, "second_top_conv": 21}
_NAMES = [
    ("backbone.", "model.1."),
    *((f"neck.conv_t.convs.{level}.", f"model.{row}.") for level, row in enumerate((5, 6, 7))),
    *(
        (f"neck.{part}.{number}.{old}.", f"model.{row}.{new}.")
        for part, rows in _CSP_ROWS.items()
        for number, row in enumerate(rows)
        for old, new in (
            *_CSP.items(),
            *((f"blocks.0.conv2.{layer}", f"m.0.1.{own}") for layer, own in SEPARABLE.items()),
        )
    ),
    *(
        (f"neck.{part}.{old}.", f"model.{row}.{new}.")
        for part, row in _SEPARABLE_ROWS.items()
        for old, new in SEPARABLE.items()
    ),
    ("head.conv_feat.cls_conv_", f"{_HEAD}cls_conv_"),
    ("head.head_cls", f"{_HEAD}outputs."),
]
_BLOCK_LAYERS = {
    "_conv_dw_1": "side.0",
    "_conv_linear_1": "side.1",
    "_conv_dw_mv1": "mix.0",
    "_conv_pw_mv1": "mix.1",
    **{f"_conv_{layer}{suffix}": f"conv_{layer}" for layer in ("pw", "dw", "linear") for suffix in ("", "_2")},
    "_se": "se",
}


@FAMILIES.register()
class PicoDetESNet(WeightsFamily):
    """PicoDet s, m and l with ESNet, of 2021. It reads normalized RGB images: that is the first row of the YAML."""

    name = "PicoDet"

    def recognizes(self, weights: PublishedWeights) -> bool:
        """Whether there are ESNet, CSP-PAN and the head of one branch."""
        wanted = (
            "backbone.2_1._conv_dw_mv1._conv.weight",
            "neck.top_down_blocks.0.blocks.0.conv2.dwconv.weight",
            "head.conv_feat.cls_conv_dw0.0.conv.weight",
            "head.head_cls0.bias",
        )
        return all(name in weights.state for name in wanted)

    def convert(self, weights: PublishedWeights, path: Path) -> ConvertedWeights:
        """Rename the tensors; the outputs of the head are reordered to distances, then classes."""
        width = weights.state["neck.conv_t.convs.0.conv.weight"].shape[0]
        if width not in SIZES:
            expected = ", ".join(f"{known} ({size})" for known, size in SIZES.items())
            raise UserError(f"{path}: is a PicoDet whose neck has {width} channels, expected {expected}")
        if "head.head_reg0.bias" in weights.state:
            raise UserError(f"{path}: is a PicoDet with a second branch for boxes, expected one of PaddleDetection 2.3")
        state, unused = rename(weights.state, _NAMES)
        state = {_backbone_name(head_name(name, _HEAD)): tensor for name, tensor in state.items()}
        move_classes_behind_distances(state, f"{_HEAD}outputs.")
        adapt_batch_norms(state, eps=1e-5)
        nc = state[f"{_HEAD}outputs.0.bias"].shape[0] - 4 * BINS
        size, text = SIZES[width], ModelSpec.read(f"picodet-esnet-{SIZES[width]}.yaml").text
        return ConvertedWeights(
            family=self.name,
            model=f"esnet-{size}",
            yaml=text,
            state=state,
            nc=nc,
            size=weights.size or size_in_name(path) or 320,
            unused=unused,
            square_letterbox=True,
        )


def _backbone_name(name: str) -> str:
    """The name within `ESNet` of a tensor of the backbone, where stages count from 2 and blocks from 1."""
    name = re.sub(r"\._conv\.(?=\w+$)", ".0.", re.sub(r"\._batch_norm\.", ".1.", name))
    name = name.replace("model.1._conv1.", "model.1.stem.")
    if block := re.fullmatch(r"model\.1\.(\d)_(\d+)\.(\w+)\.(.+)", name):
        stage, number = int(block[1]) - 2, int(block[2]) - 1
        return f"model.1.stages.{stage}.{number}.{_BLOCK_LAYERS[block[3]]}.{block[4]}"
    return name
