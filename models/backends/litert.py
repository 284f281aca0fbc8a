"""LiteRT (TensorFlow Lite), for phones and small boards: one `.tflite` file.

litert-torch converts the program of torch.export in an environment of its own, see `converters.environment`. Input,
outputs and metadata are those of the ONNX file. The metadata are `metadata.json` in a ZIP archive behind the model,
where other programs look for files that belong to it, with a digest of the model: the runtime does not check weights.
"""

import hashlib
import io
import math
import tempfile
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from graftdet.models.backends import BACKENDS, Backend, ExportError, ExportOptions, check_output
from graftdet.models.backends.converters.environment import ConverterEnvironment, last_line
from graftdet.models.backends.exported_model import ExportedModel, thread_limit
from graftdet.models.backends.layouts.description import Description
from graftdet.models.backends.limits.file_checks import check_cpu_only, read_exported_file
from graftdet.models.backends.limits.size_limits import MAX_METADATA, MAX_OUTPUT
from graftdet.utils.errors import UserError, first_line
from graftdet.utils.files import write_atomically, write_errors
from graftdet.utils.processes.native_output import captured_output
from graftdet.utils.processor import usable_cores

DESCRIPTION = "metadata.json"
SCRIPT = Path(__file__).parent / "converters" / "litert_script.py"
ENVIRONMENT = ConverterEnvironment("litert", SCRIPT.with_name("litert-requirements.txt"), "litert-torch", "2 GB")
_MAGIC = slice(4, 8), b"TFL3"


def export(model: Any, path: str | Path, options: ExportOptions) -> Path:
    """Write a model as a LiteRT file, in float32.

    Args:
        model: a `DetectionModel`; unchanged.
        path: the file to write.
        options: see `ExportOptions`.

    Returns:
        The path.

    Raises:
        ExportError: the model cannot be exported by torch.export, or converted.
        UserError: the converter's environment does not exist, invalid options, or the file cannot be written.
    """
    import torch

    from graftdet.models.backends.tracing.describe import describe
    from graftdet.models.backends.tracing.export_module import ExportModule
    from graftdet.models.backends.tracing.torch_export import exported_program

    path = Path(path)
    check_output(model, options, "litert")
    ENVIRONMENT.require()
    with write_errors(path), tempfile.TemporaryDirectory(prefix="litert-") as folder:
        program, converted = Path(folder) / "model.pt2", Path(folder) / "model.tflite"
        with captured_output(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                module = ExportModule(model, options)
                description = describe(module, model, options)
                torch.export.save(exported_program(module, options), program)
            except Exception as error:  # torch.export raises many types
                raise ExportError(path, f"the model cannot be exported: {first_line(error)}") from error
        done = ENVIRONMENT.run(SCRIPT, [program, converted, *(name for name, _ in description.outputs)])
        if done.returncode or not converted.is_file():
            raise ExportError(path, f"litert-torch cannot convert the model: {last_line(done)}")
        data = converted.read_bytes()
    write_atomically(path, with_description(data, description))
    return path


def load(path: str | Path, device: str = "cpu", half: bool = False) -> "LiteRtModel":
    """Open a LiteRT file of this project, on the CPU.

    Args:
        path: the file.
        device: 'cpu', 'mps' or ''; all mean the CPU.
        half: no effect; the file is computed in float32.

    Raises:
        UserError: ai-edge-litert is not installed; the file is missing, damaged, or of another program.
    """
    path = Path(path)
    check_cpu_only(device, "LiteRT files")
    data = read_exported_file(path)
    content, description = split_description(path, data)
    try:
        with captured_output():
            from ai_edge_litert.interpreter import Interpreter
    except ImportError as error:
        reason = f"({first_line(error)}); install it with 'pip install ai-edge-litert'"
        raise UserError(f"{path}: LiteRT files need ai-edge-litert {reason}") from None
    with captured_output():
        try:
            interpreter = Interpreter(model_content=content, num_threads=thread_limit() or usable_cores())
            _check_tensors(path, interpreter, description)
            interpreter.allocate_tensors()
            runner = interpreter.get_signature_runner()
        except UserError:
            raise
        except Exception as error:  # the runtime's exceptions have no common base
            raise UserError(f"{path}: is not a model that LiteRT can run ({first_line(error)})") from None
    return LiteRtModel(runner, path, description)


def with_description(content: bytes, description: Description) -> bytes:
    """A model with its description in an archive behind it, the same bytes at every call.

    Args:
        content: the model as the converter writes it.
        description: what it takes and returns.
    """
    return _with_text(content, description.to_json(ascii_only=True, sha256=hashlib.sha256(content).hexdigest()))


def _with_text(content: bytes, text: str) -> bytes:
    file = io.BytesIO(content)
    with zipfile.ZipFile(
        file, "a"
    ) as archive:  # appended, as the content is no archive; a fixed time and no compression
        archive.writestr(zipfile.ZipInfo(DESCRIPTION), text)
    return file.getvalue()


def split_description(path: Path, data: bytes) -> tuple[bytes, Description]:
    """Split a file into the model and its description.

    Raises:
        UserError: `with_description` did not return these bytes.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            member = archive.getinfo(DESCRIPTION)
            if member.compress_type != zipfile.ZIP_STORED or member.file_size > MAX_METADATA:
                raise ValueError(DESCRIPTION)
            content, text = data[: member.header_offset], archive.read(member).decode("ascii")
    except Exception:  # zipfile raises many types
        raise UserError(f"{path}: was not exported by this project, or is incomplete") from None
    description = Description.from_json(text, path)
    expected = with_description(content, description)
    if data != expected or content[_MAGIC[0]] != _MAGIC[1]:
        raise UserError(f"{path}: is damaged: its digest is not that of its content")
    return content, description


def _check_tensors(path: Path, interpreter: Any, description: Description) -> None:
    """Raise `UserError` before memory is allocated for a graph that is too large, or not that of its description."""
    for subgraph in range(interpreter.num_subgraphs()):
        for tensor in interpreter.get_tensor_details(subgraph):
            sides = [int(side) for side in tensor["shape"]]
            if min(sides, default=1) < 0 or math.prod(sides) > MAX_OUTPUT:
                shape = "x".join(map(str, sides))
                raise UserError(f"{path}: its tensor {tensor['name']!r} is {shape}, more than {MAX_OUTPUT} numbers")
    runner = interpreter.get_signature_runner()
    details = {**runner.get_input_details(), **runner.get_output_details()}
    found = {name: [int(side) for side in one["shape"]] for name, one in details.items()}
    stated = {"images": description.input, **dict(description.outputs)}
    if found != stated:
        raise UserError(f"{path}: its input and outputs are {found}, its description states {stated}")


class LiteRtModel(ExportedModel):
    """A file run by LiteRT on the CPU.

    Args:
        runner: the signature of the file.
        path: the file, for messages.
        description: what it takes and returns.
    """

    backend = "LiteRT"

    def __init__(self, runner: Any, path: Path, description: Description):
        self.path, self._runner = path, runner
        self._names = [name for name, _ in description.outputs]
        self._describe(description.input, description.outputs, description.metadata)

    def _run(self, images: np.ndarray) -> list[np.ndarray]:
        try:
            outputs = self._runner(images=images)
        except Exception as error:  # the runtime's exceptions have no common base
            shape = "x".join(map(str, images.shape))
            raise UserError(f"{self.path}: LiteRT fails on an input of {shape} ({first_line(error)})") from None
        return [outputs[self._names[index]] for index in self._output_indices]


BACKENDS.register("litert")(
    Backend(
        suffix=".tflite",
        export=export,
        load=load,
        package="ai_edge_litert",
        environment=ENVIRONMENT,
        has_free_sizes=False,
    )
)
