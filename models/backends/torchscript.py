"""TorchScript: a traced graph that torch runs without this project's code, in one file.

Input, outputs and metadata are those of the ONNX file; the metadata are JSON in the archive's file `graftdet.json`.
"""

import warnings
from pathlib import Path
from typing import Any

import numpy as np

from graftdet.models.backends import BACKENDS, Backend, ExportError, ExportOptions, check_output
from graftdet.models.backends.exported_model import ExportedModel
from graftdet.models.backends.layouts.description import Description
from graftdet.models.backends.limits.file_checks import check_is_file
from graftdet.models.backends.limits.torchscript_code import check_code, check_operators
from graftdet.utils.errors import UserError, first_line
from graftdet.utils.files import atomic_file
from graftdet.utils.untrusted.file_digest import DamagedFileError, append_digest, check_digest

_DESCRIPTION = "graftdet.json"


def export(model: Any, path: str | Path, options: ExportOptions) -> Path:
    """Write a model as a traced TorchScript file.

    Args:
        model: a `DetectionModel`; unchanged.
        path: the file to write.
        options: see `ExportOptions`.

    Returns:
        The path.

    Raises:
        ExportError: the model cannot be traced.
        UserError: invalid options, or the file cannot be written.
    """
    import torch

    from graftdet.models.backends.tracing.describe import describe
    from graftdet.models.backends.tracing.export_module import ExportModule

    check_output(model, options, "torchscript")
    path, module = Path(path), ExportModule(model, options)
    images = torch.zeros(options.batch_size, model.channels, *options.size)
    try:
        with warnings.catch_warnings(), torch.inference_mode():
            warnings.simplefilter("ignore")  # that shapes are traced; that torch.export is the newer way
            traced = torch.jit.trace(module, images, check_trace=False)
            description = describe(module, model, options)
    except Exception as error:  # tracing raises many types
        raise ExportError(path, f"the model cannot be traced: {first_line(error)}") from error
    with atomic_file(path) as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(traced, file, _extra_files={_DESCRIPTION: description.to_json()})
        append_digest(file)
    return path


def load(path: str | Path, device: str = "cpu", half: bool = False) -> "TorchScriptModel":
    """Open a TorchScript file of this project.

    Args:
        path: the file.
        device: see `graftdet.utils.device.select_device`.
        half: no effect; the file is computed in float32.

    Raises:
        UserError: the file is missing, malformed, or of another program.
    """
    import torch

    from graftdet.utils.device import select_device

    path = Path(path)
    check_is_file(path)
    try:
        check_digest(path)
    except (DamagedFileError, OSError) as error:
        raise UserError(f"{path}: is not a valid TorchScript file, or is damaged: {error}") from None
    check_code(path)
    files = {_DESCRIPTION: ""}
    chosen = select_device(device)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            module = torch.jit.load(str(path), map_location=chosen, _extra_files=files)
            check_operators(path, module)
    except UserError:
        raise
    except Exception as error:  # torch's exceptions have no common base
        raise UserError(f"{path}: is not a valid TorchScript file ({first_line(error)})") from None
    description = Description.from_json(files[_DESCRIPTION], path)
    return TorchScriptModel(module, path, chosen, description)


class TorchScriptModel(ExportedModel):
    """A traced graph run by torch.

    Args:
        module: the loaded module.
        path: the file, for messages.
        device: where it runs.
        description: what it takes and returns.
    """

    backend = "TorchScript"

    def __init__(self, module: Any, path: Path, device: Any, description: Description):
        self._module, self.path, self._device = module, path, device
        self._describe(description.input, description.outputs, description.metadata)

    def _run(self, images: np.ndarray) -> list[np.ndarray]:
        import torch

        try:
            with torch.inference_mode():
                outputs = self._module(torch.from_numpy(images).to(self._device))
        except Exception as error:  # torch's exceptions have no common base
            shape = "x".join(map(str, images.shape))
            raise UserError(f"{self.path}: torch fails on an input of {shape} ({first_line(error)})") from None
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        return [outputs[index].cpu().numpy() for index in self._output_indices]


BACKENDS.register("torchscript")(Backend(suffix=".torchscript", export=export, load=load, package="torch"))
