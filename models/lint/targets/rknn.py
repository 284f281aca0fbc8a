"""Target `rknn`: NPUs of Rockchip, by rknn-toolkit2.

Its documentation, `doc/RKNNToolKit2_OP_Support-v2.1.0.md` of github.com/airockchip/rknn-toolkit2, lists the ONNX
operators and marks those that are not supported. The release notes of 1.6.0 state the opsets 12 to 19. The toolkit is
not run here.
"""

from collections.abc import Iterator

from graftdet.models.graph.detection_model import DetectionModel
from graftdet.models.lint.targets.dry_export import DryExportError, OnnxNode, export_onnx, preferred_output
from graftdet.models.lint.targets.target import TARGETS, Finding, Target

OPSETS = 12, 19
SUPPORTED = frozenset(
    "Add And ArgMax ArgMin AveragePool BatchNormalization Cast Clip Concat Constant ConstantOfShape Conv "
    "ConvTranspose Cos DepthToSpace DequantizeLinear Div Dropout Elu Equal Erf Exp Expand EyeLike Flatten Floor "
    "Gather GatherElements Gemm GlobalAveragePool GlobalMaxPool Greater GreaterOrEqual GRU HardSigmoid HardSwish "
    "Identity If InstanceNormalization LayerNormalization LeakyRelu Less LessOrEqual Log LogSoftmax "
    "LpNormalization LRN LSTM MatMul Max MaxPool MaxRoiPool MaxUnpool MeanVarianceNormalization Min Mish Mod Mul "
    "Pad Pow PRelu QuantizeLinear ReduceMax ReduceMean ReduceMin ReduceSum Relu Reshape Resize ReverseSequence "
    "RoiAlign ScatterND Shape Sigmoid Sin Size Slice Softmax Softplus SpaceToDepth Split Sqrt Squeeze Sub Tanh "
    "Tile Transpose Unsqueeze Where".split()
)
"""Operators of the list that are not marked "Not Supported"."""
RESIZE_MODES = ("nearest", "linear")
HINTS = {
    "TopK": "use a head whose raw outputs can be exported, such as Detect",
    "Neg": "multiply by -1",
    "Abs": "write relu(x) + relu(-1 * x)",
    "Reciprocal": "divide 1 by it",
    "Sum": "add two maps at a time",
    "Einsum": "write it as matmul",
}


def find(model: DetectionModel, size: tuple[int, int]) -> Iterator[Finding]:
    """Operators that the documentation does not list as supported."""
    output, lowest = preferred_output(model, "raw", "split"), None
    for opset in OPSETS:
        try:
            export = export_onnx(model, size, opset, output)
            break
        except DryExportError as error:
            lowest = lowest or error
    else:
        yield from lowest.findings if lowest else ()
        return
    if lowest:
        for finding in lowest.findings:
            hint = f"--opset {opset}, which rknn-toolkit2 takes from version 1.6 on, has it"
            yield Finding(finding.row, finding.message, hint)
    for node in export.nodes:
        if node.operator not in SUPPORTED:
            where = f", with --output {output}" if node.row == len(model.model) - 1 else ""
            message = f"{node.operator} is not in the list of operators of rknn-toolkit2 2.1{where}"
            yield Finding(node.row, message, HINTS.get(node.operator, ""))
        elif node.operator == "Resize" and (mode := _text(node, "mode", "nearest")) not in RESIZE_MODES:
            message = f"Resize of mode {mode}; rknn-toolkit2 2.1 has {' and '.join(RESIZE_MODES)}"
            yield Finding(node.row, message, "use nearest or bilinear")


def _text(node: OnnxNode, attribute: str, default: str) -> str:
    value = node.attributes.get(attribute, default)
    return value.decode() if isinstance(value, bytes) else str(value)


TARGETS.register("rknn")(Target("RKNN", find))
