"""What can be built and is probably not meant: rows that no row reads, levels and anchors that do not go together."""

from collections.abc import Collection

from graftdet.models.graph.shape_inference import PROBE_SIZE
from graftdet.models.heads import HEADS
from graftdet.models.lint.propagation import Propagation
from graftdet.models.spec.model_spec import ModelSpec, unused_rows
from graftdet.models.spec.problems import Problem
from graftdet.models.spec.row import IMAGE, Row

_SOURCE_RULES = frozenset(("row-source", "source-misfit", "stale-indices"))


def graph_warnings(spec: ModelSpec, found: Propagation, problems: Collection[Problem]) -> list[Problem]:
    """Find what is probably not meant.

    Args:
        spec: the model.
        found: the pass over its rows.
        problems: its errors. A warning that may follow from them is omitted: about rows where some source is wrong,
            about levels where anything is.
    """
    wrong = {problem.row for problem in problems if problem.row is not None}
    misread = any(problem.rule in _SOURCE_RULES for problem in problems)
    warnings = [] if misread else _unused_rows(spec, wrong) + _duplicate_sources(spec, wrong)
    if problems:
        return warnings
    strides = [PROBE_SIZE / shape[1] for shape in found.levels if isinstance(shape, tuple) and shape[1]]
    last = spec.rows[-1].module
    if last in HEADS and HEADS[last].has_auxiliary_levels:
        strides = strides[: len(strides) // 2]
    if len(strides) > 1:
        warnings += _level_strides(spec, strides)
    if strides and isinstance(spec.anchors, list) and len(spec.anchors) == len(strides):
        warnings += _anchor_sizes(spec, strides)
    return warnings


def levels_differ(found: Propagation) -> bool:
    """Whether the head reads levels of different sizes, in order."""
    sizes = [shape[1] for shape in found.levels]
    return len(set(sizes)) == len(sizes) and sizes in (sorted(sizes), sorted(sizes, reverse=True))


def _unused_rows(spec: ModelSpec, wrong: set[int]) -> list[Problem]:
    """One warning per row that no row reads; none where a row is `wrong` that may be the one that should read it."""
    rows, warnings = spec.rows, []
    reaches_end: set[int] = {rows[-1].index}
    for row in reversed(rows):
        if row.index in reaches_end:
            reaches_end.update(s for s in row.sources if s != IMAGE)
    for row in unused_rows(spec):
        reader = _possible_reader(rows, row)
        if wrong & {row.index, row.index + 1, len(rows) - 1} or (reader and reader[0].index in wrong):
            continue
        through = [
            r.index for r in rows[: row.index] if r.index not in reaches_end and _leads_to(rows, r.index, row.index)
        ]
        message = "is read by no row"
        if through:
            are = "is row" if len(through) == 1 else "are rows"
            message += f", and neither {are} {', '.join(map(str, through))} but by it"
        hint = "remove it, or read it"
        if reader:
            hint = f"does row {reader[0].index} ({reader[0].module}), which reads {reader[1]}, mean {row.index}?"
        warnings.append(spec.problem("unused-row", message, hint, row, severity="warning"))
    return warnings


def _leads_to(rows, start: int, end: int) -> bool:
    reached = {start}
    for row in rows[start + 1 : end + 1]:
        if reached.intersection(row.sources):
            reached.add(row.index)
    return end in reached


def _possible_reader(rows, row: Row) -> tuple[Row, int] | None:
    """A later row that names a neighbor of `row` by its index, and may mean `row`; and that index."""
    for reader in rows[row.index + 1 :]:
        for source in reader.written_sources:
            if isinstance(source, int) and source >= 0 and abs(source - row.index) == 1:
                return reader, source
    return None


def _duplicate_sources(spec: ModelSpec, wrong: set[int]) -> list[Problem]:
    return [
        spec.problem("duplicate-source", f"reads row {source} more than once", "", row, "from", severity="warning")
        for row in spec.rows
        if row.index not in wrong
        for source in sorted({s for s in row.sources if row.sources.count(s) > 1})
    ]


def _level_strides(spec: ModelSpec, strides: list[float]) -> list[Problem]:
    head = spec.rows[-1]
    listed = ", ".join(f"{s:g}" for s in strides)
    if len(set(strides)) < len(strides):
        message, hint = f"two levels have the same stride ({listed})", "expected one row per size"
    elif sorted(strides) != strides and sorted(strides, reverse=True) != strides:
        in_order = [s for _, s in sorted(zip(strides, head.sources, strict=False))]
        message, hint = f"levels out of order, strides {listed}", f"expected 'from' {in_order}"
    else:
        return []
    return [spec.problem("level-strides", message, hint, head, "from", severity="warning")]


def _anchor_sizes(spec: ModelSpec, strides: list[float]) -> list[Problem]:
    """Sizes of anchors beside the strides of their levels. A list from large to small is reversed by the head."""
    areas = [sum(w * h for w, h in zip(a[::2], a[1::2], strict=True)) / (len(a) // 2) for a in spec.anchors]
    sizes = [area**0.5 for area in areas]
    found = []
    if sorted(sizes) != sizes and sorted(sizes, reverse=True) != sizes:
        shown = ", ".join(f"{size:.0f}" for size in sizes)
        message = f"anchors: their mean sizes ({shown} pixels) neither increase nor decrease from level to level"
        found.append((message, "sort the levels by size"))
    if all(size < 0.6 * stride for size, stride in zip(sorted(sizes), sorted(strides), strict=True)):
        message = "anchors: smaller than the cells of their levels; expected pixels"
        found.append((message, "are these in units of the stride?"))
    return [spec.problem("anchor-sizes", *texts, path=("anchors",), severity="warning") for texts in found]
