"""`make demo`: the whole way once on the embedded data set, with a table and pictures at the end.

It runs the four scripts as a user would, in the folder `demo/`, and ends with status 1 when what was learnt is too
little.
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
LEAST_AP50 = 0.90
EPOCHS, SIZE = 6, 160


def run(title: str, *command: str) -> float:
    """Run a Python command from the checkout; return its seconds. Its failure ends the demo."""
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
    weights, exported = "demo/train/weights/best.pt", "demo/train/weights/best.onnx"
    pictures, size = "demo/datasets/shapes/images/test", str(SIZE)
    times = {
        "data": run(
            "draw the data set", "-m", "data", "shapes", "--out", "demo/datasets/shapes", "--video", "demo/shapes.mp4"
        ),
        "train": run(
            "train",
            "train.py",
            "--data",
            "shapes.yaml",
            "--cfg",
            "graft-n.yaml",
            "--img",
            size,
            "--epochs",
            str(EPOCHS),
            "--batch-size",
            "16",
            "--project",
            "demo",
            "--name",
            "train",
        ),  # fmt: skip
        "val": run(
            "validate",
            "val.py",
            "--weights",
            weights,
            "--data",
            "shapes.yaml",
            "--img",
            size,
            "--project",
            "demo",
            "--name",
            "val",
        ),  # fmt: skip
        "detect": run(
            "detect on pictures",
            "detect.py",
            "--weights",
            weights,
            "--source",
            pictures,
            "--img",
            size,
            "--project",
            "demo",
            "--name",
            "pictures",
        ),  # fmt: skip
        "video": run(
            "detect on a video",
            "detect.py",
            "--weights",
            weights,
            "--source",
            "demo/shapes.mp4",
            "--img",
            size,
            "--project",
            "demo",
            "--name",
            "video",
        ),  # fmt: skip
        "export": run("export", "export.py", "--weights", weights, "--img", size, "--dynamic", "--out", exported),
        "onnx": run(
            "validate the ONNX file",
            "val.py",
            "--weights",
            exported,
            "--data",
            "shapes.yaml",
            "--img",
            size,
            "--project",
            "demo",
            "--name",
            "val-onnx",
        ),  # fmt: skip
    }
    sys.exit(report(times))


def report(times: dict[str, float]) -> int:
    """Print the table and where to look; return the exit status."""
    with open(DEMO / "train" / "results.csv", newline="") as file:
        epochs = list(csv.DictReader(file))
    best = json.loads((DEMO / "val" / "metrics.json").read_text(encoding="utf-8"))
    onnx = json.loads((DEMO / "val-onnx" / "metrics.json").read_text(encoding="utf-8"))
    rows = [
        ("epochs", f"{len(epochs)}"),
        ("AP50-95, AP50 (torch)", f"{best['AP50-95']:.3f}, {best['AP50']:.3f}"),
        ("AP50-95, AP50 (ONNX)", f"{onnx['AP50-95']:.3f}, {onnx['AP50']:.3f}"),
        ("seconds", ", ".join(f"{name} {seconds:.0f}" for name, seconds in times.items())),
        ("seconds in all", f"{sum(times.values()):.0f}"),
    ]
    print("\n" + "\n".join(f"{name:24s}{value}" for name, value in rows))
    print("\nPictures to look at:")
    for path in ("train/results.png", "train/train_batch0.jpg", "pictures", "video"):
        print(f"  demo/{path}")
    if min(best["AP50"], onnx["AP50"]) < LEAST_AP50:
        print(f"demo: AP50 is below {LEAST_AP50}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    main()
