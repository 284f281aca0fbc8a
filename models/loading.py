"""From the path of a weights file to something that detects. Imports torch only for files that need it."""

import sys
from collections.abc import Sequence
from pathlib import Path

from utils.errors import UserError

from .backends import backend_for
from .predictor import EnsemblePredictor, Predictor


def load_model(weights: str | Path, device: str = "cpu", half: bool = False, branch: str | None = None) -> Predictor:
    """Load anything that detects: own checkpoint, published YOLOv5 `.pt`, or an exported file such as `.onnx`.

    Returns a `Predictor`: callable on images (B, 3, H, W), with `.predict(images)`, `.names`, `.stride`, `.nc`.
    `device` is 'cpu', 'cuda', a CUDA device's number, 'mps' or '' for the best there is; `half` computes in float16
    on CUDA and changes nothing elsewhere; `branch` is the one to take of a head that has several.
    Raises `UserError` naming the file and what is wrong with it.
    """
    backend = backend_for(weights)
    if backend is not None and branch:
        raise UserError(f"{weights}: branch '{branch}': an exported file holds one branch only; take the .pt file that it is from")
    if backend is not None:
        return backend.load(weights, device=str(device))
    from utils.device import select_device

    from .weights import TorchModel, build_from, load_weights

    file = load_weights(weights)
    model = build_from(file)
    if branch:
        try:
            model.use_branch(branch)
        except UserError as error:
            raise UserError(f"{weights}: {error}") from None
    return TorchModel(model, select_device(device), half, file.size)


def load_models(
    weights: Sequence[str | Path], device: str = "cpu", half: bool = False, branch: str | None = None
) -> Predictor:
    """`load_model`, with several files as an `EnsemblePredictor`. Says on standard error where `half` changes nothing."""
    models = [load_model(path, device, half, branch) for path in weights]
    for path, model in zip(weights, models, strict=True):
        if half and not model.half:
            print(f"--half: {path} is computed as without it; float16 is for .pt files on CUDA", file=sys.stderr)
    return models[0] if len(models) == 1 else EnsemblePredictor(models)


def newest_weights(project: str | Path = "runs/train") -> Path:
    """The `best.pt` (else `last.pt`) of the newest training run. Raises `UserError` when there is none."""
    for name in ("best.pt", "last.pt"):
        found = sorted(Path(project).glob(f"**/weights/{name}"), key=lambda path: path.stat().st_mtime)
        if found:
            return found[-1]
    raise UserError(f"--weights: no run with weights/best.pt below {project}; name a file, such as --weights best.pt")
