"""`make demo`: train, validate, detect and export once on a drawn dataset, with a table and images at the end.

It runs the four scripts as a user would, in the folder `demo/`, and ends with status 1 when AP50 is too low.
"""

import csv
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DEMO = ROOT / "demo"
MIN_AP50 = 0.90
EPOCHS, SIZE = 6, 160
TITLES = {
    "data": "draw the dataset",
    "train": "train",
    "val": "validate",
    "detect": "detect objects in images",
    "video": "detect objects in a video",
    "export": "export",
    "onnx": "validate the ONNX file",
}


def run(title: str, *command: str) -> float:
    """Run a Python command from the checkout and return its seconds; a failure ends the demo."""
    print(f"\n== {title}: python {' '.join(command)}", flush=True)
    start = time.perf_counter()
    result = subprocess.run(
        [sys.executable, *command], cwd=ROOT, env={**os.environ, "DATASETS_DIR": str(DEMO / "datasets")}
    )
    if result.returncode:
        sys.exit(f"demo: '{title}' ended with status {result.returncode}")
    return time.perf_counter() - start


def main():
    shutil.rmtree(DEMO, ignore_errors=True)
    weights, exported, size = "demo/train/weights/best.pt", "demo/train/weights/best.onnx", SIZE
    images, project = "demo/datasets/shapes/images/test", "--project demo --name"
    steps = {
        "data": "-m data shapes --out demo/datasets/shapes --video demo/shapes.mp4",
        "train": f"train.py --data shapes.yaml --cfg graft-n.yaml --img {size} --epochs {EPOCHS} --batch-size 16 {project} train",
        "val": f"val.py --weights {weights} --data shapes.yaml --img {size} {project} val",
        "detect": f"detect.py --weights {weights} --source {images} --img {size} {project} images",
        "video": f"detect.py --weights {weights} --source demo/shapes.mp4 --img {size} {project} video",
        "export": f"export.py --weights {weights} --img {size} --dynamic --out {exported}",
        "onnx": f"val.py --weights {exported} --data shapes.yaml --img {size} {project} val-onnx",
    }
    times = {name: run(TITLES[name], *command.split()) for name, command in steps.items()}
    sys.exit(report(times))


def report(times: dict[str, float]) -> int:
    """Print the table and the paths of the images; return the exit status."""
    with open(DEMO / "train" / "results.csv", newline="") as file:
        epochs = list(csv.DictReader(file))
    best = json.loads((DEMO / "val" / "metrics.json").read_text(encoding="utf-8"))
    onnx = json.loads((DEMO / "val-onnx" / "metrics.json").read_text(encoding="utf-8"))
    rows = [
        ("epochs", f"{len(epochs)}"),
        ("AP50-95, AP50 (torch)", f"{best['AP50-95']:.3f}, {best['AP50']:.3f}"),
        ("AP50-95, AP50 (ONNX)", f"{onnx['AP50-95']:.3f}, {onnx['AP50']:.3f}"),
        ("seconds", ", ".join(f"{name} {seconds:.0f}" for name, seconds in times.items())),
        ("total seconds", f"{sum(times.values()):.0f}"),
    ]
    print("\n" + "\n".join(f"{name:24s}{value}" for name, value in rows))
    print("\nImages to view:")
    for path in ("train/results.png", "train/train_batch0.jpg", "images", "video"):
        print(f"  demo/{path}")
    if min(best["AP50"], onnx["AP50"]) < MIN_AP50:
        print(f"demo: AP50 is below {MIN_AP50}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    main()
