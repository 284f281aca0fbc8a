"""Non-maximum suppression of 30,000 candidates of one image, compared with a simple greedy implementation; CPU time."""

import functools
import statistics
import sys
import time

import numpy as np

from benchmarks.table import Table, parser
from graftdet.utils.nms.suppression import select_detections

COUNT = 30_000  # candidates
SIDE = 640
CLASSES = 80
ANCHORS = 25_200  # of YOLOv5 at 640x640
CONF, IOU, MAX_DET = 0.001, 0.6, 300  # as in validation
LIMIT = 15.0  # milliseconds


def main() -> int:
    """Print the table; returns the exit status."""
    options = parser("nms", __doc__).parse_args()
    table = Table(
        f"Suppression of {COUNT:,} candidates: milliseconds on one core, IoU {IOU}, at most {MAX_DET} detections",
        options.output,
    )
    for what, (boxes, scores, multi_label) in candidate_sets(np.random.default_rng(0)).items():
        call = functools.partial(select_detections, boxes, scores, CONF, IOU, MAX_DET, multi_label=multi_label)
        simple = functools.partial(simple_detections, boxes, scores, multi_label)
        if not np.array_equal(call(), simple()):
            raise AssertionError(f"{what}: detections differ from those of the simple implementation")
        taken, reference = milliseconds(call, repeats=15), milliseconds(simple, repeats=3)
        table.add(
            what,
            f"{taken:.1f} ms, {len(call())} detections; greedy {reference:.0f} ms, speedup {reference / taken:.1f}",
            taken,
            at_most=LIMIT,
        )
    return bool(table.short)


def milliseconds(call, repeats: int) -> float:
    """Return the median CPU time of this thread, which does all the work."""
    taken = []
    for _ in range(repeats):
        start = time.thread_time()
        call()
        taken.append(time.thread_time() - start)
    return 1000 * statistics.median(taken)


def candidate_sets(random: np.random.Generator) -> dict[str, tuple[np.ndarray, np.ndarray, bool]]:
    """Return by description: boxes (n, 4) xyxy pixels, scores (n, nc) with `COUNT` above `CONF`, and `multi_label`."""
    sets = {}
    for classes in (CLASSES, 1):
        label = f"{classes} classes" if classes > 1 else "1 class"
        sets[f"boxes of all sizes, {label}"] = spread(random, COUNT), one_label(random, classes), False
        for objects in (1, 30, 150, 600):
            sets[f"{objects} object{'s' * (objects > 1)}, {label}"] = (
                around(random, COUNT, objects),
                one_label(random, classes),
                False,
            )
    index = np.arange(COUNT)
    corner = np.stack((index % 200, index // 200), axis=1) * 3.2
    sets["no overlaps, 1 class"] = np.hstack((corner, corner + 3)).astype(np.float32), one_label(random, 1), False
    above = random.random((ANCHORS, CLASSES)) < COUNT / ANCHORS / CLASSES
    scores = np.where(above, skewed_scores(random, (ANCHORS, CLASSES)), CONF / 2).astype(np.float32)
    sets["150 objects, several classes per box"] = around(random, ANCHORS, 150), scores, True
    return sets


def spread(random: np.random.Generator, count: int) -> np.ndarray:
    """Return boxes (count, 4) at random positions, with sides from 8 to 320 pixels."""
    centers = random.uniform(0, SIDE, (count, 2))
    half = np.exp(random.uniform(np.log(8), np.log(320), (count, 2))) / 2
    return np.hstack((centers - half, centers + half)).astype(np.float32)


def around(random: np.random.Generator, count: int, objects: int) -> np.ndarray:
    """Return boxes (count, 4) that deviate from those of some objects by 6 % of their sides."""
    boxes = spread(random, objects)[random.integers(0, objects, count)]
    sides = np.tile(boxes[:, 2:] - boxes[:, :2], 2)
    return (boxes + sides * random.normal(0, 0.06, (count, 4))).astype(np.float32)


def one_label(random: np.random.Generator, classes: int) -> np.ndarray:
    """Return scores (COUNT, classes), with one class per box above `CONF`."""
    scores = np.zeros((COUNT, classes), np.float32)
    scores[np.arange(COUNT), random.integers(0, classes, COUNT)] = skewed_scores(random, COUNT)
    return scores


def skewed_scores(random: np.random.Generator, shape) -> np.ndarray:
    """Return scores from just above `CONF` to 1, most of them low."""
    return CONF * 1.01 + (1 - CONF * 1.01) * random.uniform(0, 1, shape) ** 3


def simple_detections(boxes: np.ndarray, scores: np.ndarray, multi_label: bool) -> np.ndarray:
    """Select the best row and remove those that overlap it too much, until no row or `MAX_DET` detections remain."""
    if multi_label:
        box, label = np.nonzero(scores > CONF)
    else:
        box, label = np.arange(len(boxes)), scores.argmax(1)
    rows = np.column_stack((boxes[box], scores[box, label], label)).astype(np.float32)
    rows = rows[rows[:, 4] > CONF]
    rows = rows[np.argsort(-rows[:, 4], kind="stable")][:COUNT]
    selected = []
    while len(rows) and len(selected) < MAX_DET:
        best, rows = rows[0], rows[1:]
        selected.append(best)
        sides = (np.minimum(rows[:, 2:4], best[2:4]) - np.maximum(rows[:, :2], best[:2])).clip(0)
        intersection = sides[:, 0] * sides[:, 1]
        areas = (rows[:, 2] - rows[:, 0]) * (rows[:, 3] - rows[:, 1])
        union = areas + (best[2] - best[0]) * (best[3] - best[1]) - intersection
        rows = rows[(rows[:, 5] != best[5]) | (intersection <= IOU * union)]
    return np.array(selected)


if __name__ == "__main__":
    sys.exit(main())
