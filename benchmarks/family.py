"""This project's own light models beside yolov5n: cost on paper, and time of one picture through each runtime."""

import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from graftdet.models import build_model
from graftdet.models.analysis.summary import summarize, totals
from graftdet.models.backends import ExportOptions
from graftdet.models.backends.export_module import ExportModule
from graftdet.models.backends.onnx import export, load

from .table import Table, take_turns

FAMILY = [
    ("graft-n.yaml", 640),
    ("yolov5n-free.yaml", 640),
    ("yolov5n-nms-free.yaml", 640),
    ("picodet.yaml", 640),
    ("graft-p.yaml", 416),
]
REFERENCE = "yolov5n.yaml"


def main() -> int:
    table = Table("The family at batch 1, 80 classes, untrained; ratios are to yolov5n.yaml at the same size")
    with tempfile.TemporaryDirectory() as folder:
        for size in (640, 416):
            words = [REFERENCE, *(word for word, side in FAMILY if side == size)]
            calls = [call for word in words for call in _calls(word, size, Path(folder))]
            times = [1e3 * seconds for seconds in take_turns(calls, repeats=15)]
            for place, word in enumerate(words):
                t = totals(summarize(build_model(word), (size, size)))
                cost = f"{t['params'] / 1e6:.2f} M parameters, {t['flops'] / 1e9:.2f} GFLOPs"
                for runtime, column in (("torch", 0), ("onnxruntime", 1)):
                    taken, reference = times[2 * place + column], times[column]
                    table.add(f"{word} at {size}, {runtime}", f"{cost}, {taken:.1f} ms", taken / reference)
    return bool(table.short)


def _calls(word: str, size: int, folder: Path):
    """One picture through the fused model by torch in float32, and through its ONNX file."""
    torch.manual_seed(0)
    model = build_model(word)
    eager = ExportModule(model)
    path = export(model, folder / f"{Path(word).stem}-{size}.onnx", ExportOptions(size=(size, size)))
    exported = load(path)
    image = np.random.default_rng(0).random((1, 3, size, size), np.float32)
    tensor = torch.from_numpy(image)

    def by_torch():
        with torch.inference_mode():
            eager(tensor)

    return by_torch, lambda: exported(image)


if __name__ == "__main__":
    sys.exit(main())
