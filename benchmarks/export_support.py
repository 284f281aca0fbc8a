"""Which model YAMLs every reader of an exported file loads and computes correctly: writes docs/export-support.md.

Each YAML is built with random weights and the batch statistics of noise, exported at 320x320, and compared with torch.
Other versions of OpenCV run in their own processes: `--opencv FOLDER ...` names folders of
`pip install --no-deps --target FOLDER opencv-python-headless==VERSION "numpy<2"`. Finished results are read from the
JSON file, so that an interrupted run continues.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from benchmarks.table import ROOT
from graftdet.models import DetectionModel, build_model
from graftdet.models.backends import BACKENDS, ExportOptions
from graftdet.models.backends.receipt.verify import noise_images, relative_difference
from graftdet.utils.errors import UserError, first_line
from graftdet.utils.tables import markdown_table

SIZE = 320  # or the next multiple of the stride
LIMIT = 1e-3  # of the largest |a-b|/max(1,|b|)
MAX_PARAMETERS = 30e6  # larger sizes of a YAML have the same rows
CONVERTED = "converted"  # cannot be run on this operating system
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


def complete_row(name: str, formats: list[str], opencv: list[Path], row: dict[str, Any], deadline: float) -> None:
    """Add what is missing in a row, reader -> largest difference, or why it does not run the file, or `CONVERTED`."""
    keys = [(f, False) for f in formats] + [(f, True) for f in formats if BACKENDS[f].has_free_sizes]
    missing = [(f, is_dynamic) for f, is_dynamic in keys if f + " dynamic" * is_dynamic not in row]
    readers = (
        [path for path in [None, *opencv] if f"OpenCV {opencv_version(path)}" not in row] if "onnx" in formats else []
    )
    if "skipped" in row or not (missing or readers) or time.monotonic() > deadline:
        return
    model = trained_looking(name)
    parameters = sum(p.numel() for p in model.parameters())
    if parameters > MAX_PARAMETERS:
        row["skipped"] = f"{parameters / 1e6:.0f} million parameters"
        return
    side = -(-SIZE // model.size_multiple) * model.size_multiple
    images = noise_images(1, (side, side), model.channels, 9)
    with torch.inference_mode():
        expected = [output.numpy() for output in model(torch.from_numpy(images))]
    with tempfile.TemporaryDirectory() as folder:
        for format_name, is_dynamic in missing:
            if time.monotonic() < deadline:
                path = Path(folder) / (("dynamic" if is_dynamic else "fixed") + BACKENDS[format_name].suffix)
                options = ExportOptions((side, side), dynamic=is_dynamic)
                row[format_name + " dynamic" * is_dynamic] = result(model, format_name, path, options, images, expected)
        if readers:
            write_opencv_inputs(model, Path(folder), images)
        for reader in readers:
            row |= opencv_results(folder, reader)


def result(
    model: DetectionModel, name: str, path: Path, options: ExportOptions, images: np.ndarray, expected: list[np.ndarray]
) -> Any:
    """The largest difference of an export from the expected boxes and scores, or why there is none."""
    backend = BACKENDS[name]
    try:
        backend.export(model, path, options)
        return (
            max(map(relative_difference, backend.load(path).forward(images), expected))
            if backend.runs_here
            else CONVERTED
        )
    except UserError as error:
        return first_line(error).removeprefix(f"{path}: ")[:200]


def write_opencv_inputs(model: DetectionModel, folder: Path, images: np.ndarray) -> None:
    """Write the ONNX files that are missing, the images and the rows of onnxruntime."""
    for kind in ("fixed", "dynamic"):
        path = folder / f"{kind}.onnx"
        if not path.is_file():
            BACKENDS["onnx"].export(model, path, ExportOptions(images.shape[2:], dynamic=kind == "dynamic"))
    np.savez(folder / "data.npz", images=images, rows=BACKENDS["onnx"].load(folder / "fixed.onnx").predictions(images))


def opencv_version(packages: Path | None) -> str:
    """The version of OpenCV of this Python, or of the packages in a folder."""
    if packages is None:
        return cv2.__version__
    names = [path.name for path in packages.glob("opencv_python*.dist-info")]
    return names[0].split("-")[1].rsplit(".", 1)[0] if names else "?"


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
        return "converts" if value == CONVERTED else "no"
    return "-" if value is None else "yes" if value < LIMIT else f"wrong ({value:.0e})"


def markdown(rows: dict[str, dict[str, Any]]) -> str:
    """The page: a table, and the reason of every 'no'."""
    done = {name: row for name, row in rows.items() if row and "skipped" not in row}
    found = dict.fromkeys(key for row in done.values() for key in row)
    own = [name + end for end in ("", " dynamic") for name in BACKENDS if name + end in found]
    readers = own + sorted(key for key in found if key not in own)
    readers = [key for key in readers if "OpenCV 4" not in key or "dynamic" not in key]
    text = ["# Export support", "", "<!-- Generated by `python -m benchmarks.export_support`; do not edit. -->", ""]
    text += [
        f"{len(done)} YAMLs of `configs/models` (of up to {MAX_PARAMETERS / 1e6:.0f} million parameters), exported "
        f"at {SIZE}x{SIZE} and compared with torch: `yes` where the largest `|a - b| / max(1, |b|)` over all "
        f"boxes and scores is below {LIMIT:g}, `-` where it was not tried, `converts` where the conversion succeeds "
        "and the format runs on another operating system only. `dynamic` is a file of `--dynamic`; no OpenCV 4 reads "
        "one.",
        "",
        markdown_table(
            ["model", *readers], [[name, *(cell(row.get(key)) for key in readers)] for name, row in done.items()]
        ),
        "",
        "## Reasons",
        "",
    ]
    for name, row in done.items():
        text += [f"- {name}, {key}: {row[key]}" for key in readers if cell(row.get(key)) == "no"]
    return "\n".join(text) + "\n"


def main() -> int:
    """Complete the JSON file and write the page; returns the exit status."""
    found = argparse.ArgumentParser(prog="python -m benchmarks.export_support", description=__doc__)
    found.add_argument("models", nargs="*", help="model YAMLs (default: all of configs/models)")
    found.add_argument("--opencv", nargs="+", type=Path, default=[], metavar="FOLDER", help="further OpenCV versions")
    results = ROOT / "benchmarks" / "results" / "export_support.json"
    found.add_argument("--output", type=Path, default=results, help="JSON file (default: %(default)s)")
    found.add_argument(
        "--formats", nargs="+", default=list(BACKENDS), choices=list(BACKENDS), help="only these formats"
    )
    found.add_argument("--again", action="store_true", help="ignore finished rows")
    found.add_argument("--seconds", type=float, default=float("inf"), help="begin nothing after this time")
    options = found.parse_args()
    names = options.models or sorted(path.stem for path in (ROOT / "configs" / "models").glob("*.yaml"))
    is_known = options.output.is_file() and not options.again
    rows = json.loads(options.output.read_text(encoding="utf-8")) if is_known else {}
    deadline = time.monotonic() + options.seconds
    formats = [name for name in options.formats if BACKENDS[name].can_export]
    for name in names:
        row = rows.setdefault(name, {})
        before = dict(row)
        complete_row(f"{name}.yaml", formats, options.opencv, row, deadline)
        if row != before:
            print(name, flush=True)
            options.output.parent.mkdir(parents=True, exist_ok=True)
            options.output.write_text(json.dumps(dict(sorted(rows.items())), indent=1) + "\n", encoding="utf-8")
    if options.output == results:
        (ROOT / "docs" / "export-support.md").write_text(markdown(dict(sorted(rows.items()))), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
