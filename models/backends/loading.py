"""From the path of a weights file to a model ready for inference. Imports torch only for files that need it."""

import logging
import os
import sys
from argparse import Namespace
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from graftdet.models.backends import BACKENDS, Backend, backend_for
from graftdet.models.backends.limits.trial import try_out
from graftdet.models.backends.selection.ways import Workload
from graftdet.models.backends.torch_file import load_torch_model
from graftdet.models.inference.ensemble import Ensemble
from graftdet.models.inference.predictor import Predictor
from graftdet.models.spec.problems import Problem, ProblemError
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
    *,
    precision: str | None = None,
    imgsz: int | tuple[int, int] | None = None,
    batch_size: int = 1,
    images: Sequence[Any] = (),
) -> Predictor:
    """Load a model for inference: an own checkpoint or `.safetensors`, a published YOLOv5 `.pt`, or an exported file.

    Args:
        weights: a `.pt` or `.safetensors` file, an exported file or folder, or the name of a file in `configs/weights`.
        device: 'cpu', 'cuda', the number of a CUDA device, 'mps', or '' for the best one available.
        half: the same as `precision="half"`.
        branch: the branch to use of a head that has several.
        backend: what runs a `.pt` file: 'torch'; 'onnx' or 'openvino' on a CPU, after an export that is cached; 'auto':
            torch on a GPU, on a CPU the fastest installed one, timed once per machine
            (`graftdet.models.backends.selection.auto`).
        plugins: files or packages with the blocks that the weights need, loaded as by `load_plugins`.
        precision: 'float32'; 'half': float16 on CUDA, bfloat16 with torch and OpenVINO on CPUs that have it, no effect
            elsewhere; 'auto': half on a CPU where it is faster and its boxes agree with float32. None: 'auto' with
            `backend="auto"`, else 'float32'.
        imgsz, batch_size: the input size and the images per call that a choice is timed with; `predict` takes others.
        images: images that a choice is timed on, and bfloat16 compared with float32 on, as `predict` takes them;
            without any, drawn ones.

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
    request = Request(str(device), backend, resolve_precision(half, precision, backend), branch, tuple(plugins))
    if request.plugins:
        from graftdet.models.graph.plugins import load_plugins

        load_plugins(request.plugins)
    try:
        return _load(weights, request, Workload(imgsz, batch_size, images=images))
    except ProblemError as error:
        raise ProblemError(*map(_with_argument, error.problems)) from None


def _with_argument(problem: Problem) -> Problem:
    """The problem with the argument of `load_model` that corresponds to --plugins, where that may be the fix."""
    if problem.rule != "unknown-module":
        return problem
    return replace(problem, hint=f"{problem.hint} (in Python: load_model(..., plugins=['FILE.py']))")


@dataclass(frozen=True)
class Request:
    """How a user wants a model to be run; the fields are those of `load_model`."""

    device: str = "cpu"
    backend: str = "torch"
    precision: str = "float32"
    branch: str | None = None
    plugins: tuple[str, ...] = ()


def model_request(options: Namespace) -> Request:
    """The request of a command line with the flags of `add_model_flags`. Raises `UserError`."""
    precision = resolve_precision(options.half, options.precision, options.backend)
    branch = getattr(options, "branch", None)
    return Request(options.device, options.backend, precision, branch, tuple(options.plugins))


def resolve_precision(half: bool, precision: str | None, backend: str) -> str:
    """The precision that the arguments of `load_model` ask for: 'auto', 'float32' or 'half'. Raises `UserError`."""
    if precision not in (None, "auto", "float32", "half"):
        raise UserError(f"precision '{precision}': expected auto, float32 or half")
    if half and precision in ("auto", "float32"):
        raise UserError(f"--half and --precision {precision} contradict each other; omit one of them")
    return "half" if half else precision or ("auto" if backend == "auto" else "float32")


def _load(weights: str | Path, request: Request, workload: Workload) -> Predictor:
    file_format, backend, branch = backend_for(weights), request.backend, request.branch
    is_half = request.precision == "half"
    if file_format is not None and branch:
        raise UserError(
            f"{weights}: branch '{branch}': an exported file contains one branch only; use the .pt file it is made from"
        )
    if file_format is not None:
        runner = backend_for_file(weights, file_format, backend)
        if not runner.missing_packages(for_export=False) and runner.runs_here:
            try_out(weights, runner)
        return runner.load(weights, device=request.device, half=is_half)
    if backend not in ("auto", "torch") and branch:
        raise UserError(f"--backend {backend}: a branch other than the default one is run by torch only")
    is_choice = backend != "torch" or request.precision == "auto"
    if is_choice and not branch and _runs_on_cpu(request.device, backend):
        from graftdet.models.backends.selection.auto import load_fastest

        return load_fastest(weights, backend, request.precision, request.plugins, workload)
    return load_torch_model(weights, request.device, is_half, branch)


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
    if not is_cpu and device and backend not in ("auto", "torch"):
        raise UserError(f"--backend {backend}: runs a .pt file on the CPU only; add --device cpu")
    return is_cpu or backend not in ("auto", "torch")


def load_models(weights: Sequence[str | Path], request: Request, workload: Workload | None = None) -> Predictor:
    """Load one file as `load_model` does, several as an `Ensemble`. Warns where half precision has no effect."""
    models = [_load(path, request, workload or Workload()) for path in weights]
    for path, model in zip(weights, models, strict=True):
        if request.precision == "half" and not model.half:
            logger.warning(
                f"--half: has no effect on {path}; float16 is for .pt files on CUDA, bfloat16 for torch and OpenVINO "
                "on CPUs that have it"
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
