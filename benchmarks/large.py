"""Large datasets: memory of each loader process with 118,000 images and 1,000,000 boxes; loading of JPEG files at 640.

The reference of loading is decoding alone (`cv2.imdecode`) of the same files; all times are CPU time on one core.
Memory is what a process has of its own, what it shares with the main process not counted.
"""

import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks import start
from benchmarks.table import Table, data_folder, parser

IMAGES = 118_000
BOXES = 8.5  # per image, on average
FEW = 100  # images of the small reference
WORKERS = 2
READ = 6_000  # images read before memory is measured
SIDE = 64  # their size
FILES = 200  # JPEG files that are decoded
SIZE = 640  # their size
BATCH = 16
PASSES = 3  # over all files
MEMORY_LIMIT = 30  # MB more in each process than with few images


def main() -> int:
    """Print the table; returns the exit status."""
    cv2.setNumThreads(1)
    options = parser("large", __doc__).parse_args()
    table = Table(
        f"Large datasets: {IMAGES:,} images with {IMAGES * BOXES:,.0f} boxes; JPEG files at {SIZE}", options.output
    )
    with tempfile.TemporaryDirectory() as folder:
        if sys.platform.startswith("linux"):
            rows_of_memory(table, Path(folder) / "set")
        rows_of_decoding(table, Path(folder) / "jpeg")
    return bool(table.short)


def rows_of_memory(table: Table, folder: Path) -> None:
    """Add rows with the memory of the main process and of loader processes."""
    from graftdet.data.dataset_config import load_data_config, open_split
    from graftdet.data.formats.dataset_split import Split

    yaml = start.make_dataset(folder, IMAGES, BOXES)
    before = private_memory(os.getpid())
    complete = open_split(load_data_config(yaml), "train")
    count = sum(len(sample.boxes) for sample in complete.samples)
    table.add(f"opening {count:,} boxes: memory of the main process", f"{private_memory(os.getpid()) - before:.0f} MB")
    few = Split("train", complete.samples[:FEW], complete.names, complete.category_ids)
    reference = worker_memory(few)
    table.add(f"loader process, {FEW} images", f"{reference:.0f} MB")
    memory = worker_memory(complete)
    table.add(f"loader process, {IMAGES:,} images", f"{memory:.0f} MB", memory - reference, at_most=MEMORY_LIMIT)


def worker_memory(split: Any) -> float:
    """Return the private megabytes of a loader process, the largest of all, after `READ` images."""
    from graftdet.data.dataset import DetectionDataset
    from graftdet.data.loader import train_loader
    from graftdet.utils.hyperparameters import load_hyperparameters

    images = DetectionDataset(split, SIDE, load_hyperparameters("default.yaml"), augment=True)
    loader, read, epoch = train_loader(images, BATCH, WORKERS), 0, 0
    while True:
        loader.set_epoch(epoch)
        for batch in loader:
            read += len(batch["paths"])
            if read >= READ:
                return max(private_memory(child.pid) for child in multiprocessing.active_children())
        epoch += 1


def private_memory(pid: int | None) -> float:
    """Return the megabytes that only this process has (Linux)."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()[1:]
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) / 1e3


def rows_of_decoding(table: Table, folder: Path) -> None:
    """Add rows with the images per second that are loaded from JPEG files, without a cache."""
    from graftdet.data.dataset import DetectionDataset
    from graftdet.data.loader import train_loader, val_loader
    from graftdet.utils.hyperparameters import load_hyperparameters

    split = jpeg_split(folder)
    contents = [Path(sample.path).read_bytes() for sample in split.samples]
    decode = rate(
        lambda: [cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) for data in contents], len(contents)
    )
    height, width = cv2.imdecode(np.frombuffer(contents[0], np.uint8), cv2.IMREAD_COLOR).shape[:2]
    size = np.mean([len(content) for content in contents]) / 1e3
    what = f"cv2.imdecode of {len(contents)} JPEG files such as {width}x{height}, {size:.0f} kB: the reference"
    table.add(what, f"{decode:.0f} images/s per core")

    def loaded(loader: Any) -> Callable[[], object]:
        loader.set_epoch(0)
        return lambda: consume(loader)

    plain = DetectionDataset(split, SIZE, rect=True)
    cases = [("validation, rectangular", val_loader(plain, BATCH), 1)]
    for what, changes in (("training, default.yaml without mosaic", ("mosaic=0",)), ("training, default.yaml", ())):
        recipe = load_hyperparameters("default.yaml", changes)
        images = DetectionDataset(split, SIZE, recipe, augment=True)
        cases.append((what, train_loader(images, BATCH), 1 if changes else 4))
    for what, loader, decoded in cases:
        found = rate(loaded(loader), len(contents))
        figure = f"{found:.0f} images/s per core, {decoded} decoded for each"
        table.add(f"{what}: ratio of decoded images", figure, found * decoded / decode)


def jpeg_split(folder: Path) -> Any:
    """Return photographs of BCCD (640x480), or drawn images where there are none, as JPEG files."""
    from graftdet.data.dataset_config import load_data_config, open_split
    from graftdet.data.formats.dataset_split import Split
    from graftdet.utils.images.io import write_image

    if data_folder("bccd"):
        split = open_split(load_data_config("bccd.yaml"), "train")
        return Split("train", split.samples[:FILES], split.names, split.category_ids)
    yaml = start.make_dataset(folder, FILES, BOXES)
    rng = np.random.default_rng(0)
    for path in (folder / "images" / "train").iterdir():
        path.unlink()
        image = cv2.resize(
            rng.integers(0, 255, (30, 40, 3)).astype(np.uint8), (640, 480), interpolation=cv2.INTER_CUBIC
        )
        write_image(path, image)
    return open_split(load_data_config(yaml), "train")


def consume(batches: Iterable[Any]) -> None:
    """Iterate to the end."""
    for _ in batches:
        pass


def rate(work: Callable[[], object], count: int) -> float:
    """Return images per second of CPU time, the best of several passes over `count` images."""
    best = float("inf")
    for _ in range(PASSES):
        started = time.process_time()
        work()
        best = min(best, time.process_time() - started)
    return count / best


if __name__ == "__main__":
    sys.exit(main())
