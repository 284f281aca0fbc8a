"""ncnn, for phones and small boards: a folder with `model.ncnn.param`, `model.ncnn.bin` and `metadata.json`.

The model is traced by torch and converted by pnnx; through ONNX, outputs may get another shape. A file takes one image
of a fixed size, as `in0`, and returns `out0`, `out1`, ..., the names that programs for files of pnnx expect. ncnn files
have no metadata, so these are in the JSON, with a digest of both files: ncnn does not check what it reads.
"""

import hashlib
import math
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from graftdet.models.backends import BACKENDS, Backend, ExportError, ExportOptions, check_output
from graftdet.models.backends.exported_model import ExportedModel, thread_limit
from graftdet.models.backends.layouts.description import Description, extra
from graftdet.models.backends.limits.file_checks import check_cpu_only
from graftdet.models.backends.limits.size_limits import MAX_OUTPUT
from graftdet.models.backends.metadata import parse_value
from graftdet.utils.errors import UserError, first_line
from graftdet.utils.files import read_regular_file, refuse_lfs_pointer, write_atomically, write_errors
from graftdet.utils.processes.native_output import captured_output

PARAM, BIN, DESCRIPTION = "model.ncnn.param", "model.ncnn.bin", "metadata.json"
_MAGIC = "7767517"
_WEIGHT_COUNTS = {"InnerProduct": "2", **dict.fromkeys(("Convolution", "ConvolutionDepthWise", "Deconvolution"), "6")}
"""Layer -> the parameter that states the number of its weights."""


def export(model: Any, path: str | Path, options: ExportOptions) -> Path:
    """Write a model as a folder for ncnn, with weights in float32.

    Args:
        model: a `DetectionModel`; unchanged.
        path: the folder to write.
        options: see `ExportOptions`.

    Returns:
        The path.

    Raises:
        ExportError: the model cannot be traced, or has an operation that ncnn lacks.
        UserError: pnnx or ncnn are not installed, invalid options, or the files cannot be written.
    """
    import torch

    from graftdet.models.backends.tracing.describe import describe
    from graftdet.models.backends.tracing.export_module import ExportModule
    from graftdet.models.backends.tracing.ncnn_blocks import replace_for_ncnn

    path = Path(path)
    _import_ncnn(path)
    converter = _pnnx(path)
    check_output(model, options, "ncnn")
    module = ExportModule(model, options)
    replace_for_ncnn(module)
    shape = [1, model.channels, *options.size]
    with write_errors(path), tempfile.TemporaryDirectory(prefix="ncnn-") as folder:
        try:
            with warnings.catch_warnings(), torch.inference_mode():
                warnings.simplefilter("ignore")
                description = describe(module, model, options)
                traced = torch.jit.trace(module, torch.zeros(shape), check_trace=False)
        except Exception as error:  # tracing raises many types
            raise ExportError(path, f"the model cannot be traced: {first_line(error)}") from error
        torch.jit.save(traced, Path(folder) / "model.pt")
        command = [converter, "model.pt", f"inputshape={str(shape).replace(' ', '')}", "fp16=0"]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", cwd=folder)
        files = {name: Path(folder) / name for name in (PARAM, BIN)}
        if done.returncode or not all(file.is_file() for file in files.values()):
            lines = (done.stderr or done.stdout).strip().splitlines()
            raise ExportError(path, f"pnnx cannot convert the model: {lines[-1] if lines else done.returncode}")
        _try(files[PARAM], files[BIN], shape, len(description.outputs), path)
        contents = {name: file.read_bytes() for name, file in files.items()}
    blobs = {"input": "in0", "outputs": [f"out{index}" for index in range(len(description.outputs))]}
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in contents.items()}
    for name, data in contents.items():
        write_atomically(path / name, data)
    write_atomically(path / DESCRIPTION, description.to_json(blobs=blobs, sha256=digests))
    return path


def load(path: str | Path, device: str = "cpu", half: bool = False) -> "NcnnModel":
    """Open an ncnn folder of this project, on the CPU.

    Args:
        path: the folder, or its `.param` file.
        device: 'cpu', 'mps' or ''; all mean the CPU.
        half: no effect; the file is computed in float32.

    Raises:
        UserError: ncnn is not installed; a file is missing, damaged, or of another program.
    """
    path = Path(path)
    ncnn = _import_ncnn(path)
    check_cpu_only(device, "ncnn files")
    folder = path.parent if path.name.lower().endswith(".ncnn.param") else path
    description = _checked(folder)
    try:
        net = _open(ncnn, folder / PARAM, folder / BIN)
    except RuntimeError as error:
        raise UserError(f"{folder}: ncnn cannot run the model: {error}") from None
    return NcnnModel(ncnn, net, folder, description)


def _checked(folder: Path) -> Description:
    """The description of a folder whose files are those that were exported. Raises `UserError` for any other."""
    contents = {}
    for name in (DESCRIPTION, PARAM, BIN):
        try:
            contents[name] = read_regular_file(folder / name)
        except OSError:
            missing = folder if not folder.is_dir() else folder / name
            raise UserError(
                f"{missing}: no such {'folder' if missing is folder else 'file'}, or not readable"
            ) from None
        refuse_lfs_pointer(folder / name, contents[name][:64])
    description = Description.from_json(contents[DESCRIPTION], folder / DESCRIPTION)
    digests = extra(contents[DESCRIPTION], "sha256")
    for name in (PARAM, BIN):
        if hashlib.sha256(contents[name]).hexdigest() != digests.get(name):
            raise UserError(f"{folder / name}: is damaged or was replaced, its digest is not that in {DESCRIPTION}")
    check_graph(folder / PARAM, contents[PARAM], len(contents[BIN]))
    return description


def check_graph(path: Path, data: bytes, num_bytes: int) -> None:
    """Raise `UserError` for a `.param` file that is incomplete or needs more weights than its `.bin` holds.

    Args:
        path: the file, for messages.
        data: its content.
        num_bytes: size of the `.bin`.
    """
    lines = data.decode(errors="replace").split("\n")
    rows = [line.split() for line in lines[2:] if line.strip()]
    counts = lines[1].split() if len(lines) > 1 else []
    if lines[0].strip() != _MAGIC or counts[:1] != [str(len(rows))] or any(len(row) < 4 for row in rows):
        raise UserError(f"{path}: is not a valid ncnn graph")
    needed = 0
    for kind, _, num_inputs, num_outputs, *rest in rows:
        try:
            parameters = dict(one.split("=", 1) for one in rest[int(num_inputs) + int(num_outputs) :])
            needed += _num_weights(kind, parameters)
        except ValueError:
            raise UserError(f"{path}: is not a valid ncnn graph") from None
    if not 0 <= needed <= min(num_bytes, MAX_OUTPUT):  # at least a byte per weight
        raise UserError(f"{path}: needs {needed:.3g} weights, but its {BIN} has {num_bytes} bytes")


def _num_weights(kind: str, parameters: dict[str, str]) -> int:
    if kind == "MemoryData":
        return math.prod(max(int(parameters.get(key, 1)), 1) for key in ("0", "1", "11", "2"))
    return int(parameters.get(_WEIGHT_COUNTS.get(kind, ""), 0))


def _import_ncnn(path: Path) -> Any:
    try:
        import ncnn
    except ImportError:
        raise UserError(f"{path}: ncnn files need ncnn; install it with 'pip install ncnn'") from None
    return ncnn


def _pnnx(path: Path) -> str:
    """The converter, a program that the package pnnx contains."""
    try:
        from pnnx import EXEC_PATH
    except ImportError:
        raise UserError(f"{path}: ncnn files are converted by pnnx; install it with 'pip install pnnx'") from None
    return EXEC_PATH


_TRIAL = """
import sys, numpy, ncnn
param, weights, count, *shape = sys.argv[1:]
net = ncnn.Net()
net.opt.use_vulkan_compute = False
if net.load_param(param) or net.load_model(weights):
    sys.exit(1)
extractor = net.create_extractor()
image = numpy.zeros([int(side) for side in shape], numpy.float32)  # ncnn does not copy it
extractor.input("in0", ncnn.Mat(image))
if any(extractor.extract(f"out{index}")[0] for index in range(int(count))):
    sys.exit("an operation fails when it is run")
"""


def _try(param: Path, weights: Path, shape: list[int], num_outputs: int, path: Path) -> None:
    """Run a new graph once in a process of its own: some graphs that pnnx writes crash ncnn. Raises `ExportError`."""
    command = [sys.executable, "-P", "-c", _TRIAL, str(param), str(weights), str(num_outputs), *map(str, shape[1:])]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace")
    if done.returncode:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        status = f"ends with status {done.returncode}"
        raise ExportError(path, f"ncnn cannot run the model: {lines[0] if lines and done.returncode > 0 else status}")


def _open(ncnn: Any, param: Path, weights: Path) -> Any:
    """The network of two files. Raises `RuntimeError` with what ncnn prints."""
    net = ncnn.Net()
    net.opt.num_threads = thread_limit() or net.opt.num_threads
    net.opt.use_vulkan_compute = False
    net.opt.use_bf16_storage = False
    net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = False
    with captured_output() as lines:
        failed = net.load_param(str(param)) or net.load_model(str(weights))
    if failed:
        raise RuntimeError(lines[0] if lines else "no reason given")
    return net


class NcnnModel(ExportedModel):
    """An exported folder run by ncnn on the CPU, one image per call.

    Args:
        ncnn: the package.
        net: the network.
        path: the folder, for messages.
        description: what it takes and returns.
    """

    backend = "ncnn"

    def __init__(self, ncnn: Any, net: Any, path: Path, description: Description):
        self.path, self._ncnn, self._net, self._shapes = path, ncnn, net, description.outputs
        self._describe(description.input, description.outputs, description.metadata)
        if self.fixed_batch != 1 or not self.fixed_size:
            raise UserError(f"{path}: expected an input of one image of a fixed size, found {description.input}")
        if list(self.fixed_size) != parse_value(self.metadata.get("size")):
            raise UserError(
                f"{path}: {DESCRIPTION} states two sizes, {description.input} and {self.metadata.get('size')}"
            )
        if any(None in shape for _, shape in description.outputs):
            raise UserError(f"{path}: expected outputs of fixed sizes, found {description.outputs}")

    def _run(self, images: np.ndarray) -> list[np.ndarray]:
        extractor = self._net.create_extractor()
        image = np.ascontiguousarray(images[0])
        failed, outputs = extractor.input("in0", self._ncnn.Mat(image)), []
        for index in self._output_indices:
            if failed:
                break
            failed, output = extractor.extract(f"out{index}")
            outputs += [] if failed else [np.array(output)]  # the memory of a failed output does not exist
        if failed:
            raise UserError(f"{self.path}: ncnn fails on an image; is there enough memory?")
        for index, output in enumerate(outputs):
            name, shape = self._shapes[self._output_indices[index]]
            if output.size != math.prod(shape):
                raise UserError(f"{self.path}: its output {name} is {list(output.shape)}, expected {shape}")
            outputs[index] = output.reshape(shape)
        return outputs


BACKENDS.register("ncnn")(
    Backend(
        suffix="_ncnn_model",
        export=export,
        load=load,
        package="ncnn",
        converter="pnnx",
        is_folder=True,
        members=(".ncnn.param",),
        has_free_sizes=False,
        has_batches=False,
    )
)
