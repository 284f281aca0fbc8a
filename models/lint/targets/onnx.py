"""Target `onnx`: the export itself, at the default opset, and onnxruntime where it is installed."""

from collections.abc import Iterator

from graftdet.models.backends import ExportOptions
from graftdet.models.graph.detection_model import DetectionModel
from graftdet.models.lint.targets.dry_export import DryExportError, DryOnnx, export_onnx
from graftdet.models.lint.targets.target import TARGETS, Finding, Target
from graftdet.utils.errors import first_line


def find(model: DetectionModel, size: tuple[int, int]) -> Iterator[Finding]:
    """Rows that torch cannot export, and what onnxruntime does not open."""
    try:
        export = export_onnx(model, size, ExportOptions().opset, "decoded")
    except DryExportError as error:
        yield from error.findings
        return
    try:
        import onnxruntime
    except ImportError:
        return
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 4
    try:
        onnxruntime.InferenceSession(export.data, settings, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions have no common base
        message = f"onnxruntime {onnxruntime.__version__} does not open the file: {first_line(error)}"
        yield Finding(row_named_in(str(error), export), message)


def row_named_in(text: str, export: DryOnnx) -> int | None:
    """The row of the node whose name stands in a message of a runtime; None where no name does."""
    named = [node for node in export.nodes if node.name and node.name in text]
    return max(named, key=lambda node: len(node.name)).row if named else None


TARGETS.register("onnx")(Target("ONNX", find))
