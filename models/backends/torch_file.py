"""Run a `.pt` or `.safetensors` file by torch."""

from pathlib import Path

from graftdet.models.inference.predictor import Predictor
from graftdet.utils.errors import UserError


def load_torch_model(weights: str | Path, device: str, half: bool = False, branch: str | None = None) -> Predictor:
    """Build the model of a weights file, fused and on `device`.

    Args:
        weights: a `.pt` or `.safetensors` file, or the name of a file in `configs/weights`.
        device: see `graftdet.utils.device.select_device`.
        half: compute in half precision, see `TorchModel`.
        branch: the branch to use of a head that has several.

    Raises:
        UserError: the file cannot be read, or has no such branch.
    """
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
