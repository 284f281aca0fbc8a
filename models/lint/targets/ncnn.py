"""Target `ncnn`: phones and small boards, by pnnx, which reads TorchScript.

The table is measured: modules of one operation each, traced by torch 2.13, were converted by pnnx 20261020, loaded by
ncnn of the same version and compared with torch. Operations that this table does not have may still fail: where pnnx
and ncnn are installed, the model is converted, run and compared, too.
"""

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from graftdet.models.backends import BACKENDS, ExportOptions
from graftdet.models.backends.receipt.verify import verify
from graftdet.models.backends.target_paths import installed_formats
from graftdet.models.backends.tracing.export_module import ExportModule
from graftdet.models.backends.tracing.ncnn_blocks import replace_for_ncnn
from graftdet.models.graph.detection_model import DetectionModel
from graftdet.models.lint.targets.dry_export import DryExportError, TorchNode, preferred_output, trace_torch
from graftdet.models.lint.targets.target import TARGETS, Finding, Target
from graftdet.utils.errors import UserError, first_line

VERSION = "pnnx 20261020"


@dataclass(frozen=True)
class Gap:
    """What is not converted.

    Attributes:
        operators: names of torch's operations, without `aten::`.
        form: which form of them; empty: every one.
        applies: whether a node has this form.
        hint: what can be done.
        is_wrong: whether it is converted, and computes other numbers.
    """

    operators: str
    form: str = ""
    applies: Callable[[TorchNode], bool] = lambda node: True
    hint: str = ""
    is_wrong: bool = False


def _has_step(node: TorchNode) -> bool:
    return node.constant(4) not in (None, 1)


def _takes_all_of_a_vector(node: TorchNode) -> bool:
    """Whether every element along the second of two axes is selected, which pnnx turns into unbind."""
    source = next(node.node.inputs())
    while source.node().kind() == "aten::slice":  # x[:, 0] is a slice of the first axis, then one element of the second
        source = next(source.node().inputs())
    sizes = source.type().sizes() or []
    return len(sizes) == 2 and node.constant(1) == 1 and _count_selects(source) >= sizes[1]


def _count_selects(value: Any) -> int:
    """How often an element of a tensor, or of a slice of it, is selected."""
    users = [use.user for use in value.uses()]
    slices = [_count_selects(next(user.outputs())) for user in users if user.kind() == "aten::slice"]
    return sum(user.kind() == "aten::select" for user in users) + sum(slices)


def _rank(node: TorchNode) -> int:
    sizes = next(node.node.inputs()).type().sizes()
    return len(sizes) if sizes else 0


GAPS = (
    Gap("topk sort argmax gather", hint="use a head whose raw outputs can be exported, such as Detect"),
    Gap("index_select index repeat_interleave masked_fill where triu tril"),
    Gap("gt lt ge le eq ne __and__ __or__ bitwise_not logical_not logical_and logical_or"),
    Gap("std var", hint="write the mean of squares"),
    Gap("threshold"),
    Gap("remainder", is_wrong=True),
    Gap("slice", "with a step", _has_step, "use a convolution of stride 2"),
    Gap("stack", "along the batch", lambda n: n.constant(1) == 0, "add the maps, or stack them along another axis"),
    Gap("unbind", "of a tensor with two axes", lambda n: _rank(n) == 2, "take slices of length 1"),
    Gap("select", "of every element of a tensor with two axes", _takes_all_of_a_vector, "take slices of length 1"),
    Gap("permute", "of more than five axes", lambda n: _rank(n) > 5, "use a convolution of stride 2, or PixelShuffle"),
)


def find(model: DetectionModel, size: tuple[int, int]) -> Iterator[Finding]:
    """Operations that pnnx does not convert, else what ncnn does with the converted model where both are installed."""
    options = ExportOptions(size, output=preferred_output(model, "raw", "split"))
    module = ExportModule(model, options)
    replace_for_ncnn(module)  # as the export does
    try:
        nodes = trace_torch(module, size)
    except DryExportError as error:
        yield from error.findings
        return
    found = list(_gaps(nodes))
    yield from found or _converted(model, options)


def _gaps(nodes: list[TorchNode]) -> Iterator[Finding]:
    for node in nodes:
        name = node.operator.removeprefix("aten::").rstrip("_") if node.operator.startswith("aten::") else ""
        for gap in GAPS:
            if name and name in [operator.rstrip("_") for operator in gap.operators.split()] and gap.applies(node):
                outcome = "computes other numbers, converted by" if gap.is_wrong else "is not converted by"
                yield Finding(node.row, f"{' '.join(filter(None, (name, gap.form)))} {outcome} {VERSION}", gap.hint)


def _converted(model: DetectionModel, options: ExportOptions) -> Iterator[Finding]:
    """What comes of a real conversion; nothing where the format or its packages are not here."""
    if "ncnn" not in installed_formats():
        return
    backend = BACKENDS["ncnn"]
    with tempfile.TemporaryDirectory() as folder:
        try:
            path = backend.export(model, Path(folder) / f"model{backend.suffix}", options)
            verify(model, backend.load(path), path, options)
        except UserError as error:
            yield Finding(None, first_line(getattr(error, "reason", error)))


TARGETS.register("ncnn")(Target("ncnn", find))
