"""Which model YAMLs every reader of an exported file loads and computes correctly: writes docs/export-support.md.

Each YAML is built with random weights and the batch statistics of noise, exported at 320x320, and compared with torch.
Of YAMLs that differ in `depth_multiple` and `width_multiple` alone, the narrowest is tried; the operations are equal.
Other versions of OpenCV run in their own processes: `--opencv FOLDER ...` names folders of
`pip install --no-deps --target FOLDER opencv-python-headless==VERSION "numpy<2"`. Finished results are read from the
JSON file, so that an interrupted run continues.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import yaml

from benchmarks.table import ROOT
from graftdet.models import DetectionModel, build_model
from graftdet.models.backends import BACKENDS, ExportOptions
from graftdet.models.backends.receipt.verify import noise_images, relative_difference
from graftdet.utils.errors import UserError, first_line
from graftdet.utils.tables import markdown_table

SIZE = 320  # or the next multiple of the stride
LIMIT = 1e-3  # of the largest |a-b|/max(1,|b|)
MAX_PARAMETERS = 30e6  # larger YAMLs are tried with the multiples of yolov5n
NARROW = {"depth_multiple": 0.33, "width_multiple": 0.25}
NARROWED = "narrowed"  # key of a row
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
        lines = str(error).strip().splitlines()
        result[name] = next((line for line in lines if "Node [" in line), lines[0][-150:])
print("RESULT" + json.dumps(result))
"""


def mapping_of(name: str) -> dict[str, Any]:
    """The content of a model YAML."""
    return yaml.safe_load((ROOT / "configs" / "models" / f"{name}.yaml").read_text(encoding="utf-8"))


def trained_looking(name: str) -> tuple[DetectionModel, bool]:
    """The model of a YAML with random weights whose signals reach the head: batch statistics of noise.

    Args:
        name: name of the YAML.

    Returns:
        The model, and whether it has the multiples `NARROW` instead of its own, which need more than `MAX_PARAMETERS`.
    """
    torch.manual_seed(0)
    model = build_model(f"{name}.yaml")
    is_wide = sum(p.numel() for p in model.parameters()) > MAX_PARAMETERS
    if is_wide:
        model = build_model(mapping_of(name) | NARROW)
    with torch.no_grad():
        for seed in range(3):
            images = noise_images(2, (2 * model.size_multiple,) * 2, model.channels, seed)
            model.train().raw_outputs(torch.from_numpy(images))
        for _, classes in model.head.output_biases():
            classes.fill_(-1.0)
    return model.eval(), is_wide


def larger_sizes(names: Sequence[str]) -> dict[str, str]:
    """YAML -> the narrowest one of the same rows, for those that differ from it in their multiples alone."""
    families: dict[str, list[tuple[float, str]]] = {}
    for name in names:
        model = mapping_of(name)
        rows = {key: value for key, value in model.items() if key not in ("depth_multiple", "width_multiple", "nc")}
        families.setdefault(json.dumps(rows), []).append((model.get("width_multiple", 1), name))
    return {name: min(family)[1] for family in families.values() for _, name in family if name != min(family)[1]}


def complete_row(name: str, formats: list[str], opencv: list[Path], row: dict[str, Any], deadline: float) -> None:
    """Add what is missing in a row, reader -> largest difference, or why it does not run the file, or `CONVERTED`."""
    keys = [(f, False) for f in formats] + [(f, True) for f in formats if BACKENDS[f].has_free_sizes]
    missing = [(f, is_dynamic) for f, is_dynamic in keys if f + " dynamic" * is_dynamic not in row]
    readers = (
        [path for path in [None, *opencv] if f"OpenCV {opencv_version(path)}" not in row] if "onnx" in formats else []
    )
    if not (missing or readers) or time.monotonic() > deadline:
        return
    model, row[NARROWED] = trained_looking(name)
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
    return ".".join(names[0].split("-")[1].split(".")[:3]) if names else "?"  # the package has a fourth number


def opencv_results(folder: str, packages: Path | None) -> dict[str, Any]:
    """Results of one OpenCV: of this Python, or of the packages in a folder."""
    environment = {**os.environ, "OPENCV_LOG_LEVEL": "OFF"} | ({"PYTHONPATH": str(packages)} if packages else {})
    command = [sys.executable, *(["-S"] if packages else []), "-c", CHECK, folder]  # -S: without this environment's
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    texts = [line[6:] for line in done.stdout.splitlines() if line.startswith("RESULT")]
    if not texts:
        return {f"OpenCV {opencv_version(packages)}": f"the process ends with status {done.returncode}"}
    result = json.loads(texts[0])
    name = f"OpenCV {result['version']}"
    return {name: result["fixed"], f"{name} dynamic": result["dynamic"]}


def cell(value: Any) -> str:
    """A result as the table shows it."""
    if isinstance(value, str):
        return "converts" if value == CONVERTED else "no"
    return "-" if value is None else "yes" if value < LIMIT else f"wrong ({value:.0e})"


def reason(value: str) -> str:
    """Why a reader does not run a file, in a few words: for OpenCV and ncnn the operation, if it is known."""
    if node := re.search(r"Node \[(\w+)", value):
        return f"does not read the operation {node[1]}"
    layer = re.search(r"layer (\S+) not exists", value)
    return f"ncnn lacks {layer[1]}" if layer else value


def readers_of(rows: Iterable[dict[str, Any]]) -> list[str]:
    """The columns: formats, then versions of OpenCV, those of dynamic files last; none of OpenCV 4 for them."""
    found = {key for row in rows for key in row} - {NARROWED}
    own = [name + end for end in ("", " dynamic") for name in BACKENDS if name + end in found]
    others = sorted(found.difference(own), key=lambda key: ("dynamic" in key, list(map(int, re.findall(r"\d+", key)))))
    return own + [key for key in others if "OpenCV 4" not in key or "dynamic" not in key]


def markdown(rows: dict[str, dict[str, Any]]) -> str:
    """The page: a table, and the reason of every 'no'."""
    done = {name: row for name, row in rows.items() if row and "as" not in row}
    readers = readers_of(done.values())
    titles = {name: [name, *(key for key, row in rows.items() if row.get("as") == name)] for name in done}
    narrowed = [name for name, row in done.items() if row.get(NARROWED)]
    text = ["# Export support", "", "<!-- Generated by `python -m benchmarks.export_support`; do not edit. -->", ""]
    text += [
        f"{sum(map(len, titles.values()))} YAMLs of `configs/models`, exported at {SIZE}x{SIZE} with random weights "
        "and compared with torch. `yes`: the largest `|a - b| / max(1, |b|)` over all boxes and scores is below "
        f"{LIMIT:g}; `no`: see [Reasons](#reasons); `-`: not tried; `converts`: the conversion succeeds, and the "
        "format runs on another operating system only. `dynamic` is a file of `--dynamic`; no OpenCV 4 reads one. "
        "Where several YAMLs share a line, they differ in `depth_multiple` and `width_multiple` alone, and the first, "
        "the narrowest, was tried: all have the same operations.",
        "",
        markdown_table(
            ["model", *readers],
            [[", ".join(titles[name]), *(cell(row.get(key)) for key in readers)] for name, row in done.items()],
        ),
        *([f"\nTried with {NARROW}, for their size: {', '.join(narrowed)}."] if narrowed else []),
        "",
        "## Reasons",
        "",
    ]
    for name, row in done.items():
        reasons: dict[str, list[str]] = {}
        for key in readers:
            if cell(row.get(key)) == "no":
                reasons.setdefault(reason(row[key]), []).append(key)
        text += [f"- {name}: {', '.join(keys)}: {why}" for why, keys in reasons.items()]
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
    smallest = larger_sizes(sorted(path.stem for path in (ROOT / "configs" / "models").glob("*.yaml")))
    formats = [name for name in options.formats if BACKENDS[name].can_export]
    for name in names:
        row = rows.setdefault(name, {})
        before = dict(row)
        if name in smallest:
            row = rows[name] = {"as": smallest[name]}
        else:
            complete_row(name, formats, options.opencv, row, deadline)
        if row != before:
            print(name, flush=True)
            options.output.parent.mkdir(parents=True, exist_ok=True)
            options.output.write_text(json.dumps(dict(sorted(rows.items())), indent=1) + "\n", encoding="utf-8")
    if options.output == results:
        (ROOT / "docs" / "export-support.md").write_text(markdown(dict(sorted(rows.items()))), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
