"""ExecuTorch, PyTorch's runtime for phones and small boards: one `.pte` file, lowered to XNNPACK.

Input, outputs and metadata are those of the ONNX file. The metadata are JSON that the method `graftdet` of the program
returns, with a digest of the whole file: the runtime does not check weights.
"""

import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from graftdet.models.backends import BACKENDS, Backend, ExportError, ExportOptions, check_output
from graftdet.models.backends.exported_model import ExportedModel, thread_limit
from graftdet.models.backends.layouts.description import Description
from graftdet.models.backends.limits.file_checks import check_cpu_only, read_exported_file
from graftdet.utils.errors import UserError, first_line
from graftdet.utils.files import write_atomically
from graftdet.utils.processes.native_output import captured_output
from graftdet.utils.untrusted.embedded_digest import NO_DIGEST, check_embedded_digest, fill_embedded_digest

_METHOD = "graftdet"
_DIGEST = re.compile(rb'"sha256": "([0-9a-f]{64})"')


def export(model: Any, path: str | Path, options: ExportOptions) -> Path:
    """Write a model as an ExecuTorch program, in float32.

    Args:
        model: a `DetectionModel`; unchanged.
        path: the file to write.
        options: see `ExportOptions`.

    Returns:
        The path.

    Raises:
        ExportError: the model cannot be exported by torch.export, or lowered.
        UserError: executorch is not installed, invalid options, or the file cannot be written.
    """
    from graftdet.models.backends.tracing.describe import describe
    from graftdet.models.backends.tracing.export_module import ExportModule
    from graftdet.models.backends.tracing.torch_export import exported_program

    path = Path(path)
    check_output(model, options, "executorch")
    with captured_output(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
            from executorch.exir import to_edge_transform_and_lower
        except ImportError as error:
            raise _missing(path, error) from None
        try:
            module = ExportModule(model, options)
            text = describe(module, model, options).to_json(ascii_only=True, sha256=NO_DIGEST)
            edge = to_edge_transform_and_lower(
                exported_program(module, options),
                partitioner=[XnnpackPartitioner()],
                constant_methods={_METHOD: text},
            )
            data = edge.to_executorch().buffer
        except Exception as error:  # torch.export and ExecuTorch raise many types
            raise ExportError(path, f"the model cannot be exported: {first_line(error)}") from error
    write_atomically(path, fill_embedded_digest(data, _DIGEST))
    return path


def load(path: str | Path, device: str = "cpu", half: bool = False) -> "ExecutorchModel":
    """Open an ExecuTorch program of this project, on the CPU.

    Args:
        path: the file.
        device: 'cpu', 'mps' or ''; all mean the CPU.
        half: no effect; the file is computed in float32.

    Raises:
        UserError: executorch is not installed; the file is missing, damaged, or of another program.
    """
    path = Path(path)
    check_cpu_only(device, "ExecuTorch programs")
    data = read_exported_file(path)
    check_program(path, data)
    with captured_output(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            from executorch.runtime import Runtime, Verification
        except ImportError as error:
            raise _missing(path, error) from None
        try:
            _limit_threads()
            program = Runtime.get().load_program(path, verification=Verification.InternalConsistency)
            (text,) = program.load_method(_METHOD).execute([])
            method = program.load_method("forward")
        except Exception as error:  # the runtime's exceptions have no common base
            raise UserError(f"{path}: is not a program that ExecuTorch can run ({first_line(error)})") from None
    return ExecutorchModel(method, path, Description.from_json(text, path))


def check_program(path: Path, data: bytes) -> None:
    """Raise `UserError` for a program that `export` did not write."""
    try:
        is_unchanged = check_embedded_digest(data, _DIGEST)
    except ValueError:
        raise UserError(f"{path}: was not exported by this project, or is incomplete") from None
    if not is_unchanged:
        raise UserError(f"{path}: is damaged: its digest is not that of its content")


def _missing(path: Path, error: ImportError) -> UserError:
    return UserError(
        f"{path}: ExecuTorch programs need executorch ({first_line(error)}); install it with 'pip install executorch'"
    )


def _limit_threads() -> None:
    """Give the threads of XNNPACK the number that other runtimes use; it is common to all programs of the process."""
    if count := thread_limit():
        from executorch.extension.pybindings import portable_lib

        portable_lib._unsafe_reset_threadpool(count)


class ExecutorchModel(ExportedModel):
    """A program run by ExecuTorch on the CPU.

    Args:
        method: the loaded method.
        path: the file, for messages.
        description: what it takes and returns.
    """

    backend = "ExecuTorch"

    def __init__(self, method: Any, path: Path, description: Description):
        self.path, self._method = path, method
        self._describe(description.input, description.outputs, description.metadata)

    def _run(self, images: np.ndarray) -> list[np.ndarray]:
        import torch

        try:
            outputs = self._method.execute([torch.from_numpy(images)])
        except Exception as error:  # the runtime's exceptions have no common base
            shape = "x".join(map(str, images.shape))
            raise UserError(f"{self.path}: ExecuTorch fails on an input of {shape} ({first_line(error)})") from None
        return [outputs[index].numpy().copy() for index in self._output_indices]


BACKENDS.register("executorch")(
    Backend(suffix=".pte", export=export, load=load, package="executorch", has_free_sizes=False)
)
