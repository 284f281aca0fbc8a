"""Which model YAMLs every reader of an exported file loads and computes correctly: writes docs/export-support.md.

Each YAML is built with random weights and the batch statistics of noise, exported at 320x320, and compared with torch.
Other versions of OpenCV run in their own processes: `--opencv FOLDER ...` names folders of
`pip install --no-deps --target FOLDER opencv-python-headless==VERSION "numpy<2"`. Finished rows are read from the JSON
file, so that an interrupted run continues.
"""

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.table import ROOT
from graftdet.models import DetectionModel, build_model
from graftdet.models.backends import BACKENDS, ExportOptions
from graftdet.models.backends.receipt.verify import noise_images, relative_difference
from graftdet.utils.errors import UserError, first_line
from graftdet.utils.tables import markdown_table

SIZE = (320, 320)
LIMIT = 1e-3  # of the largest |a-b|/max(1,|b|)
MAX_PARAMETERS = 30e6  # larger sizes of a YAML have the same rows
CHECK = """
import json, sys
import cv2, numpy as np
result = {"version": cv2.__version__}
data = np.load(sys.argv[1] + "/data.npz")
for name in ("fixed", "dynamic"):
    try:
        net = cv2.dnn.readNetFromONNX(sys.argv[1] + "/" + name + ".onnx")
        net.setInput(data["images"])
        rows, expected = net.forward(), data["rows"]
        rows, expected = (np.concatenate((a[..., :4], a[..., 4:5] * a[..., 5:]), -1) for a in (rows, expected))
        result[name] = float((np.abs(rows - expected) / np.maximum(1, np.abs(expected))).max())
    except Exception as error:
        result[name] = str(error).strip().splitlines()[0][-150:]
print("RESULT" + json.dumps(result))
"""


def trained_looking(name: str) -> DetectionModel:
    """The model of a YAML with random weights whose signals reach the head: batch statistics of noise."""
    torch.manual_seed(0)
    model = build_model(name)
    with torch.no_grad():
        for seed in range(3):
            images = noise_images(2, (2 * model.size_multiple,) * 2, model.channels, seed)
            model.train().raw_outputs(torch.from_numpy(images))
        for _, classes in model.head.output_biases():
            classes.fill_(-1.0)
    return model.eval()


def row_of(name: str, opencv: list[Path]) -> dict[str, Any]:
    """Reader -> largest difference, or why it does not run the file."""
    model = trained_looking(name)
    parameters = sum(p.numel() for p in model.parameters())
    if parameters > MAX_PARAMETERS:
        return {"skipped": f"{parameters / 1e6:.0f} million parameters"}
    images = noise_images(1, SIZE, model.channels, 9)
    with torch.inference_mode():
        expected = [output.numpy() for output in model(torch.from_numpy(images))]
    row: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for kind in ("fixed", "dynamic"):
            for format_name in BACKENDS:
                backend = BACKENDS[format_name]
                key = format_name + " dynamic" * (kind == "dynamic")
                if importlib.util.find_spec(backend.package) is None:
                    row[key] = f"{backend.package} is not installed"
                    continue
                try:
                    options = ExportOptions(SIZE, dynamic=kind == "dynamic")
                    path = backend.export(model, Path(folder) / f"{kind}{backend.suffix}", options)
                    loaded = backend.load(path)
                    row[key] = max(map(relative_difference, loaded.forward(images), expected))
                    if format_name == "onnx":
                        np.savez(Path(folder) / "data.npz", images=images, rows=loaded.predictions(images))
                except UserError as error:
                    row[key] = first_line(error)[:200]
        for path in [None, *opencv]:
            row |= opencv_results(folder, path)
    return row


def opencv_results(folder: str, packages: Path | None) -> dict[str, Any]:
    """Results of one OpenCV: of this Python, or of the packages in a folder."""
    environment = {**os.environ, "OPENCV_LOG_LEVEL": "OFF"} | ({"PYTHONPATH": str(packages)} if packages else {})
    command = [sys.executable, *(["-S"] if packages else []), "-c", CHECK, folder]  # -S: without this environment's
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    texts = [line[6:] for line in done.stdout.splitlines() if line.startswith("RESULT")]
    if not texts:
        return {f"OpenCV in {packages}": f"ended with status {done.returncode}"}
    result = json.loads(texts[0])
    name = f"OpenCV {result['version']}"
    return {name: result["fixed"], f"{name} dynamic": result["dynamic"]}


def cell(value: Any) -> str:
    """What a table shows of a result."""
    if isinstance(value, str):
        return "no"
    return "-" if value is None else "yes" if value < LIMIT else f"wrong ({value:.0e})"


def markdown(rows: dict[str, dict[str, Any]]) -> str:
    """The page: a table, and the reason of every 'no'."""
    done = {name: row for name, row in rows.items() if "skipped" not in row}
    readers = list(dict.fromkeys(key for row in done.values() for key in row))
    readers = [key for key in readers if "OpenCV 4" not in key or "dynamic" not in key]
    text = ["# Export support", "", "<!-- Generated by `python -m benchmarks.export_support`; do not edit. -->", ""]
    text += [
        f"{len(done)} YAMLs of `configs/models` (of up to {MAX_PARAMETERS / 1e6:.0f} million parameters), exported "
        f"at {SIZE[0]}x{SIZE[1]} and compared with torch: `yes` where the largest `|a - b| / max(1, |b|)` over all "
        f"boxes and scores is below {LIMIT:g}. `dynamic` is a file of `--dynamic`; no OpenCV 4 reads one.",
        "",
        markdown_table(
            ["model", *readers], [[name, *(cell(row.get(key)) for key in readers)] for name, row in done.items()]
        ),
        "",
        "## Reasons",
        "",
    ]
    for name, row in done.items():
        text += [f"- {name}, {key}: {row[key]}" for key in readers if isinstance(row.get(key), str)]
    return "\n".join(text) + "\n"


def main() -> int:
    """Complete the JSON file and write the page; returns the exit status."""
    found = argparse.ArgumentParser(prog="python -m benchmarks.export_support", description=__doc__)
    found.add_argument("models", nargs="*", help="model YAMLs (default: all of configs/models)")
    found.add_argument("--opencv", nargs="+", type=Path, default=[], metavar="FOLDER", help="further OpenCV versions")
    results = ROOT / "benchmarks" / "results" / "export_support.json"
    found.add_argument("--output", type=Path, default=results, help="JSON file (default: %(default)s)")
    found.add_argument("--again", action="store_true", help="ignore finished rows")
    options = found.parse_args()
    names = options.models or sorted(path.stem for path in (ROOT / "configs" / "models").glob("*.yaml"))
    is_known = options.output.is_file() and not options.again
    rows = json.loads(options.output.read_text(encoding="utf-8")) if is_known else {}
    for name in names:
        if name not in rows:
            print(name, flush=True)
            rows[name] = row_of(f"{name}.yaml", options.opencv)
            options.output.parent.mkdir(parents=True, exist_ok=True)
            options.output.write_text(json.dumps(dict(sorted(rows.items())), indent=1) + "\n", encoding="utf-8")
    if options.output == results:
        (ROOT / "docs" / "export-support.md").write_text(markdown(dict(sorted(rows.items()))), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
