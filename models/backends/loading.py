"""From the path of a weights file to something that detects. Imports torch only for files that need it."""

import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from graftdet.models.backends import BACKENDS, Backend, backend_for
from graftdet.models.inference.ensemble import EnsemblePredictor
from graftdet.models.inference.predictor import Predictor
from graftdet.utils.errors import UserError


def load_model(
    weights: str | Path,
    device: str = "cpu",
    half: bool = False,
    branch: str | None = None,
    backend: str = "torch",
    plugins: Iterable[str] = (),
) -> Predictor:
    """Load anything that detects: own checkpoint, published YOLOv5 `.pt`, or an exported file such as `.onnx`.

    Returns a `Predictor`: callable on images (B, 3, H, W), with `.predict(images)`, `.names`, `.stride`, `.nc`.
    `device` is 'cpu', 'cuda', a CUDA device's number, 'mps' or '' for the best there is; `half` computes in float16
    on CUDA, in bfloat16 with OpenVINO on CPUs that have it, and changes nothing elsewhere; `branch` is the one to take
    of a head that has several. `backend` is what runs a `.pt`: 'torch', 'onnx' or 'openvino' on a CPU (`graftdet.models.backends.auto`;
    `plugins` are those of its blocks), or 'auto': torch on a GPU, the fastest installed on a CPU.
    Raises `UserError` naming the file and what is wrong with it.
    """
    file_format = backend_for(weights)
    if file_format is not None and branch:
        raise UserError(
            f"{weights}: branch '{branch}': an exported file holds one branch only; take the .pt file that it is from"
        )
    if file_format is not None:
        return reader_of(weights, file_format, backend).load(weights, device=str(device), half=half)
    if backend != "torch" and branch:
        raise UserError(f"--backend {backend}: a branch that is not the usual one is run by torch")
    if backend != "torch" and _is_cpu(str(device), backend):
        from graftdet.models.backends.auto import load_exported

        exported = load_exported(weights, backend, half, plugins)
        if exported is not None:
            return exported
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


def reader_of(weights: str | Path, file_format: Backend, word: str) -> Backend:
    """What runs an exported file: its own format's backend; OpenVINO reads .onnx too. Raises `UserError`."""
    asked = file_format if word in ("auto", "torch") else BACKENDS[word]
    if asked is file_format or (asked is BACKENDS["openvino"] and file_format is BACKENDS["onnx"]):
        return asked
    raise UserError(
        f"--backend {word}: cannot run {weights}; leave --backend away, or give the .pt file that it is from"
    )


def _is_cpu(device: str, backend: str) -> bool:
    """Whether a `.pt` goes to the CPU. Asks torch, whose import takes longer than a picture, only where there may be
    anything else. Raises `UserError` for a device that is not there or that `backend` does not run on."""
    if device == "cpu":
        return True
    drivers = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")
    if not device and sys.platform.startswith("linux") and not any(map(os.path.exists, drivers)):
        return True
    from graftdet.utils.device import select_device

    is_cpu = select_device(device).type == "cpu"
    if not is_cpu and device and backend != "auto":
        raise UserError(f"--backend {backend}: a .pt is run by it on the CPU only; add --device cpu")
    return is_cpu or backend != "auto"


def load_models(
    weights: Sequence[str | Path],
    device: str = "cpu",
    half: bool = False,
    branch: str | None = None,
    backend: str = "torch",
    plugins: Iterable[str] = (),
) -> Predictor:
    """`load_model`, with several files as an `EnsemblePredictor`. Says on standard error where `half` changes nothing."""
    models = [load_model(path, device, half, branch, backend, plugins) for path in weights]
    for path, model in zip(weights, models, strict=True):
        if half and not model.half:
            told = "float16 is for .pt files on CUDA, bfloat16 for OpenVINO on CPUs that have it"
            print(f"--half: {path} is computed as without it; {told}", file=sys.stderr)
    return models[0] if len(models) == 1 else EnsemblePredictor(models)


def newest_weights(project: str | Path = "runs/train") -> Path:
    """The `best.pt` (else `last.pt`) of the newest training run. Raises `UserError` when there is none."""
    for name in ("best.pt", "last.pt"):
        found = sorted(Path(project).glob(f"**/weights/{name}"), key=lambda path: path.stat().st_mtime)
        if found:
            return found[-1]
    raise UserError(f"--weights: no run with weights/best.pt below {project}; name a file, such as --weights best.pt")
