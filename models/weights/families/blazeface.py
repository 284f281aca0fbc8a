"""BlazeFace of the front camera."""

from pathlib import Path

from graftdet.models.spec.model_spec import ModelSpec
from graftdet.models.weights.families import FAMILIES
from graftdet.models.weights.families.base import ConvertedWeights, WeightsFamily, rename
from graftdet.models.weights.yolov5_checkpoint import PublishedWeights

COORDINATES = 16  # outputs per box: x, y, w, h and six landmarks
STRIDES = (8, 16)
_NAMES = [
    ("backbone1.", "model.1.backbone1."),
    ("backbone2.", "model.1.backbone2."),
    *((f"classifier_{stride}.", f"model.4.classifiers.{level}.") for level, stride in enumerate(STRIDES)),
    *((f"regressor_{stride}.", f"model.4.regressors.{level}.") for level, stride in enumerate(STRIDES)),
]


@FAMILIES.register()
class BlazeFace(WeightsFamily):
    """BlazeFace of the front camera, one class, at 128 pixels; the outputs for landmarks are not used."""

    name = "BlazeFace"

    def recognizes(self, weights: PublishedWeights) -> bool:
        """Whether there are both parts of the backbone and the outputs at strides 8 and 16."""
        wanted = ("backbone1.12.convs.1.weight", "backbone2.4.convs.1.weight", "classifier_8.weight")
        return all(name in weights.state for name in (*wanted, "regressor_16.weight"))

    def convert(self, weights: PublishedWeights, path: Path) -> ConvertedWeights:
        """Rename the tensors; of the 16 outputs per box four are used."""
        state, unused = rename(weights.state, _NAMES)
        for name in [name for name in state if "regressors" in name]:
            state[name] = state[name].unflatten(0, (-1, COORDINATES))[:, :4].flatten(0, 1).contiguous()
        text = ModelSpec.read("blazeface-front.yaml").text
        size = weights.size or 128
        return ConvertedWeights(self.name, "front", text, state, 1, size, unused, square_letterbox=True, names=["face"])
