"""Target `opencv`: the dnn module of OpenCV 4.5.5 to 5.

The table is measured: modules of one operation each, exported as export.py does at opset 17, were loaded by
opencv-python 4.5.5, 4.6.0, 4.8.1, 4.10.0, 4.12.0 and 5.0.0, and compared with torch. What another combination of
operations does, the installed OpenCV shows: it loads the file and is compared with torch, too.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import torch

from graftdet.models.backends import ExportOptions
from graftdet.models.backends.receipt.verify import TOLERANCE, noise_images, relative_difference
from graftdet.models.backends.tracing.export_module import ExportModule
from graftdet.models.graph.detection_model import DetectionModel
from graftdet.models.lint.targets.dry_export import DryExportError, DryOnnx, OnnxNode, export_onnx, export_rows
from graftdet.models.lint.targets.target import TARGETS, Finding, Target
from graftdet.utils.errors import first_line
from graftdet.utils.images.io import silence_opencv

FIRST, TO_4_6 = "version 4.5.5", "versions 4.5.5 and 4.6"
TO_4_8, TO_4_10, TO_4_12 = (f"versions 4.5.5 to {last}" for last in ("4.8.1", "4.10", "4.12"))


@dataclass(frozen=True)
class Gap:
    """What some versions do not read.

    Attributes:
        operators: ONNX operators.
        versions: the versions that were seen to fail.
        form: which form of the operator, with an article or preposition; empty: every one.
        applies: whether a node has this form.
        is_wrong: whether it is read and computes other numbers.
        hint: what can be done.
    """

    operators: str
    versions: str
    form: str = ""
    applies: Callable[[OnnxNode], bool] = lambda node: True
    is_wrong: bool = False
    hint: str = ""


def _has_input(index: int) -> Callable[[OnnxNode], bool]:
    return lambda node: len(node.inputs) > index and bool(node.inputs[index])


def _axes(node: OnnxNode) -> list[int]:
    return node.ints("axes", 1)


def _is_inner_reduction(node: OnnxNode) -> bool:
    """Whether a reduction of a map (B, C, H, W) leaves out the last axis."""
    return bool(_axes(node)) and not {-1, 3} & set(_axes(node))


def _tiles_pixels(node: OnnxNode) -> bool:
    repeats = node.ints("repeats", 1)
    return len(repeats) != 4 or any(count != 1 for count in repeats[2:])


REDUCTIONS = "ReduceSum ReduceMean ReduceMax ReduceMin ReduceL2 ReduceProd"
GAPS = (
    Gap("Clip", TO_4_6, hint="use ReLU or SiLU in place of ReLU6, or a newer OpenCV"),
    Gap("ReduceSum Squeeze", TO_4_6, "with axes as an input (opset 13)", _has_input(1), hint="export with --opset 12"),
    Gap("Unsqueeze", TO_4_12, "of several axes", lambda n: len(_axes(n)) > 1, hint="use keepdim=True before it"),
    Gap("Unsqueeze", TO_4_6, "of an axis counted from the end", lambda n: min(_axes(n), default=0) < 0),
    Gap("LayerNormalization Where GreaterOrEqual", TO_4_6),
    Gap("Not", TO_4_6, is_wrong=True),
    Gap("Gather", TO_4_6, "of several indices", lambda n: n.constants[1] is not None and n.constants[1].size > 1),
    Gap(
        "Pad",
        TO_4_6,
        "without a value",
        lambda n: not _has_input(2)(n),
        hint="use the padding of a convolution or pool",
    ),
    Gap("Conv", TO_4_6, "with weights that depend on the image", lambda n: n.constants[1] is None),
    Gap("Tile", TO_4_6),
    Gap("Tile", "versions 4.8.1 to 4.12", "along rows or columns", _tiles_pixels, is_wrong=True, hint="use Upsample"),
    Gap("GatherElements Einsum", TO_4_8),
    Gap("TopK", TO_4_10, hint="use a head without it, such as Detect, or OpenCV 4.12 or newer"),
    Gap("GridSample Trilu And Or", TO_4_12),
    Gap("Slice", TO_4_12, "with a negative step", lambda n: min(n.ints("steps", 4), default=1) < 0),
    Gap("Resize", TO_4_12, "of mode cubic", lambda n: n.attributes.get("mode") == b"cubic", hint="use bilinear"),
    Gap("Resize", FIRST, "to a size", _has_input(3), hint="give a scale factor"),
    Gap("ReduceMin ReduceL2 ReduceProd Reciprocal Sign DepthToSpace", FIRST),
    Gap(REDUCTIONS, "version 4.8.1", "over axes without the last", _is_inner_reduction, is_wrong=True),
    Gap("CumSum", "version 4.8.1", is_wrong=True),
)


def find(model: DetectionModel, size: tuple[int, int]) -> Iterator[Finding]:
    """Nodes that some OpenCV does not read, and what the installed one does with the file."""
    try:
        export = export_onnx(model, size, ExportOptions().opset, "decoded")
    except DryExportError as error:
        yield from error.findings
        return
    for node in export.nodes:
        for gap in GAPS:
            if node.operator in gap.operators.split() and gap.applies(node):
                several = gap.versions.startswith("versions")
                verb = "compute" if gap.is_wrong else "do not read"
                verb = verb if several else verb.replace("do ", "does ").replace("compute", "computes")
                verb += " other numbers than torch for" * gap.is_wrong
                what = " ".join(filter(None, (node.operator, gap.form)))
                yield Finding(node.row, f"{gap.versions} {verb} {what}", gap.hint)
    yield from _installed(model, size, export)


def _installed(model: DetectionModel, size: tuple[int, int], export: DryOnnx) -> Iterator[Finding]:
    """What the installed OpenCV does with the file; where it fails, with each row alone."""
    images = noise_images(1, size, model.channels)
    module = ExportModule(model, ExportOptions(size, output="decoded"))
    with torch.inference_mode():
        expected = module(torch.from_numpy(images)).numpy()
    problem = _run(export.data, {"images": images}, {module.output_names()[0]: expected})
    if not problem:
        return
    is_row = False
    for row in export_rows(model, torch.from_numpy(images), ExportOptions().opset):
        inputs = {f"in{index}": array for index, array in enumerate(row.inputs)}
        outputs = {f"out{index}": array for index, array in enumerate(row.outputs)}
        if not row.error and (reason := _run(row.data, inputs, outputs)):
            is_row = True
            yield Finding(row.row, reason)
    if not is_row:
        yield Finding(None, problem)


def _run(data: bytes, inputs: dict[str, np.ndarray], outputs: dict[str, np.ndarray]) -> str:
    """What is wrong with what the installed OpenCV computes, compared with the expected outputs; empty: nothing."""
    name = f"version {cv2.__version__}, which is installed,"
    silence_opencv()
    try:
        net = cv2.dnn.readNetFromONNX(np.frombuffer(data, np.uint8))
        for key, array in inputs.items():
            net.setInput(array, key)
        found = net.forward(list(outputs))
    except cv2.error as error:
        return f"{name} does not run it: {first_line(error)}"
    worst = max(map(relative_difference, found, outputs.values()))
    return (
        "" if worst <= TOLERANCE else f"{name} computes other numbers than torch, largest |a-b|/max(1,|b|) {worst:.1e}"
    )


TARGETS.register("opencv")(Target("OpenCV", find))
