"""YOLOv9 of MultimediaTechLab's program (MIT license): GELAN, AConv, decoupled head with grouped box branches."""

import re
from pathlib import Path

import torch

from graftdet.models.spec.model_spec import ModelSpec
from graftdet.models.weights.families import FAMILIES
from graftdet.models.weights.families.base import ConvertedWeights, WeightsFamily, size_in_name
from graftdet.models.weights.yolov5_checkpoint import PublishedWeights
from graftdet.utils.errors import UserError

MODELS = {64: "t", 128: "s"}  # width at stride 8 -> name
_HEAD = 22  # layer of the file and row of yolov9-*.yaml; layers behind it are the auxiliary branch
_PREFIXES = ("ema.model.", "model.model.", "model.", "")  # of checkpoints of a training, best first, and of plain files
_FIRST_BOX = f"{_HEAD}.heads.0.anchor_conv.0.conv.weight"
_BRANCHES = {"anchor_conv": "box", "class_conv": "cls"}


@FAMILIES.register()
class YOLOv9(WeightsFamily):
    """YOLOv9-t and s, at 640 pixels, without the auxiliary branch, which is trained beside the head."""

    name = "YOLOv9 (MIT)"

    def recognizes(self, weights: PublishedWeights) -> bool:
        """Whether there is the head, at its published position."""
        return any(f"{prefix}{_FIRST_BOX}" in weights.state for prefix in _PREFIXES)

    def convert(self, weights: PublishedWeights, path: Path) -> ConvertedWeights:
        """Rename the tensors; the widths of the head's branches are those of the file."""
        prefix = next(prefix for prefix in _PREFIXES if f"{prefix}{_FIRST_BOX}" in weights.state)
        found = {name.removeprefix(prefix): tensor for name, tensor in weights.state.items() if name.startswith(prefix)}
        if "2.conv2.conv.weight" not in found or found.get("3.conv.conv.weight", torch.zeros(0)).shape[0] not in MODELS:
            expected = " or ".join(f"v9-{name}" for name in MODELS.values())
            raise UserError(f"{path}: is a YOLOv9 of another size, expected {expected}")
        own = {name: _own_name(name) for name in found}
        state = {own[name]: tensor for name, tensor in found.items() if own[name]}
        branches = f"model.{_HEAD}.branches"
        arguments = {
            "width": state[f"{branches}.box.0.0.conv.weight"].shape[0],
            "box_groups": state[f"{branches}.box.0.0.conv.weight"].shape[0]
            // state[f"{branches}.box.0.1.conv.weight"].shape[1],
            "class_width": state[f"{branches}.cls.0.0.conv.weight"].shape[0],
        }
        model = MODELS[found["3.conv.conv.weight"].shape[0]]
        text = ModelSpec.read(f"yolov9-{model}.yaml").text
        for name, value in arguments.items():
            text = re.sub(rf"\b{name}: \d+", f"{name}: {value}", text)
        return ConvertedWeights(
            family=self.name,
            model=model,
            yaml=text,
            state=state,
            nc=state[f"{branches}.cls.0.2.bias"].shape[0],
            size=weights.size or size_in_name(path) or 640,
            unused=[name for name in found if not own[name]],
            square_letterbox=True,
        )


def _own_name(name: str) -> str:
    """The name within yolov9-*.yaml of a published tensor; "" for one that detection does not need."""
    number, _, rest = name.partition(".")
    if not number.isdigit() or int(number) > _HEAD:
        return ""
    if int(number) == _HEAD:
        head = re.fullmatch(r"heads\.(\d+)\.(\w+_conv)\.(.+)", rest)
        return f"model.{number}.branches.{_BRANCHES[head[2]]}.{head[1]}.{head[3]}" if head else ""
    rest = re.sub(r"^conv\.(?=conv\.|bn\.)", "cv1.", rest)  # of AConv
    rest = re.sub(r"(?<!conv\d\.)conv(\d)\.", r"cv\1.", rest.replace("bottleneck.", "m."))  # but not both kernels
    return f"model.{number}.{rest}"
