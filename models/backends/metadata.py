"""The metadata of exported files: written as JSON texts, read from our files and those of other exporters."""

import ast
import hashlib
import json
from collections.abc import Mapping
from importlib import import_module
from typing import Any

VERSION = 2
READ_KEYS = tuple(
    "task names nc stride size imgsz needs_nms square_letterbox squares end2end made_by output raw version "
    "weights_sha256 conf iou max_det dynamic".split()
)
LETTERBOX = {"padding": 114, "centered": True, "enlarges": True}
NORMALIZATION = {"channels": "RGB", "mean": [0, 0, 0], "std": [255, 255, 255]}


def make_metadata(model: Any, options: Any) -> dict[str, str]:
    """The metadata of an exported `DetectionModel`: key -> JSON, or plain text where the value is a string.

    Args:
        model: the exported model.
        options: the `ExportOptions` it was exported with.
    """
    values = {
        "task": "detect",
        "names": str(dict(enumerate(model.names))),  # the form that programs for YOLOv5 files parse
        "nc": model.nc,
        "stride": model.size_multiple,
        "size": list(options.size),
        "dynamic": options.dynamic,
        "output": options.output,
        "needs_nms": model.needs_nms and options.output != "nms",
        "square_letterbox": options.square_letterbox,
        "letterbox": LETTERBOX,
        "normalization": NORMALIZATION,
        "anchors": anchors_in_pixels(model),
        "weights_sha256": weights_sha256(model),
        "version": VERSION,
        "made_by": "graftdet",
        "graftdet": import_module("graftdet").__version__,
    }
    if options.output == "raw":
        values["raw"] = {**model.head.raw_format(), "strides": model.head.strides, "layout": options.raw_layout}
    if options.output == "nms":
        values |= {"conf": options.conf, "iou": options.iou, "max_det": options.max_det}
    return {
        key: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False) for key, value in values.items()
    }


def anchors_in_pixels(model: Any) -> list | None:
    """The anchors in use, (levels, A, 2) widths and heights in pixels; None for heads without."""
    if model.head.anchors is None:
        return None
    pairs = zip(model.head.anchors.tolist(), model.head.strides, strict=True)
    return [[[round(side * stride, 3) for side in anchor] for anchor in level] for level, stride in pairs]


def weights_sha256(model: Any) -> str:
    """A hash of all parameters and buffers of a model, independent of the file that contains them."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def parse_value(text: str | None) -> Any:
    """A value written as JSON, or as a Python literal as some exporters do; None for anything else."""
    if not text:
        return None
    for parse in (json.loads, ast.literal_eval):
        try:
            return parse(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
    return None


def is_own(metadata: Mapping[str, str]) -> bool:
    """Whether this project wrote the file."""
    return metadata.get("made_by") == "graftdet"


def parse_names(text: str | None) -> list[str] | None:
    """Class names from a list or a dict by index; None where they are missing or malformed."""
    value = parse_value(text)
    if isinstance(value, dict):
        value = [value.get(index, value.get(str(index))) for index in range(len(value))]
    valid = isinstance(value, list) and value and all(isinstance(name, (str, int)) for name in value)
    return [str(name) for name in value] if valid else None


def parse_stride(text: str | None) -> int:
    """The stride in pixels; 32 where it is missing or unreasonable."""
    value = parse_value(text)
    return int(value) if isinstance(value, (int, float)) and 1 <= value <= 1024 else 32


def parse_size(text: str | None) -> tuple[int, int] | None:
    """(height, width) in pixels; None where it is missing or malformed."""
    value = parse_value(text)
    is_pair = isinstance(value, (list, tuple)) and len(value) == 2 and all(isinstance(v, int) and v > 0 for v in value)
    return tuple(value) if is_pair else None
