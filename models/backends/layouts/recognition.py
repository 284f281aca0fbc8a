"""Recognize the layout of a file that this project did not write, from its metadata and its output for one image.

Exporters of detectors write outputs of the same shapes with different meanings. So the numbers are examined, too: class
scores lie in 0..1, decoded boxes follow the cells of the grid that predicts them. What is not recognized is refused.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from graftdet.models.backends.layouts.grid import Grid, correlation, find_grid
from graftdet.models.backends.layouts.output_layout import OutputLayout
from graftdet.models.backends.metadata import parse_value
from graftdet.utils.text import counted

MIN_CORRELATION = 0.8  # of box centers with the cells: 0.95 and more for decoded boxes, 0.2 and less for others
MAX_DETECTIONS = 1000  # rows of an end-to-end output
NORMALIZED_MAX = 2.0  # boxes reach a little beyond the image


class UnknownLayout(ValueError):
    """The output is not one of a known layout; the message states what was found."""


def choose_output(outputs: Sequence[tuple[str, Sequence[int | None]]]) -> int:
    """The index of the output that holds the predictions.

    Args:
        outputs: name and shape of each output of the file.

    Raises:
        UnknownLayout: there are several. Raw maps (B, anchors, H, W, columns) beside one decoded output are ignored.
    """
    decoded = [index for index, (_, shape) in enumerate(outputs) if len(shape) in (2, 3)]
    raw = sum(len(shape) == 5 for _, shape in outputs)
    if len(outputs) == 1 or (len(decoded) == 1 and len(decoded) + raw == len(outputs)):
        return decoded[0] if decoded else 0
    listed = ", ".join(f"{name} {describe_shape(shape)}" for name, shape in outputs[:6])
    more = f" and {len(outputs) - 6} more" if len(outputs) > 6 else ""
    raise UnknownLayout(
        f"has {counted(len(outputs), 'output')} ({listed}{more}), as detectors of other families do; "
        "expected one output with decoded boxes and scores in the layout of YOLOv5 or YOLOv8"
    )


def recognize(
    output: np.ndarray, size: tuple[int, int], num_names: int | None, metadata: Mapping[str, str]
) -> OutputLayout:
    """Recognize the layout of an output.

    Args:
        output: the output for one image of noise, (B, N, columns), (B, columns, N) or (N, columns).
        size: (height, width) of that image.
        num_names: number of class names in the metadata; None where there are none.
        metadata: the metadata of the file.

    Raises:
        UnknownLayout: it is none that can be read.
    """
    task = metadata.get("task", "detect")
    shape = describe_shape(output.shape)
    if task != "detect":
        raise UnknownLayout(f"is a model for the task '{task}' with an output {shape}; expected one for 'detect'")
    output = output.astype(np.float32)
    if not np.isfinite(output).all():
        raise UnknownLayout(f"its output {shape} contains NaN or infinity")
    if output.ndim == 2:
        return _end_to_end_2d(output)
    if output.ndim != 3:
        hint = "; these are raw maps of the head: export with the decoding of boxes" if output.ndim > 3 else ""
        raise UnknownLayout(f"its output is {shape}, expected (batch, predictions, columns){hint}")
    problems = []
    for transposed in _orientations(output.shape, size, num_names):
        layout = OutputLayout(output.shape[1 if transposed else 2], transposed=transposed)
        try:
            return _examine_columns(layout.to_rows(output[:1], 1)[0], layout, size, num_names, metadata, shape)
        except UnknownLayout as problem:
            problems.append(problem)
    raise problems[0]


def describe_shape(shape: Sequence[int | None]) -> str:
    """A shape as (1, ?, 85)."""
    return f"({', '.join('?' if side is None else str(side) for side in shape)})"


def _orientations(shape: Sequence[int], size: tuple[int, int], num_names: int | None) -> list[bool]:
    """Whether the output is transposed: the columns fit the class names, or the rows the cells of a grid.

    Both answers, the more likely one first, where it cannot be seen from the shape.
    """
    _, first, last = shape
    if num_names is not None:
        expected = (4 + num_names, 5 + num_names, 6)
        fits = first in expected, last in expected
        if not any(fits):
            raise UnknownLayout(
                f"its output {describe_shape(shape)} does not fit its {counted(num_names, 'class name')}: "
                f"expected {expected[0]} or {expected[1]} columns; masks, keypoints and angles are not supported"
            )
    else:
        fits = bool(find_grid(last, size)), bool(find_grid(first, size))
    if max(first, last) >= 4 * min(first, last) and (num_names is None or all(fits)):
        return [first < last]
    if fits[0] != fits[1]:
        return [fits[0]]
    return [first < last, first >= last] if all(fits) or first == last else [first < last]


def _examine_columns(
    rows: np.ndarray,
    layout: OutputLayout,
    size: tuple[int, int],
    num_names: int | None,
    metadata: Mapping[str, str],
    shape: str,
) -> OutputLayout:
    """What the columns of rows (N, columns) are."""
    if layout.columns == 6 and _looks_end_to_end(rows, size, metadata, layout):
        return _end_to_end(rows, replace(layout, end_to_end=True, corners=True))
    if layout.columns < (5 if layout.transposed or num_names else 6):
        raise UnknownLayout(f"its output {shape} has {layout.columns} columns, expected 5 + classes, or 4 + classes")
    layout = replace(layout, objectness=_has_objectness(layout, num_names, shape))
    return _examine(rows, layout, size, num_names is not None, shape)


def _has_objectness(layout: OutputLayout, num_names: int | None, shape: str) -> bool:
    """Whether there is a column more than the box and the classes; without class names, YOLOv5's files have one."""
    if num_names is None:
        return not layout.transposed
    if layout.columns not in (4 + num_names, 5 + num_names):
        raise UnknownLayout(f"its output {shape} does not fit its {counted(num_names, 'class name')}")
    return layout.columns == 5 + num_names


def _is_dense(rows: np.ndarray) -> bool:
    """Whether most rows are predictions, which those of a real model are, and not zeros."""
    return len(rows) >= 50 and float(np.any(rows[:, :4] != 0, axis=1).mean()) > 0.5


def _looks_end_to_end(
    rows: np.ndarray, size: tuple[int, int], metadata: Mapping[str, str], layout: OutputLayout
) -> bool:
    """Whether rows of six columns are detections, and not the predictions of a model with one or two classes."""
    if parse_value(metadata.get("end2end")) is True:
        return True
    if layout.transposed or len(rows) > MAX_DETECTIONS:
        return False
    if not _is_dense(rows) and find_grid(len(rows), size, anchors=(3,)):
        return False
    labels = rows[:, 4:6]
    return bool((labels == labels.round()).all(axis=0).any() or not rows.any()) or _class_first(rows)


def _class_first(rows: np.ndarray) -> bool:
    """Whether rows are class, score, box, as PaddleDetection writes them."""
    used = rows[np.any(rows != 0, axis=1)]
    integers = (used[:, 0] == used[:, 0].round()).all() and used[:, 0].min(initial=0) >= -1
    return bool(len(used) and integers and _in_unit(used[:, 1]) and (used[:, 4:] >= used[:, 2:4]).all())


def _end_to_end_2d(output: np.ndarray) -> OutputLayout:
    """Detections (N, 6) of one image, or (N, 7) of a batch, as YOLOv7 writes them: image, box, class, score."""
    columns = output.shape[1]
    if columns not in (6, 7):
        raise UnknownLayout(
            f"its output is {describe_shape(output.shape)}, expected (batch, predictions, columns) or detections (N, 6)"
        )
    layout = OutputLayout(columns, end_to_end=True, corners=True)
    if columns == 7:
        layout = replace(layout, image_column=0, box_column=1, score_column=6, label_column=5)
    return _end_to_end(output, layout)


def _end_to_end(rows: np.ndarray, layout: OutputLayout) -> OutputLayout:
    """Find the columns of score and class by their values, and the units of boxes."""
    used = rows[np.any(rows != 0, axis=1)]
    orders = [(layout.box_column, layout.score_column, layout.label_column)]
    orders.append((layout.box_column, layout.label_column, layout.score_column))
    if layout.columns == 6:
        orders.append((2, 1, 0))
    for box, score, label in orders:
        boxes, labels = used[:, box : box + 4], used[:, label]
        valid = _in_unit(used[:, score]) and (labels == labels.round()).all() and labels.min(initial=0) >= -1
        if valid and np.mean((boxes[:, 2:] >= boxes[:, :2]).all(axis=1) if len(boxes) else 1) > 0.5:
            normalized = bool(len(boxes)) and float(np.abs(boxes).max()) <= NORMALIZED_MAX
            return replace(layout, box_column=box, score_column=score, label_column=label, normalized=normalized)
    raise UnknownLayout(
        f"its output {describe_shape(rows.shape)} has {layout.columns} columns, which are not x1, y1, x2, y2, score "
        "and class"
    )


def _examine(rows: np.ndarray, layout: OutputLayout, size: tuple[int, int], named: bool, shape: str) -> OutputLayout:
    """Check that the numbers mean what the layout says; the layout with what they reveal: units, corners, stride."""
    for column in range(4, rows.shape[1]):
        if not _in_unit(rows[:, column]):
            low, high = rows[:, column].min(), rows[:, column].max()
            raise UnknownLayout(
                f"its output {shape} has numbers from {low:.3g} to {high:.3g} in column {column}, where a score from 0 "
                "to 1 is expected; landmarks, keypoints, angles and raw outputs are not supported"
            )
    grids = find_grid(len(rows), size)
    dense = _is_dense(rows)
    highest = float(np.abs(rows[:, :4]).max(initial=0))
    normalized = 0 < highest <= NORMALIZED_MAX
    correlations = [correlation(rows[:, :2], grid.centers) for grid in grids] if dense else []
    best = int(np.argmax(correlations)) if correlations else None
    decoded = best is not None and correlations[best] >= MIN_CORRELATION
    by_spread = named or not normalized or not grids
    few = named and not grids and len(rows) <= MAX_DETECTIONS  # the queries of a transformer
    if dense and not decoded and not few and not (by_spread and _covers_image(rows, size, normalized)):
        raise UnknownLayout(
            f"its output {shape} holds boxes that are not decoded: the first columns range from {rows[:, 0].min():.3g} "
            f"to {rows[:, 0].max():.3g} and do not follow the cells of the image; export with the decoding of boxes"
        )
    if not dense and rows[:, 2:4].min(initial=0) < 0:
        raise UnknownLayout(f"its output {shape} has boxes of a negative width or height: raw outputs are not decoded")
    if layout.objectness and not named:
        _refuse_other_families(rows, grids, normalized, shape)
    corners = dense and bool((rows[:, 2:4] >= rows[:, :2]).all())
    stride = max(grids[best or 0].strides) if grids else None
    return replace(layout, normalized=normalized, corners=corners, stride=stride, queries=dense and few)


def _refuse_other_families(rows: np.ndarray, grids: list[Grid], normalized: bool, shape: str) -> None:
    """Without class names: one prediction per cell with an objectness is YOLOX, no grid and fractions a transformer."""
    without_objectness = any(np.allclose(column, 1, atol=0.01) for column in (rows[:, 4], rows[:, 5:].max(axis=1)))
    if grids and all(grid.anchors == 1 for grid in grids) and not without_objectness:
        raise UnknownLayout(
            f"its output {shape} has one prediction per cell with an objectness and the file no class names, as YOLOX "
            "exports, which expect pixel values of 0 to 255; expected YOLOv5's layout, or metadata with 'names'"
        )
    if not grids and normalized:
        raise UnknownLayout(
            f"its output {shape} has boxes in fractions of the image that lie on no grid, and the file no class names: "
            "column 4 may be an objectness or a class; expected metadata with 'names'"
        )


def _covers_image(rows: np.ndarray, size: tuple[int, int], normalized: bool) -> bool:
    """Whether box centers are spread over the image as those of all cells are."""
    width, height = (1, 1) if normalized else size[::-1]
    spread = rows[:, 0].std() / width, rows[:, 1].std() / height
    return all(0.2 <= value <= 0.4 for value in spread)


def _in_unit(values: np.ndarray) -> bool:
    return bool(values.min(initial=0) >= -1e-3 and values.max(initial=0) <= 1 + 1e-3)
