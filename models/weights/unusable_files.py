"""What files are that hold weights but cannot be loaded, for error messages."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from graftdet.models.spec.model_spec import ModelSpec

if TYPE_CHECKING:
    from torch import Tensor

_FORMATS = {
    ".tflite": "a TensorFlow Lite model",
    ".pb": "a TensorFlow graph",
    ".h5": "a Keras model",
    ".keras": "a Keras model",
    ".engine": "a TensorRT engine",
    ".trt": "a TensorRT engine",
    ".torchscript": "a TorchScript program",
    ".mlmodel": "a Core ML model",
    ".mlpackage": "a Core ML model",
    ".param": "an ncnn model",
    ".pte": "an ExecuTorch program",
    ".mnn": "an MNN model",
    ".rknn": "an RKNN model",
    ".pdmodel": "a Paddle program",
    ".pdiparams": "the parameters of a Paddle program",
    ".caffemodel": "a Caffe model",
    ".weights": "a Darknet model",
}
_INSTEAD = "use the .pt or .onnx file that it was made from"


def describe_file(path: Path) -> str | None:
    """What a file or folder is that cannot be loaded, and what to use instead; None where it may be loadable.

    Args:
        path: an existing file or folder.
    """
    kind = _FORMATS.get(path.suffix.lower())
    if path.is_dir():
        if models := sorted(path.glob("*.xml")):
            return f"is the folder of an OpenVINO model; give its file, {models[0]}"
        if (path / "saved_model.pb").is_file():
            kind = "a TensorFlow SavedModel"
        inside = (_FORMATS[file.suffix] for file in sorted(path.iterdir()) if file.suffix in (".param", ".pdmodel"))
        kind = kind or next(inside, None)
    return f"is {kind}, which cannot be loaded; {_INSTEAD}" if kind else None


def describe_mismatch(
    spec: ModelSpec, nc: int, own: Mapping[str, "Tensor"], state: Mapping[str, "Tensor"]
) -> str | None:
    """Why the weights of a file do not fit the YAML in the same file, where the reason is known.

    Args:
        spec: the YAML.
        nc: number of classes.
        own: tensors of the model that was built from it.
        state: tensors of the file.
    """
    head = f"model.{len(spec.rows) - 1}.m.0.weight"
    if head in state and head in own and spec.rows[-1].module == "Detect":
        anchors = own[head].shape[0] // (5 + nc)
        coordinates, rest = divmod(state[head].shape[0] - anchors * (5 + nc), anchors)
        if coordinates > 0 and not rest and coordinates % 2 == 0:
            landmarks = f"{coordinates // 2} landmarks per box"
            return f"it also predicts {landmarks} (the YOLOv5-face family), for which there is no head"
    other = [name for name, tensor in own.items() if name not in state or state[name].shape != tensor.shape]
    if other and all(name in state and _is_narrower(state[name], own[name]) for name in other):
        layers = sum(own[name].dim() > 1 for name in other)
        return (
            f"{layers} of its layers are narrower than its YAML says, so channels were pruned; export it as ONNX there"
        )
    return None


def _is_narrower(tensor: "Tensor", other: "Tensor") -> bool:
    return tensor.dim() == other.dim() and all(a <= b for a, b in zip(tensor.shape, other.shape, strict=True))
