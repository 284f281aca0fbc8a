"""COCO's numbers of 5,000 pictures beside pycocotools; measuring as the pictures grow in number; val.py from process start."""

import contextlib
import io
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.table import ROOT, Table, data_folder

PICTURES, FOUND, BOXES, CLASSES = 5_000, 100, 7, 80  # detections a picture, true boxes a picture on average
FASTER, SAME = 5, 1e-9  # than pycocotools, and how far its numbers may be off
GROWTH, FLAT = (100, 1_000, 10_000), 1.3  # pictures; time a picture of the most against that of the second most
VAL, SIDE, CANDIDATES = (
    3.95,
    320,
    0.1,
)  # seconds on two cores; the share of boxes and classes that a trained model is not sure to lack


def made_up(pictures: int, seed: int = 0):
    """A COCO dict and `Results`: detections are true boxes that were shifted, six tenths of them of the right class."""
    from graftdet.utils.evaluation.coco_results import Results

    rng = np.random.default_rng(seed)
    results, annotations = Results(range(1, CLASSES + 1)), []
    for image in range(1, pictures + 1):
        count = rng.poisson(BOXES - 1) + 1
        sides = np.exp(rng.uniform(np.log(8), np.log(300), (count, 2)))
        corner = rng.uniform(0, 1, (count, 2)) * (640 - sides)
        true, labels = np.concatenate((corner, corner + sides), 1).round(2), rng.integers(0, CLASSES, count)
        for (x1, y1, x2, y2), label, crowd in zip(true.tolist(), labels.tolist(), rng.uniform(size=count) < 0.01):
            box = [x1, y1, x2 - x1, y2 - y1]
            entry = {
                "image_id": image,
                "category_id": label + 1,
                "bbox": box,
                "area": box[2] * box[3],
                "iscrowd": int(crowd),
            }
            annotations.append({"id": len(annotations) + 1, **entry})
        of = rng.integers(count, size=FOUND)
        boxes = true[of] + rng.normal(0, 0.1, (FOUND, 4)) * np.tile(sides[of], 2)
        boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 1)
        wrong = rng.integers(0, CLASSES, FOUND)
        classes = np.where(rng.uniform(size=FOUND) < 0.6, labels[of], wrong)
        results.add(image, np.column_stack((boxes, rng.uniform(0.001, 1, FOUND), classes)))
    categories = [{"id": number, "name": f"class {number}"} for number in range(1, CLASSES + 1)]
    truth = {
        "images": [{"id": image} for image in range(1, pictures + 1)],
        "annotations": annotations,
        "categories": categories,
    }
    return truth, results


def rows_of_coco(table: Table) -> None:
    """Once each, in time of one core: pycocotools takes most of a minute."""
    from graftdet.utils.evaluation.coco_ap import coco_scores

    truth, results = made_up(PICTURES)
    predictions = results.to_dicts()
    ours, seconds = timed(lambda: coco_scores(truth, results), time.process_time)
    _, of_list = timed(lambda: coco_scores(truth, predictions), time.process_time)
    theirs, reference = timed(lambda: by_pycocotools(truth, predictions), time.process_time)
    keys = ("AP50-95", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100")
    off = max(abs(ours[key] - number) for key, number in zip(keys, theirs, strict=False))
    table.add(f"COCO of {PICTURES:,} pictures, {FOUND} detections each: pycocotools", f"{reference:.1f} s")
    table.add("the same from a list of dicts, times as fast", f"{of_list:.2f} s", reference / of_list, at_least=FASTER)
    table.add(
        "the same from arrays, as val.py has them, times as fast",
        f"{seconds:.2f} s",
        reference / seconds,
        at_least=FASTER,
    )
    table.add("largest difference of the nine numbers", f"{off:.1e}", off, at_most=SAME)


def by_pycocotools(truth: dict, predictions: list[dict]) -> np.ndarray:
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


def timed(work, clock=time.perf_counter):
    """What `work` returns and how long it took by `clock`."""
    begun = clock()
    result = work()
    return result, clock() - begun


def rows_of_growth(table: Table) -> None:
    """All that comes after the model, suppression to curves and confusion, for ever more pictures; predictions written."""
    import torch
    from graftdet.utils.evaluation.evaluator import evaluate

    before = None
    for count in GROWTH:
        truth, results = made_up(count)
        rows = torch.from_numpy(results.rows()).reshape(count, FOUND, 6)

        def model(images, given=iter(rows)):  # as many pictures as there are, in turn; each of its boxes of one class
            mine = torch.stack([next(given) for _ in images])
            return mine[..., :4], torch.zeros(len(images), FOUND, CLASSES).scatter_(
                2, mine[..., 5:].long(), mine[..., 4:5]
            )

        images = torch.zeros(16, 3, 1, 1, dtype=torch.uint8)
        batches = [
            {"images": images[: len(ids)], "image_ids": ids, "gains": [1.0] * len(ids), "pads": [(0.0, 0.0)] * len(ids),
             "shapes": [(640, 640)] * len(ids)}
            for ids in (list(range(start, min(start + 16, count + 1))) for start in range(1, count + 1, 16))
        ]  # fmt: skip
        begun = time.process_time()
        found = evaluate(model, batches, ground_truth=truth, category_ids=range(1, CLASSES + 1), progress=False)
        with tempfile.TemporaryDirectory() as folder:
            found.results.write(Path(folder) / "predictions.json")
        seconds = (time.process_time() - begun) / count
        kept = found.results.rows().nbytes / count
        figure = f"{1e3 * seconds:.2f} ms of CPU time a picture, {kept / 1e3:.1f} kB kept of it"
        limit = {"value": seconds / before, "at_most": FLAT} if count == GROWTH[-1] else {}
        table.add(f"measuring {count:,} pictures, all but reading and the network", figure, **limit)
        before = seconds


def rows_of_val(table: Table, folder: Path) -> None:
    """val.py on BCCD's test split, from process start; then once more in parts."""
    yaml = "".join(
        f"{s}: {{images: images/{s}, annotations: annotations/instances_{s}.json}}\n" for s in ("train", "test")
    )
    with tempfile.TemporaryDirectory() as scratch:
        scratch = Path(scratch)
        (scratch / "bccd.yaml").write_text(f"format: coco\npath: '{folder.resolve().as_posix()}'\n{yaml}")
        make_weights(scratch / "bccd.yaml", scratch / "weights.pt")
        words = ["--weights", scratch / "weights.pt", "--data", scratch / "bccd.yaml", "--split", "test", "--img", SIDE]
        words = [str(word) for word in (*words, "--project", scratch / "runs", "--device", "cpu")]
        until_table, whole, processor = (min(column) for column in zip(*(run_val(words) for _ in range(3))))
        table.add(
            f"val.py, BCCD test at {SIDE}, process start to table", f"{until_table:.2f} s", until_table, at_most=VAL
        )
        table.add("the same to its end, files and charts written", f"{whole:.2f} s, {processor:.2f} s of CPU time")
        command = [sys.executable, "-m", "benchmarks.evaluation", "parts", str(time.time()), *words]
        told = subprocess.run(command, cwd=ROOT, env=plain_environment(), stdout=subprocess.PIPE, check=True, text=True)
        for part, seconds in json.loads(told.stdout.splitlines()[-1]).items():
            table.add(f"of it: {part}", f"{seconds:.2f} s")


def make_weights(data: Path, path: Path) -> None:
    """yolov5n as it begins, its objectness shifted so that it has as many candidates as after a training."""
    import torch
    from graftdet.data.dataset_config import load_data_config, open_split
    from graftdet.data.dataset import DetectionDataset
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


def plain_environment() -> dict[str, str]:
    """The environment, but compiled modules are kept, as they are where nobody forbids it."""
    return {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}


def run_val(words: list[str]) -> tuple[float, float, float]:
    """Seconds from the start of the process until the table is there, and until it has ended; CPU time of all its threads
    (0 on Windows)."""
    begun, before = time.perf_counter(), sum(os.times()[2:4])
    with subprocess.Popen(
        [sys.executable, "-u", "val.py", *words], cwd=ROOT, env=plain_environment(), stdout=subprocess.PIPE, text=True
    ) as process:
        for line in process.stdout:
            if line.startswith("speed per image"):
                there = time.perf_counter() - begun
        process.stdout.close()
    if process.returncode:
        raise SystemExit(f"val.py ended with status {process.returncode}")
    return there, time.perf_counter() - begun, sum(os.times()[2:4]) - before


def parts_of_val(begun: float, words: list[str]) -> dict[str, float]:
    """The seconds of each part of val.py; `begun` is the clock's time when the process was started."""
    from graftdet.utils.evaluation import evaluator as evaluate

    from graftdet import val

    seconds = {"imports": time.time() - begun}
    spans: dict[str, float] = {}
    for module, name in ((val, "load_models"), (val, "open_split"), (val, "evaluate"), (evaluate, "score")):
        setattr(module, name, _watched(getattr(module, name), spans))
    start = time.perf_counter()
    result = val.main(words)
    whole = time.perf_counter() - start
    speed = {name: value * result.images / 1000 for name, value in result.speed.items()}
    seconds |= {"weights": spans["load_models"], "data set": spans["open_split"]}
    seconds["network"] = speed["preprocess"] + speed["inference"]
    seconds["suppression"] = speed["nms"]
    seconds["waiting for pictures"] = spans["evaluate"] - spans["score"] - sum(speed.values())
    seconds["scoring"] = spans["score"]
    seconds["files, charts and the rest"] = whole - sum(
        spans[name] for name in ("load_models", "open_split", "evaluate")
    )
    return seconds


def _watched(work, spans: dict[str, float]):
    def run(*args, **kwargs):
        result, spans[work.__name__] = timed(lambda: work(*args, **kwargs))
        return result

    return run


def main() -> int:
    table = Table("Measuring: COCO's numbers, time as pictures grow in number, val.py")
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
