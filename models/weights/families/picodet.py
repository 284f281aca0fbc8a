"""PicoDet of PaddleDetection 2.4 and later: LCNet, LC-PAN, task-aligned head."""

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
from graftdet.models.weights.yolov5_checkpoint import PublishedWeights
from graftdet.utils.errors import UserError

SIZES = {8: "xs", 16: "s", 24: "m", 32: "l"}  # width of the first convolution -> name
_HEAD = "model.27."  # of picodet-lcnet-*.yaml
_BLOCKS = {"top_down_blocks": ((10, 11), (14, 15)), "bottom_up_blocks": ((18, 19), (22, 23))}
_DOWNSAMPLES = {"downsamples.0": 16, "downsamples.1": 20, "first_top_conv": 24, "second_top_conv": 25}
SEPARABLE = {"dwconv": "dw.conv", "bn1": "dw.bn", "pwconv": "pw.conv", "bn2": "pw.bn"}
_ALIGNMENT = {"dwconv": "0.conv", "bn1": "0.bn", "pwconv": "1.conv", "bn2": "1.bn"}
_NAMES = [
    ("backbone.", "model.1."),
    *((f"neck.conv_t.convs.{level}.", f"model.{row}.") for level, row in enumerate((5, 6, 7))),
    *(
        (f"neck.{name}.{block}.{part}.", f"model.{row}.")
        for name, blocks in _BLOCKS.items()
        for block, rows in enumerate(blocks)
        for part, row in enumerate(rows)
    ),
    *(
        (f"neck.{name}.{old}.", f"model.{row}.{new}.")
        for name, row in _DOWNSAMPLES.items()
        for old, new in SEPARABLE.items()
    ),
    *(
        (f"head.cls_align.{level}.{old}.", f"{_HEAD}cls_align.{level}.{new}.")
        for level in range(4)
        for old, new in _ALIGNMENT.items()
    ),
    *((f"head.conv_feat.{name}", f"{_HEAD}{name}") for name in ("cls_conv_dw", "cls_conv_pw", "se.")),
    *((f"head.{name}.", f"{_HEAD}{name}.") for name in ("head_cls_list", "head_reg_list")),
]


@FAMILIES.register()
class PicoDet(WeightsFamily):
    """PicoDet xs, s, m and l with LCNet. It reads normalized RGB images: that is the first row of the YAML."""

    name = "PicoDet"

    def recognizes(self, weights: PublishedWeights) -> bool:
        """Whether there are LCNet, LC-PAN and the task-aligned head."""
        wanted = (
            "backbone.blocks2.0.dw_conv.conv.weight",
            "neck.top_down_blocks.0.1.pw_conv.conv.weight",
            "head.conv_feat.cls_conv_dw0.0.conv.weight",
            "head.cls_align.0.dwconv.weight",
        )
        return all(name in weights.state for name in wanted)

    def convert(self, weights: PublishedWeights, path: Path) -> ConvertedWeights:
        """Rename the tensors; each output is published under two names."""
        published = {_output_name(name): tensor for name, tensor in weights.state.items()}
        state, unused = rename(published, _NAMES)
        state = {head_name(name, _HEAD): tensor for name, tensor in state.items()}
        width = state["model.1.conv1.conv.weight"].shape[0]
        if width not in SIZES:
            raise UserError(
                f"{path}: is a PicoDet whose first convolution has {width} outputs, expected one of "
                f"{', '.join(map(str, SIZES))} (LCNet xs, s, m, l)"
            )
        adapt_batch_norms(state, eps=1e-5)
        text = ModelSpec.read(f"picodet-lcnet-{SIZES[width]}.yaml").text
        nc = state[f"{_HEAD}head_cls_list.0.bias"].shape[0]
        return ConvertedWeights(
            self.name,
            SIZES[width],
            text,
            state,
            nc,
            weights.size or size_in_name(path) or 320,
            unused,
            square_letterbox=True,
        )


def _output_name(name: str) -> str:
    """`head.head_cls_list.0.bias` of its other name, head.head_cls0.bias."""
    return re.sub(r"^head\.head_(cls|reg)(\d)\.", r"head.head_\1_list.\2.", name)


def head_name(name: str, head: str) -> str:
    """The stacked convolutions of the head, whose names begin with `head`, under the names of `PicoHead`."""
    name = re.sub(r"\.cls_conv_(dw|pw)(\d)\.(\d+)\.", r".convs.\2.\3.\1.", name)
    return name.replace(".norm.", ".bn.") if name.startswith(head) else name
