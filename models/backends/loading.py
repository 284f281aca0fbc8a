"""From the path of a weights file to a model ready for inference. Imports torch only for files that need it."""

import logging
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from graftdet.models.backends import BACKENDS, Backend, backend_for
from graftdet.models.inference.ensemble import Ensemble
from graftdet.models.inference.predictor import Predictor
from graftdet.utils.errors import UserError
from graftdet.utils.files import newest_run_file

logger = logging.getLogger(__name__)


def load_model(
    weights: str | Path,
    device: str = "cpu",
    half: bool = False,
    branch: str | None = None,
    backend: str = "torch",
    plugins: Iterable[str] = (),
) -> Predictor:
    """Load a model for inference: an own checkpoint or `.safetensors`, a published YOLOv5 `.pt`, or an exported file.

    Args:
        weights: a `.pt`, `.safetensors`, `.onnx` or `.xml` file, or the name of a file in `configs/weights`.
        device: 'cpu', 'cuda', the number of a CUDA device, 'mps', or '' for the best one available.
        half: compute in float16 on CUDA, in bfloat16 with OpenVINO on CPUs that support it; no effect elsewhere.
        branch: the branch to use of a head that has several.
        backend: what runs a `.pt` file: 'torch'; 'onnx' or 'openvino' on a CPU, after an export that is cached
            (`graftdet.models.backends.auto`); 'auto': torch on a GPU, the fastest installed one on a CPU.
        plugins: the plugins that the weights need, as given to `load_plugins`; part of the cache key of the export.

    Returns:
        A `Predictor`: `.predict(source)`, or calling it, takes paths, arrays, PIL images, tensors and videos and
        returns `Detections`; calling it with a batch (B, 3, H, W) returns decoded boxes and scores. `.names`, `.nc`,
        `.stride` describe the model.

    Raises:
        UserError: the file is missing, malformed, or cannot be run as requested; the message names the file.

    Example:
        >>> model = load_model("runs/train/exp/weights/best.pt")
        >>> detections = model.predict("street.jpg", conf=0.4)[0]
        >>> detections.boxes, detections.scores, detections.class_names
    """
    file_format = backend_for(weights)
    if file_format is not None and branch:
        raise UserError(
            f"{weights}: branch '{branch}': an exported file contains one branch only; use the .pt file it is made from"
        )
    if file_format is not None:
        return backend_for_file(weights, file_format, backend).load(weights, device=str(device), half=half)
    if backend != "torch" and branch:
        raise UserError(f"--backend {backend}: a branch other than the default one is run by torch only")
    if backend != "torch" and _runs_on_cpu(str(device), backend):
        from graftdet.models.backends.auto import load_exported

        exported = load_exported(weights, backend, half, plugins)
        if exported is not None:
            return exported
    return _load_torch_model(weights, device, half, branch)


def _load_torch_model(weights: str | Path, device: str, half: bool, branch: str | None) -> Predictor:
    from graftdet.models.inference.torch_model import TorchModel
    from graftdet.models.weights.transfer import build_from_weights
    from graftdet.models.weights.weights_file import load_weights
    from graftdet.utils.device import select_device

    file = load_weights(weights)
    model = build_from_weights(file)
    if branch:
        try:
            model.use_branch(branch)
        except UserError as error:
            raise UserError(f"{weights}: {error}") from None
    return TorchModel(model, select_device(device), half, file.size, file.square_letterbox)


def backend_for_file(weights: str | Path, file_format: Backend, name: str) -> Backend:
    """The backend that runs an exported file.

    Args:
        weights: the file.
        file_format: the backend of its own format.
        name: the requested backend; 'auto' and 'torch' mean that of its own format.

    Raises:
        UserError: the requested backend does not read the file.
    """
    backend = file_format if name in ("auto", "torch") else BACKENDS[name]
    if backend.can_load(file_format.suffix):
        return backend
    raise UserError(f"--backend {name}: cannot run {weights}; omit --backend, or use the .pt file it is made from")


def _runs_on_cpu(device: str, backend: str) -> bool:
    """Whether a `.pt` runs on the CPU.

    Asks torch, whose import takes longer than an image, only where there may be another device. Raises `UserError` for
    a device that is not available or that `backend` does not run on.
    """
    if device == "cpu":
        return True
    drivers = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")
    if not device and sys.platform.startswith("linux") and not any(map(os.path.exists, drivers)):
        return True
    from graftdet.utils.device import select_device

    is_cpu = select_device(device).type == "cpu"
    if not is_cpu and device and backend != "auto":
        raise UserError(f"--backend {backend}: runs a .pt file on the CPU only; add --device cpu")
    return is_cpu or backend != "auto"


def load_models(
    weights: Sequence[str | Path],
    device: str = "cpu",
    half: bool = False,
    branch: str | None = None,
    backend: str = "torch",
    plugins: Iterable[str] = (),
) -> Predictor:
    """`load_model` for one file, an `Ensemble` for several. Warns where `half` has no effect."""
    models = [load_model(path, device, half, branch, backend, plugins) for path in weights]
    for path, model in zip(weights, models, strict=True):
        if half and not model.half:
            logger.warning(
                f"--half: has no effect on {path}; float16 is for .pt files on CUDA, bfloat16 for OpenVINO on CPUs "
                "that support it"
            )
    return models[0] if len(models) == 1 else Ensemble(models)


def newest_weights(project: str | Path = "runs/train") -> Path:
    """The `best.pt`, else the `last.pt`, of the newest training run below `project`.

    Raises:
        UserError: there is none.
    """
    for name in ("best.pt", "last.pt"):
        path = newest_run_file(project, f"weights/{name}")
        if path:
            return path
    raise UserError(f"--weights: no run with weights/best.pt below {project}; give a file, such as --weights best.pt")
