"""Start of a training on 100,000 annotated images, first and second time; loading time per image for growing data."""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.table import ROOT, Table, parser

IMAGES = 100_000  # for training
VAL = 2_000  # for validation
BOXES = 7  # per image, on average
CLASSES = 80
WIDTH, HEIGHT = 64, 48  # of the image files
SIZE = 320  # of the loaded images
BATCH = 16
FIRST, AGAIN = 20.0, 5.0  # seconds at most
GROWTH = (100, 1_000, 10_000)  # images of the datasets whose loading is timed
SIDE = 128  # image size of these
READ = 2_000  # images read per measurement
FLAT = 1.3  # time per image, largest relative to smallest dataset (CPU caches no longer suffice)


def make_dataset(folder: Path, images: int = IMAGES, boxes: float = BOXES) -> Path:
    """Write a COCO dataset of noise; its images are hard links (or copies) of a few files.

    Args:
        folder: Where to; it is created.
        images: Training images.
        boxes: Boxes per image on average.

    Returns:
        The data YAML.
    """
    from graftdet.utils.images.io import write_image

    rng = np.random.default_rng(0)
    (folder / "annotations").mkdir(parents=True)
    for split, count in (("train", images), ("val", min(VAL, images))):
        parent = folder / "images" / split
        first = [parent / f"{number:012d}.jpg" for number in range(20)]
        for path in first:
            write_image(path, rng.integers(0, 255, (HEIGHT, WIDTH, 3)).astype(np.uint8))
        for number in range(len(first), count):
            _link(first[number % len(first)], parent / f"{number:012d}.jpg")
        _write_json(folder / "annotations" / f"instances_{split}.json", count, boxes, rng)
    yaml = "".join(
        f"{s}: {{images: images/{s}, annotations: annotations/instances_{s}.json}}\n" for s in ("train", "val")
    )
    (folder / "data.yaml").write_text(yaml)
    return folder / "data.yaml"


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        target.write_bytes(source.read_bytes())


def _write_json(path: Path, count: int, boxes: float, rng: np.random.Generator) -> None:
    """Write COCO JSON with the keys of the published files, as text: `json.dump` would take a minute."""
    counts = rng.integers(0, round(2 * boxes) + 1, count)
    sides = np.exp(rng.normal(2, 0.8, (counts.sum(), 2))).clip(1, (WIDTH * 0.9, HEIGHT * 0.9))
    corners = rng.random((len(sides), 2)) * ((WIDTH, HEIGHT) - sides)
    table = np.column_stack(
        (np.repeat(np.arange(count), counts), rng.integers(1, CLASSES + 1, len(sides)), corners, sides)
    )
    rows = [
        '{"id": %d, "image_id": %d, "category_id": %d, "bbox": [%.2f, %.2f, %.2f, %.2f], "area": %.3f, "iscrowd": 0}'
        % (number, image, label, x, y, w, h, w * h)
        for number, (image, label, x, y, w, h) in enumerate(table.tolist(), 1)
    ]
    images = [
        f'{{"license": 1, "file_name": "{number:012d}.jpg", "height": {HEIGHT}, "width": {WIDTH}, "id": {number}}}'
        for number in range(count)
    ]
    categories = json.dumps([{"id": label, "name": f"class{label}"} for label in range(1, CLASSES + 1)])
    path.write_text(
        f'{{"images": [{", ".join(images)}],\n"annotations": [{", ".join(rows)}],\n"categories": {categories}}}'
    )


def start(yaml: str) -> dict[str, float]:
    """Do what `train.py` does up to the first batch; returns the seconds of each part, imports included."""
    started = last = time.perf_counter()
    seconds = {}

    def lap(what: str) -> None:
        nonlocal last
        now = time.perf_counter()
        seconds[what], last = now - last, now

    from graftdet.data.dataset import DetectionDataset
    from graftdet.data.dataset_config import load_data_config, open_split
    from graftdet.data.loader import train_loader
    from graftdet.models import build_model
    from graftdet.utils.hyperparameters import load_hyperparameters
    from graftdet.utils.training.autoanchor import fit_head_anchors
    from graftdet.utils.visualization.plots import plot_labels

    lap("imports")
    config, recipe = load_data_config(yaml), load_hyperparameters("default.yaml")
    train = open_split(config, "train")
    lap("train split")
    val = open_split(config, "val")
    lap("val split")
    images = DetectionDataset(train, SIZE, recipe, augment=True, cache="auto")
    batches = train_loader(images, BATCH, epochs=100)
    lap("dataset")
    model = build_model("yolov5n.yaml", nc=len(train.names))
    lap("model")
    fit_head_anchors(model.head, images.boxes, images.image_sizes, SIZE, recipe.anchor_t)
    lap("anchors")
    val.ground_truth()
    lap("ground truth of val")
    boxes = np.concatenate(images.boxes)
    sides = np.repeat(images.image_sizes[:, ::-1], [len(rows) for rows in images.boxes], 0)
    normalized = np.hstack(((boxes[:, :2] + boxes[:, 2:]) / 2 / sides, (boxes[:, 2:] - boxes[:, :2]) / sides))
    with tempfile.TemporaryDirectory() as folder:
        plot_labels(normalized, np.concatenate(images.labels), train.names, Path(folder) / "labels.png")
    lap("plot of labels")
    next(iter(batches))
    lap("first batch")
    return {**seconds, "total": last - started, "memory": _peak_memory()}


def _peak_memory() -> float:
    """Peak memory of this process in bytes; 0 if the system does not report it."""
    try:
        import resource
    except ImportError:
        return 0.0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def growth(table: Table, yaml: Path) -> None:
    """Add rows with the loading time per image for growing datasets, all in memory."""
    import cv2

    from graftdet.data.dataset import DetectionDataset
    from graftdet.data.dataset_config import load_data_config, open_split
    from graftdet.data.formats.dataset_split import Split
    from graftdet.data.loader import train_loader
    from graftdet.utils.hyperparameters import load_hyperparameters

    cv2.setNumThreads(1)
    complete = open_split(load_data_config(yaml), "train")
    loaders = []
    for count in GROWTH:
        split = Split("train", complete.samples[:count], complete.names, complete.category_ids)
        images = DetectionDataset(split, SIDE, load_hyperparameters("default.yaml"), augment=True, cache="ram")
        loaders.append(train_loader(images, BATCH))
    best = [float("inf")] * len(loaders)
    for _ in range(3):  # alternately, so that changes of the machine's speed affect all
        for index, loader in enumerate(loaders):
            best[index] = min(best[index], _seconds_per_image(loader))
    for count, seconds in zip(GROWTH, best, strict=True):
        limit = {"at_most": FLAT} if count == GROWTH[-1] else {}
        table.add(
            f"per image of {count:,} at {SIDE}, mosaic",
            f"{1e6 * seconds:.0f} us of CPU time",
            seconds / best[0],
            **limit,
        )


def _seconds_per_image(loader) -> float:
    read, epoch, started = 0, 0, time.process_time()
    while read < READ:
        loader.set_epoch(epoch)
        epoch += 1
        for batch in loader:
            read += len(batch["paths"])
            if read >= READ:
                break
    return (time.process_time() - started) / read


def main() -> int:
    """Print the table; returns the exit status."""
    options = parser("start", __doc__).parse_args()
    title = f"Start of a training on {IMAGES:,} images with {BOXES} boxes each, from process start to the first batch"
    table = Table(title, options.output)
    with tempfile.TemporaryDirectory() as folder:
        yaml = make_dataset(Path(folder) / "set")
        for what, limit in (("first time", FIRST), ("second time", AGAIN)):
            started = time.perf_counter()
            command = [sys.executable, "-m", "benchmarks.start", "parts", str(yaml)]
            environment = {**os.environ, "GRAFTDET_CACHE": str(Path(folder) / "cache")}
            done = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, check=True, text=True)
            total = time.perf_counter() - started
            parts = json.loads(done.stdout.splitlines()[-1])
            table.add(what, f"{total:.1f} s", total, at_most=limit)
            for part in sorted(parts.keys() - {"total", "memory"}, key=parts.get, reverse=True):
                table.add(f"{what}: {part}", f"{parts[part]:.2f} s")
            table.add(f"{what}: peak memory", f"{parts['memory'] / 1e6:.0f} MB")
        growth(table, yaml)
    return bool(table.short)


if __name__ == "__main__":
    if sys.argv[1:2] == ["parts"]:
        print(json.dumps(start(sys.argv[2])))
        sys.exit()
    sys.exit(main())
