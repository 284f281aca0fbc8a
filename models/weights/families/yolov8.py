"""YOLOv8 and its successors with the same head (9, 10, 11, 12): their YAML is in the file, only the head is renamed."""

import re
from pathlib import Path

import torch

from graftdet.models.spec.keys import KEYS
from graftdet.models.weights.families import FAMILIES
from graftdet.models.weights.families.base import ConvertedWeights, WeightsFamily
from graftdet.models.weights.yolov5_checkpoint import PublishedWeights
from graftdet.utils.errors import UserError

DETECTION_HEADS = ("Detect", "v10Detect")
OTHER_TASKS = {
    "Segment": "instance segmentation",
    "Pose": "keypoints",
    "OBB": "rotated boxes",
    "Classify": "classification",
    "WorldDetect": "open-vocabulary detection",
    "RTDETRDecoder": "detection by a transformer",
}
_BOX, _CLASSES = re.compile(r"cv2\.(\d+)\.(.+)"), re.compile(r"cv3\.(\d+)\.(.+)")
_LIGHT_CONV = re.compile(r"(\d)\.(\d)\.(.+)")


@FAMILIES.register()
class YOLOv8(WeightsFamily):
    """The anchor-free head with the branches `cv2` (boxes) and `cv3` (classes), of which there may be a one-to-one
    copy, which is not used: the branches that are trained one-to-many give the boxes, by NMS.
    """

    name = "YOLOv8, 9, 10, 11, 12"

    def recognizes(self, weights: PublishedWeights) -> bool:
        """Whether the last row is a head with `cv2` and `cv3`."""
        row, head = _head_row(weights.yaml), _head_prefix(weights.state)
        known = row is not None and str(row[2]) in (*OTHER_TASKS, *DETECTION_HEADS)
        return known and any(name.startswith((f"{head}cv2.0.", f"{head}linear.")) for name in weights.state)

    def convert(self, weights: PublishedWeights, path: Path) -> ConvertedWeights:
        """Rename the branches, and write their widths into the head's row."""
        row = _head_row(weights.yaml)
        assert weights.yaml is not None and row is not None
        sources, number, module, _ = row
        if module in OTHER_TASKS:
            raise UserError(f"{path}: is a model for {OTHER_TASKS[module]} ({module}), expected one for detection")
        head = _head_prefix(weights.state)
        state, unused = {}, []
        for name, tensor in weights.state.items():
            own = _own_name(name.removeprefix(head)) if name.startswith(head) else name
            if own is None:
                unused.append(name)
            else:
                state[name if own == name else head + own] = tensor
        nc = weights.nc or len(weights.names or ())
        head_row = [sources, number, "AnchorFreeDetect", {"nc": "nc", **_head_arguments(state, head, path)}]
        values = {key: value for key, value in weights.yaml.items() if key in KEYS}
        values = {**values, "head": [*values["head"][:-1], head_row]}
        return ConvertedWeights(self.name, "", values, state, nc, weights.size, unused)


def _head_row(yaml: dict | None) -> list | None:
    """The last row of a published YAML, None where it is none."""
    rows = (yaml or {}).get("head")
    row = rows[-1] if isinstance(rows, list) and rows else None
    return row if isinstance(row, list) and len(row) == 4 else None


def _head_prefix(state: dict[str, torch.Tensor]) -> str:
    """`model.N.` of the last row that has tensors."""
    rows = [int(found[1]) for name in state if (found := re.match(r"model\.(\d+)\.", name))]
    return f"model.{max(rows, default=-1)}."


def _own_name(name: str) -> str | None:
    """The name within `AnchorFreeDetect` of a tensor of the published head; None for one that is not needed."""
    if found := _BOX.fullmatch(name):
        return f"branches.box.{found[1]}.{found[2]}"
    if not (found := _CLASSES.fullmatch(name)):
        return None
    level, rest = found.groups()
    if light := _LIGHT_CONV.fullmatch(rest):  # a depthwise and a 1x1 convolution
        rest = f"{2 * int(light[1]) + int(light[2])}.{light[3]}"
    return f"branches.cls.{level}.{rest}"


def _head_arguments(state: dict[str, torch.Tensor], head: str, path: Path) -> dict[str, int | bool]:
    """The arguments of `AnchorFreeDetect`, from the shapes of the renamed branches; light ones are renumbered."""
    light = f"{head}branches.cls.0.3.conv.weight" in state
    for name in [
        name for name in state if light and re.match(re.escape(head) + r"branches\.cls\.\d+\.2\.(weight|bias)", name)
    ]:
        state[re.sub(r"\.2\.(weight|bias)$", r".4.\1", name)] = state.pop(name)
    outputs = [f"{head}branches.{branch}.0.{2 * (light and branch == 'cls') + 2}.weight" for branch in ("box", "cls")]
    if any(name not in state for name in outputs):
        raise UserError(f"{path}: the branches of its head are of an unknown form, expected those of YOLOv8 or YOLO11")
    reg_max = state[outputs[0]].shape[0] // 4
    if reg_max < 2:
        raise UserError(
            f"{path}: predicts distances without distributions (reg_max 1, as YOLO26), which is not supported"
        )
    return {
        "reg_max": reg_max,
        "width": state[outputs[0]].shape[1],
        "class_light": light,
        "class_width": state[outputs[1]].shape[1],
    }
