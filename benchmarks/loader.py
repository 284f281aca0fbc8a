"""The loader alone: pictures a second of one core from the memory cache, with all augmentation, and what each part takes."""

import functools
import sys
import time
from collections import defaultdict

import cv2
import numpy as np
from graftdet.data import dataset
from graftdet.data import loader as loading
from graftdet.data.augmentation import canvas, transforms
from graftdet.data.caching import image_cache as cache
from graftdet.data.dataset_config import load_data_config, open_split
from graftdet.utils.hyperparameters import load_hyperparameters

from benchmarks.table import Table, data_folder

SIZE, BATCH, EPOCHS, LEAST = 320, 16, 5, 250

# What is timed by its own, without what it calls that is timed too.
PARTS = [
    (cache.RamImageStore, "read", "read from memory"),
    (np.random, "SeedSequence", "seed"),
    (dataset, "mosaic", "mosaic: places and boxes"),
    (transforms, "jitter_matrix", "draw the geometry"),
    (transforms, "flip_matrix", "draw the geometry"),
    (canvas.Canvas, "draw_scaled", "draw the tiles scaled"),
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
    """Own CPU time of functions, by label, while they are replaced by timed ones: `with Clock(parts) as clock:`."""

    def __init__(self, parts):
        self.parts, self.seconds = parts, defaultdict(float)
        self._inner = [0.0]  # what was spent in timed calls, a number for each call that is open

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


def rate(loader, epochs: int = EPOCHS) -> float:
    """Pictures a second of CPU time, the best of a few epochs."""
    best = 0.0
    for epoch in range(epochs):
        loader.set_epoch(epoch)
        start = time.process_time()
        count = sum(len(batch["paths"]) for batch in loader)
        best = max(best, count / (time.process_time() - start))
    return best


def shares(loader) -> dict[str, float]:
    """Label -> its share of the time of an epoch, largest first."""
    loader.set_epoch(EPOCHS)
    start = time.process_time()
    with Clock(PARTS) as clock:
        for _ in loader:
            pass
    total = time.process_time() - start
    parts = {**clock.seconds, "the rest": total - sum(clock.seconds.values())}
    return {label: parts[label] / total for label in sorted(parts, key=parts.get, reverse=True)}


def main() -> int:
    cv2.setNumThreads(1)
    data = "bccd.yaml" if data_folder("bccd") else "shapes.yaml"
    split = open_split(load_data_config(data), "train")
    table = Table(
        f"The loader alone, one core, {len(split)} pictures of {data} at {SIZE} in memory, a second of CPU time"
    )
    cases = [
        ("default.yaml", "default.yaml", (), LEAST),
        ("yolov5.yaml", "yolov5.yaml", (), LEAST),
        ("default.yaml without mosaic", "default.yaml", ("mosaic=0",), None),
        ("default.yaml, turned and sheared", "default.yaml", ("degrees=5", "shear=2"), None),
        ("default.yaml, half of them mixed", "default.yaml", ("mixup=0.5",), None),
    ]
    taken = {}
    for what, recipe, changes, limit in cases:
        pictures = dataset.DetectionDataset(
            split, SIZE, load_hyperparameters(recipe, changes), augment=True, cache="ram"
        )
        loader = loading.train_loader(pictures, BATCH)
        found = rate(loader)
        table.add(what, f"{found:.0f} pictures/s", found, at_least=limit)
        taken[what] = (shares(loader), found)
    decoded = dataset.DetectionDataset(split, SIZE, load_hyperparameters("default.yaml"), augment=True)
    found = rate(loading.train_loader(decoded, BATCH), epochs=1)
    table.add("default.yaml, every picture decoded each time", f"{found:.0f} pictures/s", found)
    plain = loading.val_loader(dataset.DetectionDataset(split, SIZE, rect=True, cache="ram"), BATCH)
    found = rate(plain)
    table.add("validation, rectangular", f"{found:.0f} pictures/s", found)
    for what in ("default.yaml", "default.yaml, turned and sheared"):
        parts, found = taken[what]
        for label, share in parts.items():
            table.add(f"{what}: {label}", f"{share:.0%}, {1000 * share / found:.2f} ms a picture")
    return bool(table.short)


if __name__ == "__main__":
    sys.exit(main())
