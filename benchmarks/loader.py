"""The data loader alone: images per second on one core from memory with all augmentation, and the time of each part."""

import functools
import sys
import time
from collections import defaultdict
from typing import Any

import cv2
import numpy as np

from benchmarks.table import Table, data_folder, parser
from graftdet.data import dataset
from graftdet.data import loader as loading
from graftdet.data.augmentation import canvas, transforms
from graftdet.data.caching import image_cache as cache
from graftdet.data.dataset_config import load_data_config, open_split
from graftdet.utils.hyperparameters import load_hyperparameters

SIZE = 320
BATCH = 16
EPOCHS = 5
LIMIT = 250  # images per second at least

# (owner, function, label); the time of a function does not include that of other functions in this list
PARTS = [
    (cache.RamImageStore, "read", "read from memory"),
    (np.random, "SeedSequence", "seed"),
    (dataset, "mosaic", "mosaic: positions and boxes"),
    (transforms, "jitter_matrix", "sample the geometry"),
    (transforms, "flip_matrix", "sample the geometry"),
    (canvas.Canvas, "draw_scaled", "draw scaled tiles"),
    (canvas.Canvas, "draw", "draw the canvas"),
    (transforms, "warp", "warp"),
    (transforms, "warp_boxes", "boxes"),
    (transforms, "remaining_boxes", "boxes"),
    (transforms, "apply_flip", "flip"),
    (dataset, "jitter", "boxes"),
    (dataset, "mixup", "mixup"),
    (dataset, "hsv_jitter", "color and planes"),
    (dataset.DetectionDataset, "_make_item", "targets"),
    (loading, "collate", "batch"),
]


class Clock:
    """Measures the CPU time of functions by label, without that of other measured functions they call.

    Use it as a context manager; inside, the functions are replaced by timed ones.

    Args:
        parts: (owner, function, label).
    """

    def __init__(self, parts: list[tuple[Any, str, str]]):
        self.parts, self.seconds = parts, defaultdict(float)
        self._inner = [0.0]  # seconds in nested timed calls, one number per active call

    def __enter__(self):
        self._before = [(owner, name, owner.__dict__[name]) for owner, name, _ in self.parts]
        for owner, name, label in self.parts:
            setattr(owner, name, self._timed(owner.__dict__[name], label))
        return self

    def __exit__(self, *_):
        for owner, name, function in self._before:
            setattr(owner, name, function)

    def _timed(self, function, label):
        @functools.wraps(function)
        def timed(*args, **kwargs):
            self._inner.append(0.0)
            start = time.process_time()
            try:
                return function(*args, **kwargs)
            finally:
                spent = time.process_time() - start
                self.seconds[label] += spent - self._inner.pop()
                self._inner[-1] += spent

        return timed


def rate(loader: Any, epochs: int = EPOCHS) -> float:
    """Return the images per second of CPU time, the best of several epochs."""
    best = 0.0
    for epoch in range(epochs):
        loader.set_epoch(epoch)
        start = time.process_time()
        count = sum(len(batch["paths"]) for batch in loader)
        best = max(best, count / (time.process_time() - start))
    return best


def time_fractions(loader: Any) -> dict[str, float]:
    """Return the fraction of an epoch's time by label, largest first."""
    loader.set_epoch(EPOCHS)
    start = time.process_time()
    with Clock(PARTS) as clock:
        for _ in loader:
            pass
    total = time.process_time() - start
    parts = {**clock.seconds, "other": total - sum(clock.seconds.values())}
    return {label: parts[label] / total for label in sorted(parts, key=parts.get, reverse=True)}


def main() -> int:
    """Print the table; returns the exit status."""
    options = parser("loader", __doc__).parse_args()
    cv2.setNumThreads(1)
    data = "bccd.yaml" if data_folder("bccd") else "shapes.yaml"
    split = open_split(load_data_config(data), "train")
    table = Table(
        f"Data loader, one core, {len(split)} images of {data} at {SIZE} in memory; images per second of CPU time",
        options.output,
    )
    cases = [
        ("default.yaml", "default.yaml", (), LIMIT),
        ("yolov5.yaml", "yolov5.yaml", (), LIMIT),
        ("default.yaml without mosaic", "default.yaml", ("mosaic=0",), None),
        ("default.yaml with rotation and shear", "default.yaml", ("degrees=5", "shear=2"), None),
        ("default.yaml with mixup=0.5", "default.yaml", ("mixup=0.5",), None),
    ]
    taken = {}
    for what, recipe, changes, limit in cases:
        images = dataset.DetectionDataset(split, SIZE, load_hyperparameters(recipe, changes), augment=True, cache="ram")
        loader = loading.train_loader(images, BATCH)
        found = rate(loader)
        table.add(what, f"{found:.0f} images/s", found, at_least=limit)
        taken[what] = (time_fractions(loader), found)
    decoded = dataset.DetectionDataset(split, SIZE, load_hyperparameters("default.yaml"), augment=True)
    found = rate(loading.train_loader(decoded, BATCH), epochs=1)
    table.add("default.yaml without cache", f"{found:.0f} images/s", found)
    plain = loading.val_loader(dataset.DetectionDataset(split, SIZE, rect=True, cache="ram"), BATCH)
    found = rate(plain)
    table.add("validation, rectangular", f"{found:.0f} images/s", found)
    for what in ("default.yaml", "default.yaml with rotation and shear"):
        parts, found = taken[what]
        for label, fraction in parts.items():
            table.add(f"{what}: {label}", f"{fraction:.0%}, {1000 * fraction / found:.2f} ms per image")
    return bool(table.short)


if __name__ == "__main__":
    sys.exit(main())
