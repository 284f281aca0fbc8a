"""COCO AP of 5,000 images compared with pycocotools; evaluation time for growing data; val.py from process start."""

import contextlib
import io
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.table import ROOT, Table, data_folder, parser

IMAGES = 5_000
DETECTIONS = 100  # per image
BOXES = 7  # ground-truth boxes per image, on average
CLASSES = 80
SPEEDUP = 5  # relative to pycocotools, at least
TOLERANCE = 1e-9  # largest difference of AP from pycocotools
GROWTH = (100, 1_000, 10_000)  # images
FLAT = 1.3  # time per image for most images relative to second most, at most
VAL = 3.95  # seconds of val.py on two cores, at most
SIDE = 320  # image size of val.py
CANDIDATES = 0.1  # fraction of (box, class) with a score above 0.001


def synthetic_results(images: int, seed: int = 0) -> tuple[dict, Any]:
    """Return a COCO dict and `CocoResults`: shifted ground-truth boxes, 60 % of them with the right class."""
    from graftdet.utils.evaluation.coco_results import CocoResults

    rng = np.random.default_rng(seed)
    results, annotations = CocoResults(range(1, CLASSES + 1)), []
    for image in range(1, images + 1):
        count = rng.poisson(BOXES - 1) + 1
        sides = np.exp(rng.uniform(np.log(8), np.log(300), (count, 2)))
        corner = rng.uniform(0, 1, (count, 2)) * (640 - sides)
        true, labels = np.concatenate((corner, corner + sides), 1).round(2), rng.integers(0, CLASSES, count)
        for (x1, y1, x2, y2), label, crowd in zip(
            true.tolist(), labels.tolist(), rng.uniform(size=count) < 0.01, strict=True
        ):
            box = [x1, y1, x2 - x1, y2 - y1]
            entry = {
                "image_id": image,
                "category_id": label + 1,
                "bbox": box,
                "area": box[2] * box[3],
                "iscrowd": int(crowd),
            }
            annotations.append({"id": len(annotations) + 1, **entry})
        of = rng.integers(count, size=DETECTIONS)
        boxes = true[of] + rng.normal(0, 0.1, (DETECTIONS, 4)) * np.tile(sides[of], 2)
        boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 1)
        wrong = rng.integers(0, CLASSES, DETECTIONS)
        classes = np.where(rng.uniform(size=DETECTIONS) < 0.6, labels[of], wrong)
        results.add(image, np.column_stack((boxes, rng.uniform(0.001, 1, DETECTIONS), classes)))
    categories = [{"id": number, "name": f"class {number}"} for number in range(1, CLASSES + 1)]
    truth = {
        "images": [{"id": image} for image in range(1, images + 1)],
        "annotations": annotations,
        "categories": categories,
    }
    return truth, results


def rows_of_coco(table: Table) -> None:
    """Add rows with the CPU time of COCO AP, one run each: pycocotools takes most of a minute."""
    from graftdet.utils.evaluation.coco_ap import coco_scores

    truth, results = synthetic_results(IMAGES)
    predictions = results.to_dicts()
    ours, seconds = timed(lambda: coco_scores(truth, results), time.process_time)
    _, from_list = timed(lambda: coco_scores(truth, predictions), time.process_time)
    theirs, reference = timed(lambda: by_pycocotools(truth, predictions), time.process_time)
    keys = ("AP50-95", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100")
    difference = max(abs(ours[key] - number) for key, number in zip(keys, theirs, strict=False))
    table.add(f"COCO AP of {IMAGES:,} images, {DETECTIONS} detections each: pycocotools", f"{reference:.1f} s")
    table.add("the same from a list of dicts, speedup", f"{from_list:.2f} s", reference / from_list, at_least=SPEEDUP)
    table.add(
        "the same from arrays, as in val.py, speedup",
        f"{seconds:.2f} s",
        reference / seconds,
        at_least=SPEEDUP,
    )
    table.add("largest difference of the nine metrics", f"{difference:.1e}", difference, at_most=TOLERANCE)


def by_pycocotools(truth: dict, predictions: list[dict]) -> np.ndarray:
    """Return the twelve metrics of pycocotools."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = truth
        coco.createIndex()
        evaluator = COCOeval(coco, coco.loadRes(predictions), "bbox")
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return evaluator.stats


def timed(work: Callable[[], Any], clock: Callable[[], float] = time.perf_counter) -> tuple[Any, float]:
    """Return the result of `work` and the seconds that it took."""
    started = clock()
    result = work()
    return result, clock() - started


def rows_of_growth(table: Table) -> None:
    """Add rows with the time of all that follows the model (suppression, metrics, files) for growing data."""
    import torch

    from graftdet.utils.evaluation.evaluator import evaluate

    before = None
    for count in GROWTH:
        truth, results = synthetic_results(count)
        rows = torch.from_numpy(results.rows()).reshape(count, DETECTIONS, 6)

        def model(images, given=iter(rows)):  # the next rows of the results; each box has one class
            part = torch.stack([next(given) for _ in images])
            return part[..., :4], torch.zeros(len(images), DETECTIONS, CLASSES).scatter_(
                2, part[..., 5:].long(), part[..., 4:5]
            )

        images = torch.zeros(16, 3, 1, 1, dtype=torch.uint8)
        batches = [
            {
                "images": images[: len(ids)],
                "image_ids": ids,
                "gains": [1.0] * len(ids),
                "pads": [(0.0, 0.0)] * len(ids),
                "shapes": [(640, 640)] * len(ids),
            }
            for ids in (list(range(start, min(start + 16, count + 1))) for start in range(1, count + 1, 16))
        ]
        started = time.process_time()
        found = evaluate(model, batches, ground_truth=truth, category_ids=range(1, CLASSES + 1), progress=False)
        with tempfile.TemporaryDirectory() as folder:
            found.results.write(Path(folder) / "predictions.json")
        seconds = (time.process_time() - started) / count
        size = found.results.rows().nbytes / count
        figure = f"{1e3 * seconds:.2f} ms of CPU time and {size / 1e3:.1f} kB per image"
        limit = {"value": seconds / before, "at_most": FLAT} if count == GROWTH[-1] else {}
        table.add(f"evaluation of {count:,} images without reading and network", figure, **limit)
        before = seconds


def rows_of_val(table: Table, folder: Path) -> None:
    """Add rows with the time of val.py on BCCD's test split from process start, and of its parts."""
    yaml = "".join(
        f"{s}: {{images: images/{s}, annotations: annotations/instances_{s}.json}}\n" for s in ("train", "test")
    )
    with tempfile.TemporaryDirectory() as scratch:
        scratch = Path(scratch)
        (scratch / "bccd.yaml").write_text(f"format: coco\npath: '{folder.resolve().as_posix()}'\n{yaml}")
        make_weights(scratch / "bccd.yaml", scratch / "weights.pt")
        flags = ["--weights", scratch / "weights.pt", "--data", scratch / "bccd.yaml", "--split", "test", "--img", SIDE]
        flags = [str(flag) for flag in (*flags, "--project", scratch / "runs", "--device", "cpu")]
        until_table, total, cpu = (min(column) for column in zip(*(run_val(flags) for _ in range(3)), strict=True))
        table.add(
            f"val.py, BCCD test at {SIDE}, process start to table", f"{until_table:.2f} s", until_table, at_most=VAL
        )
        table.add("the same to the end, files and plots written", f"{total:.2f} s, {cpu:.2f} s of CPU time")
        command = [sys.executable, "-m", "benchmarks.evaluation", "parts", str(time.time()), *flags]
        done = subprocess.run(
            command, cwd=ROOT, env=caching_environment(), stdout=subprocess.PIPE, check=True, text=True
        )
        for part, seconds in json.loads(done.stdout.splitlines()[-1]).items():
            table.add(f"part: {part}", f"{seconds:.2f} s")


def make_weights(data: Path, path: Path) -> None:
    """Write an untrained yolov5n whose objectness is shifted so that it has as many candidates as a trained model."""
    import torch

    from graftdet.data.dataset import DetectionDataset
    from graftdet.data.dataset_config import load_data_config, open_split
    from graftdet.data.loader import val_loader
    from graftdet.models import build_model
    from graftdet.utils.checkpoint import save_checkpoint

    split = open_split(load_data_config(data), "test")
    torch.manual_seed(0)
    model = build_model("yolov5n.yaml", nc=len(split.names)).eval()
    batch = next(iter(val_loader(DetectionDataset(split, SIDE, rect=True), 4)))
    with torch.no_grad():
        for conv in model.head.m:
            conv.weight *= 30  # scores that differ
        _, scores = model(batch["images"] / 255)
        shift = math.log(0.001) - scores.quantile(1 - CANDIDATES).log().item()
        for conv in model.head.m:
            conv.bias.view(model.head.num_anchors, -1)[:, 4] += shift
    save_checkpoint(path, {"yaml": model.yaml_text, "names": split.names, "nc": model.nc, "model": model.state_dict()})


def caching_environment() -> dict[str, str]:
    """Return the environment without PYTHONDONTWRITEBYTECODE, so that compiled modules are cached as usual."""
    return {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}


def run_val(flags: list[str]) -> tuple[float, float, float]:
    """Return the seconds from process start to the table and to the end, and the CPU time (0 on Windows)."""
    started, before = time.perf_counter(), sum(os.times()[2:4])
    with subprocess.Popen(
        [sys.executable, "-u", "val.py", *flags], cwd=ROOT, env=caching_environment(), stdout=subprocess.PIPE, text=True
    ) as process:
        for line in process.stdout:
            if line.startswith("speed "):  # follows the table
                until_table = time.perf_counter() - started
        process.stdout.close()
    if process.returncode:
        raise SystemExit(f"val.py ended with status {process.returncode}")
    return until_table, time.perf_counter() - started, sum(os.times()[2:4]) - before


def parts_of_val(started: float, flags: list[str]) -> dict[str, float]:
    """Return the seconds of each part of val.py; `started` is the time of the process start."""
    from graftdet import val
    from graftdet.utils.evaluation import evaluator as evaluate

    seconds = {"imports": time.time() - started}
    spans: dict[str, float] = {}
    for module, name in ((val, "load_models"), (val, "open_split"), (val, "evaluate"), (evaluate, "score")):
        setattr(module, name, _timed(getattr(module, name), spans))
    start = time.perf_counter()
    result = val.main(flags)
    total = time.perf_counter() - start
    speed = {name: value * result.images / 1000 for name, value in result.speed.items()}
    seconds |= {"weights": spans["load_models"], "dataset": spans["open_split"]}
    seconds["network"] = speed["preprocess"] + speed["inference"]
    seconds["suppression"] = speed["nms"]
    seconds["waiting for images"] = spans["evaluate"] - spans["score"] - sum(speed.values())
    seconds["metrics"] = spans["score"]
    seconds["files, plots and other"] = total - sum(spans[name] for name in ("load_models", "open_split", "evaluate"))
    return seconds


def _timed(work: Callable, spans: dict[str, float]) -> Callable:
    """`work`, which also stores its seconds in `spans`."""

    def run(*args, **kwargs):
        result, spans[work.__name__] = timed(lambda: work(*args, **kwargs))
        return result

    return run


def main() -> int:
    """Print the table; returns the exit status."""
    options = parser("evaluation", __doc__).parse_args()
    table = Table("Evaluation: COCO AP, time for growing data, val.py", options.output)
    rows_of_coco(table)
    rows_of_growth(table)
    folder = data_folder("bccd")
    if folder:
        rows_of_val(table, folder)
    return bool(table.short)


if __name__ == "__main__":
    if sys.argv[1:2] == ["parts"]:
        print(json.dumps(parts_of_val(float(sys.argv[2]), sys.argv[3:])))
        sys.exit()
    sys.exit(main())
