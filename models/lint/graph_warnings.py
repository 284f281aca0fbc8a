"""What can be built and is likely not meant: rows that nothing reads, levels and anchors that do not go together."""

from graftdet.models.graph.shape_inference import PROBE_SIZE
from graftdet.models.lint.propagation import Walk
from graftdet.models.spec.model_spec import ModelSpec, unused_rows
from graftdet.models.spec.row import IMAGE, Row, row_in


def advise(spec: ModelSpec, walk: Walk, problems: list[str]) -> list[str]:
    """Warnings, one line each; without those that may follow from `problems`: of rows where some `from` is wrong, of
    levels where anything is."""
    wrong = {row_in(line) for line in problems}
    misread = any("'from'" in problem or "has no row" in problem or "indices from" in problem for problem in problems)
    lines = [] if misread else _unused_rows(spec, wrong) + _read_twice(spec, wrong)
    if problems:
        return lines
    strides = [PROBE_SIZE / shape[1] for shape in walk.head_reads if isinstance(shape, tuple) and shape[1]]
    if len(strides) > 1:
        lines += _levels(spec, strides)
    if strides and isinstance(spec.anchors, list) and len(spec.anchors) == len(strides):
        lines += _anchors(spec, strides)
    return lines


def _unused_rows(spec: ModelSpec, wrong: set[int]) -> list[str]:
    """A line each; none where a row is `wrong` that may be the one that should read it."""
    rows, lines = spec.rows, []
    leads_on: set[int] = {rows[-1].index}
    for row in reversed(rows):
        if row.index in leads_on:
            leads_on.update(s for s in row.sources if s != IMAGE)
    for row in unused_rows(spec):
        reader = _who_could(rows, row)
        if wrong & {row.index, row.index + 1, len(rows) - 1} or (reader and reader[0].index in wrong):
            continue
        before = [r.index for r in rows[: row.index] if r.index not in leads_on and _leads_to(rows, r.index, row.index)]
        more = f", nor through it {_rows_text(before)}" if before else ""
        lines.append(f"{spec.where}, {row} {row.word}: is read by no row{more}{_hint(row, reader)}")
    return lines


def _leads_to(rows, start: int, end: int) -> bool:
    reached = {start}
    for row in rows[start + 1 : end + 1]:
        if reached.intersection(row.sources):
            reached.add(row.index)
    return end in reached


def _rows_text(indices) -> str:
    return ("row " if len(indices) == 1 else "rows ") + ", ".join(map(str, indices))


def _hint(row: Row, reader) -> str:
    if reader is None:
        return "; take it out, or read it"
    return f"; does row {reader[0].index} ({reader[0].word}), which reads {reader[1]}, mean {row.index}?"


def _who_could(rows, row: Row) -> tuple[Row, int] | None:
    """A later row that names a neighbour of `row` by its index, and may mean `row`; and that index."""
    for reader in rows[row.index + 1 :]:
        for source in reader.written_sources:
            if isinstance(source, int) and source >= 0 and abs(source - row.index) == 1:
                return reader, source
    return None


def _read_twice(spec: ModelSpec, wrong: set[int]) -> list[str]:
    lines = []
    for row in spec.rows:
        for source in [] if row.index in wrong else sorted({s for s in row.sources if row.sources.count(s) > 1}):
            lines.append(f"{spec.where}, {row} {row.word}: reads row {source} more than once")
    return lines


def levels_differ(walk: Walk) -> bool:
    """Whether the head reads levels of different sizes, in order."""
    sizes = [shape[1] for shape in walk.head_reads]
    return len(set(sizes)) == len(sizes) and sizes in (sorted(sizes), sorted(sizes, reverse=True))


def _levels(spec: ModelSpec, strides) -> list[str]:
    head = spec.rows[-1]
    listed = ", ".join(f"{s:g}" for s in strides)
    at = f"{spec.where}, {head} {head.word}"
    if len(set(strides)) < len(strides):
        return [f"{at}: two levels have the same stride ({listed}); expected a row of each size"]
    if sorted(strides) != strides and sorted(strides, reverse=True) != strides:
        in_order = [s for _, s in sorted(zip(strides, head.sources, strict=False))]
        return [f"{at}: levels out of order, strides {listed}; expected 'from' {in_order}"]
    return []


def _anchors(spec: ModelSpec, strides) -> list[str]:
    """Sizes of anchors beside the strides of their levels. A list from large to small is turned by the head."""
    sizes = [sum(w * h for w, h in zip(a[::2], a[1::2], strict=True)) / (len(a) // 2) for a in spec.anchors]
    sizes = [area**0.5 for area in sizes]
    at, lines = f"{spec.where}, anchors", []
    if sorted(sizes) != sizes and sorted(sizes, reverse=True) != sizes:
        shown = ", ".join(f"{size:.0f}" for size in sizes)
        lines.append(
            f"{at}: their mean sizes ({shown} pixels) neither grow nor shrink from level to level; expected an order"
        )
    ordered = zip(sorted(sizes), sorted(strides), strict=True)
    if all(size < 0.6 * stride for size, stride in ordered):
        lines.append(
            f"{at}: smaller than the cells of their levels; expected pixels, are these in units of the stride?"
        )
    return lines
