"""`python -m models summary FILE`: one row per layer of a model YAML or of a weights file, and totals."""

import torch
from torch.func import functional_call
from torch.utils.flop_counter import FlopCounterMode

from graftdet.models.analysis.row_summary import RowSummary, totals
from graftdet.models.graph.detection_model import DetectionModel, flat_maps
from graftdet.models.graph.shape_inference import evaluating
from graftdet.models.spec.row import IMAGE
from graftdet.utils.errors import UserError
from graftdet.utils.tables import text_table
from graftdet.utils.text import counted


def summarize(model: DetectionModel, size: tuple[int, int] = (640, 640)) -> list[RowSummary]:
    """Run `model` once on tensors without data and describe each row.

    Args:
        model: Is not changed.
        size: (height, width) of the image.

    Raises:
        UserError: If the model cannot run at that size.
    """
    rows = []
    with torch.no_grad(), evaluating(model):
        outputs = []
        image = torch.zeros(1, model.channels, *size, device="meta")
        for row, layer, call in zip(model.spec.rows, model.model, model.block_calls, strict=True):
            inputs = [image if s == IMAGE else outputs[s] for s in row.sources]
            if layer is model.head:
                inputs = flat_maps(inputs)
            output, macs = _run(layer, inputs if row.joined or layer is model.head else inputs[0], row, size)
            outputs.append(output)
            maps = output if isinstance(output, list) else [output]
            parameters = list(layer.parameters())
            rows.append(
                RowSummary(
                    row.index,
                    row.name or "",
                    row.sources,
                    row.number,
                    row.module,
                    _describe(call),
                    tuple(tuple(m.shape[1:]) for m in maps),
                    sum(p.numel() for p in parameters),
                    sum(p.numel() for p in parameters if not p.requires_grad),
                    macs,
                    model.spec.depth_multiple,
                )
            )
    return rows


def _run(layer, inputs, row, size):
    """Outputs of a row without data, and its multiply-adds. A block that needs data runs on zeros."""
    norm_macs, hooks = _count_norms(layer)
    with FlopCounterMode(display=False) as counter:
        try:
            meta = {n: t.to("meta") for n, t in [*layer.named_parameters(), *layer.named_buffers()]}
            output = functional_call(layer, meta, (inputs,))
        except Exception:
            output = None
    if output is None:
        norm_macs.clear()
        with FlopCounterMode(display=False) as counter:
            try:
                output = layer(_on_cpu(inputs))
            except Exception as error:
                raise UserError(f"{row} {row.module}: cannot run at {size[1]}x{size[0]}: {error}") from error
    for hook in hooks:
        hook.remove()
    if isinstance(output, dict):  # a head of two branches
        output = [y for raw in output.values() for y in raw]
    output = [o.to("meta") for o in output] if isinstance(output, (list, tuple)) else output.to("meta")
    return output, counter.get_total_flops() // 2 + sum(norm_macs)


def _count_norms(layer):
    """Hooks that count the multiply-adds of normalization layers: four per element, as in published figures."""
    counts = []

    def count(module, inputs, output):
        counts.append(4 * output.numel())

    layers = [m for m in layer.modules() if "Norm" in type(m).__name__ and not list(m.children())]
    return counts, [m.register_forward_hook(count) for m in layers]


def _on_cpu(inputs):
    if isinstance(inputs, list):
        return [_on_cpu(i) for i in inputs]
    return torch.zeros(inputs.shape)


def _describe(call) -> str:
    """The constructor arguments, without spaces inside values."""
    shown = [str(a) for a in call.args] + [f"{k}={v}" for k, v in call.kwargs.items()]
    return ", ".join(shown).replace(" ", "").replace(",", ", ")


def summary_text(model: DetectionModel, size: tuple[int, int] = (640, 640), times: list[float] | None = None) -> str:
    """Return the table of all rows and the totals.

    Args:
        model: Is not changed.
        size: (height, width) of the image.
        times: Milliseconds per row; adds columns with the time and its percentage.
    """
    rows = summarize(model, size)
    lines = []
    for r in rows:
        source = ",".join(map(str, r.sources))
        shape = " ".join("x".join(map(str, s)) for s in r.shapes)
        args = r.args if len(r.args) <= 48 else r.args[:45] + "..."
        lines.append(
            [
                str(r.index),
                r.name,
                source,
                r.module + r.repeats,
                args,
                shape,
                f"{r.params:,}",
                f"{r.macs / 1e6:,.2f}",
            ]
        )
    header, right = ["", "name", "from", "module", "args", "output", "params", "MMACs"], 2
    if times:
        header, right = [*header, "ms", "%"], 4
        lines = [[*line, f"{ms:.2f}", f"{100 * ms / sum(times):.1f}"] for line, ms in zip(lines, times, strict=True)]
    if not any(line[1] for line in lines):
        header, lines = [header[0], *header[2:]], [[line[0], *line[2:]] for line in lines]
    t = totals(rows)
    unused = f" ({t['unused']:,} of them unused)" if t["unused"] else ""
    return (
        text_table(header, lines, right=(0, *range(len(header) - right, len(header))))
        + f"\n{model.spec.label}: {counted(len(rows), 'row')}, {t['params']:,} parameters{unused}, "
        + f"{t['macs'] / 1e9:.2f} GMACs = {t['flops'] / 1e9:.2f} GFLOPs at {size[1]}x{size[0]}, "
        + f"strides {', '.join(f'{s:g}' for s in model.head.strides)}"
        + (f"; {sum(times):.1f} ms per image, fused, float32 (sum of the rows' medians)" if times else "")
    )
