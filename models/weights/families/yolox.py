"""YOLOX: CSPDarknet with Focus, a PAN and the decoupled head."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from graftdet.models.spec.model_spec import ModelSpec
from graftdet.models.weights.families import FAMILIES
from graftdet.models.weights.families.base import (
    ConvertedWeights,
    WeightsFamily,
    rename,
    reverse_channels,
    scale_input,
)
from graftdet.models.weights.yolov5_checkpoint import PublishedWeights
from graftdet.utils.errors import UserError

MODELS = {  # width of the stem, bottlenecks of the first stage, depthwise convolutions -> model, training size
    (16, 1, True): ("nano", 416),
    (24, 1, False): ("tiny", 416),
    (32, 1, False): ("s", 640),
    (48, 2, False): ("m", 640),
    (64, 3, False): ("l", 640),
    (80, 4, False): ("x", 640),
}
LEVELS = 3
_NAMES = [  # published prefix, row of yolox.yaml and yolox-nano.yaml
    ("backbone.backbone.stem.", "model.0."),
    ("backbone.backbone.dark2.0.", "model.1."),
    ("backbone.backbone.dark2.1.", "model.2."),
    ("backbone.backbone.dark3.0.", "model.3."),
    ("backbone.backbone.dark3.1.", "model.4."),
    ("backbone.backbone.dark4.0.", "model.5."),
    ("backbone.backbone.dark4.1.", "model.6."),
    ("backbone.backbone.dark5.0.", "model.7."),
    ("backbone.backbone.dark5.1.", "model.8."),
    ("backbone.backbone.dark5.2.", "model.9."),
    ("backbone.lateral_conv0.", "model.10."),
    ("backbone.C3_p4.", "model.13."),
    ("backbone.reduce_conv1.", "model.14."),
    ("backbone.C3_p3.", "model.17."),
    ("backbone.bu_conv2.", "model.18."),
    ("backbone.C3_n3.", "model.20."),
    ("backbone.bu_conv1.", "model.21."),
    ("backbone.C3_n4.", "model.23."),
    ("head.", "model.24."),
]
_STEM = "backbone.backbone.stem.conv.conv.weight"


@FAMILIES.register()
class YOLOX(WeightsFamily):
    """YOLOX nano, tiny, s, m, l and x since version 0.1.1, which read BGR images in 0..255: the first convolution is
    converted to RGB, its batch norm to images in 0..1.
    """

    name = "YOLOX"

    def recognizes(self, weights: PublishedWeights) -> bool:
        """Whether there are the backbone, the neck and the head."""
        wanted = (_STEM, "backbone.C3_p4.conv1.conv.weight", "head.stems.0.conv.weight", "head.obj_preds.0.weight")
        return all(name in weights.state for name in wanted)

    def convert(self, weights: PublishedWeights, path: Path) -> ConvertedWeights:
        """Rename the tensors; the head's names are the published ones."""
        bottleneck = re.compile(r"backbone\.backbone\.dark2\.1\.m\.\d+\.conv1\.conv\.weight")
        depth = sum(bottleneck.fullmatch(name) is not None for name in weights.state)
        depthwise = "backbone.backbone.dark2.0.dconv.conv.weight" in weights.state
        found = (weights.state[_STEM].shape[0], depth, depthwise)
        if found not in MODELS:
            raise UserError(
                f"{path}: is a YOLOX of another size (stem of {found[0]} channels, {depth} bottlenecks, "
                f"{'' if depthwise else 'no '}depthwise convolutions), expected nano, tiny, s, m, l or x"
            )
        model, size = MODELS[found]
        renamed, unused = rename(weights.state, _NAMES)
        state = {_block_name(name): tensor for name, tensor in renamed.items()}
        state["model.0.conv.conv.weight"] = reverse_channels(state["model.0.conv.conv.weight"])
        scale_input(state, "model.0.conv.bn", 255)
        nc = state["model.24.cls_preds.0.bias"].shape[0]
        text = ModelSpec.read(f"yolox-{model}.yaml").text
        return ConvertedWeights(self.name, model, text, state, nc, weights.size or size, unused, square_letterbox=True)

    def layer_order(self, shapes: Sequence[tuple[int, ...]]) -> list[str] | None:
        """Stem and stages, neck, then the head level by level."""
        if len(shapes) < 2 or shapes[0][1:] != (12, 3, 3):
            return None
        depthwise = shapes[1][1] == 1
        depth = next((key[1] for key in MODELS if key[0] == shapes[0][0] and key[2] == depthwise), None)
        return None if depth is None else list(_layers(depth, depthwise))

    def batch_norm_of(self, layer: str) -> str | None:
        """`bn` beside each `conv`; none in the last layers of the head."""
        return f"{layer.removesuffix('conv')}bn" if layer.endswith(".conv") else None


def _block_name(name: str) -> str:
    """The name within the blocks of this project: cv1 instead of conv1."""
    return name if name.startswith("model.24.") else re.sub(r"\.conv(\d)\.", r".cv\1.", name)


def _layers(depth: int, depthwise: bool) -> Iterator[str]:
    """Published names of the convolutions in the order in which they run."""

    def conv(name: str) -> list[str]:
        return [f"{name}.{part}.conv" for part in ("dconv", "pconv")] if depthwise else [f"{name}.conv"]

    def csp(name: str, count: int) -> Iterator[str]:
        yield from (f"{name}.conv1.conv", f"{name}.conv2.conv")
        for number in range(count):
            yield f"{name}.m.{number}.conv1.conv"
            yield from conv(f"{name}.m.{number}.conv2")
        yield f"{name}.conv3.conv"

    backbone = "backbone.backbone"
    yield f"{backbone}.stem.conv.conv"
    for stage, count in ((2, depth), (3, 3 * depth), (4, 3 * depth)):
        yield from conv(f"{backbone}.dark{stage}.0")
        yield from csp(f"{backbone}.dark{stage}.1", count)
    yield from conv(f"{backbone}.dark5.0")
    yield from (f"{backbone}.dark5.1.conv1.conv", f"{backbone}.dark5.1.conv2.conv")
    yield from csp(f"{backbone}.dark5.2", depth)
    for before, block in (
        ("lateral_conv0", "C3_p4"),
        ("reduce_conv1", "C3_p3"),
        ("bu_conv2", "C3_n3"),
        ("bu_conv1", "C3_n4"),
    ):
        name = f"backbone.{before}"
        yield from conv(name) if before.startswith("bu") else [f"{name}.conv"]
        yield from csp(f"backbone.{block}", depth)
    for level in range(LEVELS):
        yield f"head.stems.{level}.conv"
        for branch, outputs in (("cls", ("cls",)), ("reg", ("reg", "obj"))):
            for number in range(2):
                yield from conv(f"head.{branch}_convs.{level}.{number}")
            yield from (f"head.{output}_preds.{level}" for output in outputs)
