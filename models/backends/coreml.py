"""Core ML, for Apple devices: an `.mlpackage`, a folder that Xcode opens. Converted anywhere, run by macOS alone.

Converted from the graph of torch.export; input, outputs and metadata are those of the ONNX file, the metadata in the
package's own fields.
"""

import contextlib
import hashlib
import json
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from graftdet.models.backends import BACKENDS, Backend, ExportError, ExportOptions, check_output
from graftdet.models.backends.exported_model import ExportedModel
from graftdet.models.backends.layouts.description import Description
from graftdet.utils.errors import UserError, first_line
from graftdet.utils.files import read_regular_file, write_errors
from graftdet.utils.processes.native_output import captured_output

WEIGHTS = "Data/com.apple.CoreML/weights/weight.bin"
_KEY = "graftdet"


def export(model: Any, path: str | Path, options: ExportOptions) -> Path:
    """Write a model as a Core ML package, in float32, for macOS 12 and iOS 15 or newer.

    Args:
        model: a `DetectionModel`; unchanged.
        path: the folder to write.
        options: see `ExportOptions`.

    Returns:
        The path.

    Raises:
        ExportError: the model cannot be exported by torch.export, or converted.
        UserError: coremltools is not installed, invalid options, or the files cannot be written.
    """
    from graftdet.models.backends.tracing.describe import describe
    from graftdet.models.backends.tracing.export_module import ExportModule
    from graftdet.models.backends.tracing.torch_export import exported_program

    path = Path(path)
    check_output(model, options, "coreml")
    tools = _import_tools(path)
    with captured_output(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            module = ExportModule(model, options)
            description = describe(module, model, options)
            package = tools.convert(
                without_aliases(exported_program(module, options).run_decompositions({})),
                inputs=[tools.TensorType(name="images", shape=tuple(description.input))],
                outputs=[tools.TensorType(name=name) for name, _ in description.outputs],
                convert_to="mlprogram",
                compute_precision=tools.precision.FLOAT32,
                minimum_deployment_target=tools.target.iOS15,
                skip_model_load=True,
            )
        except Exception as error:  # torch.export and coremltools raise many types
            raise ExportError(path, f"the model cannot be converted: {first_line(error)}") from error
        with write_errors(path):
            digest = hashlib.sha256(Path(package.weights_dir, Path(WEIGHTS).name).read_bytes()).hexdigest()
            package.user_defined_metadata.update(description.metadata)
            package.user_defined_metadata[_KEY] = description.to_json(sha256=digest)
            package.save(str(path))
            for file in path.glob("*.json"):
                if file.name != "Manifest.json":  # a table for debuggers of another program
                    file.unlink()
    if read_description(tools, path) != description:
        raise ExportError(path, "the package does not state what was written into it")
    return path


def without_aliases(program: Any) -> Any:
    """Remove second names of the same tensor, which coremltools does not know, in place.

    Args:
        program: a `torch.export.ExportedProgram`.

    Returns:
        The program.
    """
    graph = program.graph_module.graph
    for node in list(graph.nodes):
        if node.op == "call_function" and str(node.target) == "aten.alias.default":
            node.replace_all_uses_with(node.args[0])
            graph.erase_node(node)
    program.graph_module.recompile()
    return program


def load(path: str | Path, device: str = "cpu", half: bool = False) -> "CoreMlModel":
    """Open a Core ML package of this project, on macOS.

    Args:
        path: the folder.
        device: 'cpu' for the CPU alone; 'mps' or '': whatever Core ML chooses.
        half: no effect; the file is computed in float32.

    Raises:
        UserError: this is not macOS, coremltools is not installed; the package is missing, damaged, or of another
            program.
    """
    path = Path(path)
    if not path.is_dir():
        raise UserError(f"{path}: no such folder; a Core ML package is one")
    if device.lower() not in ("", "cpu", "mps"):
        raise UserError(f"--device {device}: Core ML runs on the devices cpu and mps")
    _check_manifest(path)  # coremltools takes seconds to import
    tools = _import_tools(path)
    description = read_description(tools, path)
    if not BACKENDS["coreml"].runs_here:
        raise UserError(f"{path}: Core ML runs on macOS only; use the .pt or .onnx file that it was made from")
    units = tools.ComputeUnit.CPU_ONLY if device.lower() == "cpu" else tools.ComputeUnit.ALL
    try:
        with captured_output():
            model = tools.models.MLModel(str(path), compute_units=units)
    except Exception as error:  # coremltools' exceptions have no common base
        raise UserError(f"{path}: is not a package that Core ML can run ({first_line(error)})") from None
    return CoreMlModel(model, path, description)


def _check_manifest(path: Path) -> None:
    try:
        json.loads(read_regular_file(path / "Manifest.json"))
    except OSError as error:
        raise UserError(f"{path}: is not a valid Core ML package (Manifest.json: {error.strerror})") from None
    except ValueError as error:
        raise UserError(f"{path}: is not a valid Core ML package (Manifest.json: {first_line(error)})") from None


def read_description(tools: Any, path: Path) -> Description:
    """The description of a package, on any operating system.

    Args:
        tools: the package coremltools.
        path: the folder.

    Raises:
        UserError: it is incomplete, damaged, or of another program.
    """
    try:
        with captured_output():
            specification = tools.utils.load_spec(str(path))
        fields = specification.description.metadata.userDefined
        weights = read_regular_file(path / WEIGHTS)
    except Exception as error:  # coremltools' exceptions have no common base
        raise UserError(f"{path}: is not a valid Core ML package ({first_line(error)})") from None
    text = fields.get(_KEY, "")
    description = Description.from_json(text, path)
    if json.loads(text).get("sha256") != hashlib.sha256(weights).hexdigest():
        raise UserError(f"{path / WEIGHTS}: is damaged or was replaced, its digest is not that in the package")
    return description


def _import_tools(path: Path) -> Any:
    """Coremltools, without what it prints about libraries of macOS and versions of torch."""
    try:
        with captured_output() if "coremltools" not in sys.modules else contextlib.nullcontext():
            import coremltools
    except ImportError:
        raise UserError(
            f"{path}: Core ML packages need coremltools; install it with 'pip install coremltools'"
        ) from None
    return coremltools


class CoreMlModel(ExportedModel):
    """A package run by Core ML.

    Args:
        model: the `coremltools.models.MLModel`.
        path: the folder, for messages.
        description: what it takes and returns.
    """

    backend = "Core ML"

    def __init__(self, model: Any, path: Path, description: Description):
        self.path, self._model = path, model
        self._names = [name for name, _ in description.outputs]
        self._describe(description.input, description.outputs, description.metadata)

    def _run(self, images: np.ndarray) -> list[np.ndarray]:
        try:
            outputs = self._model.predict({"images": images})
            return [np.array(outputs[self._names[index]], np.float32) for index in self._output_indices]
        except Exception as error:  # coremltools' exceptions have no common base
            shape = "x".join(map(str, images.shape))
            raise UserError(f"{self.path}: Core ML fails on an input of {shape} ({first_line(error)})") from None


BACKENDS.register("coreml")(
    Backend(
        suffix=".mlpackage",
        export=export,
        load=load,
        package="coremltools",
        is_folder=True,
        has_free_sizes=False,
        platforms=("darwin",),
    )
)
