"""The light models of this project compared with yolov5n: parameters, FLOPs, and latency per image in each runtime."""

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from graftdet.models import build_model
from graftdet.models.analysis.summary import summarize, totals
from graftdet.models.backends import ExportOptions
from graftdet.models.backends.onnx import export, load
from graftdet.models.backends.tracing.export_module import ExportModule

from .table import Table, parser, time_alternately

FAMILY = [
    ("graft-n.yaml", 640),
    ("yolov5n-free.yaml", 640),
    ("yolov5n-nms-free.yaml", 640),
    ("picodet.yaml", 640),
    ("graft-p.yaml", 416),
]
REFERENCE = "yolov5n.yaml"


def main() -> int:
    """Print the table; returns the exit status."""
    title = "Light models at batch 1, 80 classes, untrained; ratios to yolov5n.yaml at the same size"
    table = Table(title, parser("family", __doc__).parse_args().output)
    with tempfile.TemporaryDirectory() as folder:
        for size in (640, 416):
            names = [REFERENCE, *(name for name, side in FAMILY if side == size)]
            calls = [call for name in names for call in _calls(name, size, Path(folder))]
            times = [1e3 * seconds for seconds in time_alternately(calls, repeats=15)]
            for index, name in enumerate(names):
                t = totals(summarize(build_model(name), (size, size)))
                cost = f"{t['params'] / 1e6:.2f} M parameters, {t['flops'] / 1e9:.2f} GFLOPs"
                for runtime, column in (("torch", 0), ("onnxruntime", 1)):
                    taken, reference = times[2 * index + column], times[column]
                    table.add(f"{name} at {size}, {runtime}", f"{cost}, {taken:.1f} ms", taken / reference)
    return bool(table.short)


def _calls(name: str, size: int, folder: Path) -> tuple[Callable[[], object], Callable[[], object]]:
    """Runs of one image: fused model in torch, float32, and its ONNX file in onnxruntime."""
    torch.manual_seed(0)
    model = build_model(name)
    eager = ExportModule(model)
    path = export(model, folder / f"{Path(name).stem}-{size}.onnx", ExportOptions(size=(size, size)))
    exported = load(path)
    image = np.random.default_rng(0).random((1, 3, size, size), np.float32)
    tensor = torch.from_numpy(image)

    def run_torch() -> None:
        with torch.inference_mode():
            eager(tensor)

    return run_torch, lambda: exported(image)


if __name__ == "__main__":
    sys.exit(main())
