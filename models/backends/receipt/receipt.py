"""The receipt of an exported file: what was compared with torch, the result, and the limits."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from graftdet.models.backends import ExportError, ExportOptions
from graftdet.models.backends.metadata import weights_sha256
from graftdet.models.backends.receipt.matching import Matches, match_detections
from graftdet.models.backends.receipt.verify import TOLERANCE, noise_images, relative_difference
from graftdet.models.inference.detections import Detections
from graftdet.models.inference.predictor import Predictor
from graftdet.utils.environment import project_version
from graftdet.utils.files import write_atomically
from graftdet.utils.images.letterbox import letterbox, to_chw
from graftdet.utils.tables import text_table

SUFFIX = ".receipt.json"
CONFS = (0.25, 0.1, 0.05, 0.01)  # the first with which the reference detects enough is used
ENOUGH_BOXES = 5
DRAWN_MATCHED = 0.9  # limit on drawn images for files with NMS inside, whose values cannot be compared one by one


@dataclass(frozen=True)
class Limits:
    """What a file must reach.

    Attributes:
        difference: largest relative difference of boxes and scores; None: any, as with int8.
        matched: smallest fraction of detections that match one to one; None: any.
        ap_drop: largest loss of AP50-95.
    """

    difference: float | None = TOLERANCE
    matched: float | None = 0.98
    ap_drop: float = 0.005


@dataclass
class Receipt:
    """What an exported file was compared on, and with which result.

    Attributes:
        file, format, runtime: name of the file, its format, and what ran it, with its version.
        precision: "float32" or "int8".
        output: where the graph ends.
        sha256, megabytes: of the file, companions excluded and included.
        weights, weights_sha256: the weights file and a hash of its tensors.
        images: number of images compared, and where they are from.
        inputs: shapes (B, C, H, W) that were run.
        difference: largest |a - b| / max(1, |b|) of all boxes and scores; with NMS inside, of matched detections.
        conf: lowest score of the detections compared.
        boxes, matched: number of detections, and how many match one to one.
        ap: AP50-95 of "torch" and "file" on `data`; None where it was not asked for.
        data: the data YAML and split.
        limits: see `Limits`.
        calibration: method and number of images, of int8.
        graftdet: version of this project.
    """

    file: str
    format: str
    runtime: str
    precision: str
    output: str
    sha256: str
    megabytes: float
    weights: str
    weights_sha256: str
    images: str
    inputs: list[list[int]]
    difference: float
    conf: float
    boxes: int
    matched: int
    ap: dict[str, float] | None = None
    data: str | None = None
    limits: Limits = field(default_factory=Limits)
    calibration: str | None = None
    graftdet: str = field(default_factory=project_version)

    def problems(self) -> list[str]:
        """What misses its limit, as text."""
        found, limits = [], self.limits
        if limits.difference is not None and not self.difference <= limits.difference:
            found.append(f"largest |a-b|/max(1,|b|) is {self.difference:.2e}, allowed is {limits.difference:.0e}")
        fraction = self.matched / self.boxes if self.boxes else 1.0
        if limits.matched is not None and fraction < limits.matched:
            found.append(f"{self.matched} of {self.boxes} detections match, expected are {limits.matched:.0%}")
        if self.ap and self.loss > limits.ap_drop:
            found.append(
                f"AP50-95 is {self.ap['file']:.4f} instead of {self.ap['torch']:.4f}, allowed is a loss of "
                f"{limits.ap_drop:g}"
            )
        return found

    @property
    def loss(self) -> float:
        """The loss of AP50-95; 0 where it is not known."""
        return self.ap["torch"] - self.ap["file"] if self.ap else 0.0

    def check(self, path: str | Path) -> None:
        """Raise `ExportError` if a limit is missed."""
        problems = self.problems()
        if problems:
            raise ExportError(path, f"differs from the model: {'; '.join(problems)}")

    def write(self, path: str | Path) -> Path:
        """Write the receipt as JSON; `path` is that of the exported file. Returns the path written."""
        target = Path(f"{path}{SUFFIX}")
        content = {**asdict(self), "passed": not self.problems()}
        write_atomically(target, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
        return target


def receipt_table(receipts: Sequence[Receipt]) -> str:
    """Receipts as a table for a terminal, one row each."""
    header = ["format", "output", "runtime", "MB", "difference", "boxes matched", "AP50-95 torch", "file", "passed"]
    rows = [
        [
            f"{one.format} {one.precision}" if one.precision != "float32" else one.format,
            one.output,
            one.runtime,
            f"{one.megabytes:.1f}",
            f"{one.difference:.1e}",
            f"{one.matched} of {one.boxes}",
            *(f"{one.ap[key]:.4f}" if one.ap else "-" for key in ("torch", "file")),
            "no" if one.problems() else "yes",
        ]
        for one in receipts
    ]
    return text_table(header, rows, right=(3, 4, 5, 6, 7))


class Reference(Predictor):
    """A model run by torch in float32 as it is, neither fused nor re-parameterized.

    Args:
        model: the `DetectionModel`, in eval mode on the CPU.
        fixed_size: see `Predictor`.
    """

    def __init__(self, model: Any, fixed_size: tuple[int, int] | None = None):
        self.model, self.fixed_size = model, fixed_size
        self.names, self.stride, self.needs_nms = list(model.names), model.size_multiple, model.needs_nms

    def forward(self, images: Any) -> tuple[np.ndarray, np.ndarray]:
        """RGB (B, 3, H, W), uint8 0..255 or float 0..1 -> boxes (B, N, 4), scores (B, N, nc)."""
        import torch

        tensor = torch.from_numpy(np.ascontiguousarray(images))
        scale = 1 / 255 if tensor.dtype == torch.uint8 else 1
        with torch.inference_mode():
            boxes, scores = self.model(tensor.float() * scale)
        return boxes.numpy(), scores.numpy()


def compare(
    model: Any, exported: Any, options: ExportOptions, images: Sequence[np.ndarray], path: str | Path = "the model"
) -> dict[str, Any]:
    """Run a file and its model side by side.

    Args:
        model: the `DetectionModel`, in eval mode on the CPU.
        exported: the file as its backend loads it.
        options: what it was exported with.
        images: (H, W, C) uint8 BGR, real ones where possible; drawn ones are used where there are none.
        path: the file, for messages.

    Returns:
        The fields "inputs", "difference", "conf", "boxes" and "matched" of a `Receipt`.

    Raises:
        ExportError: the model's own output is not finite.
    """
    reference = Reference(model, exported.fixed_size)
    images = list(images) or [_as_image(one) for one in noise_images(4, options.size, 3)]
    sizes = [options.size]
    batches = [exported.fixed_batch] if exported.fixed_batch else [1, 2]
    if options.dynamic:
        sizes.append((options.size[0] + model.size_multiple, options.size[1] + model.size_multiple))
    inputs, worst = [], 0.0
    for size, count in zip(sizes * 2, batches * 2, strict=False):
        batch = _batch(images, count, size, model.channels)
        inputs.append(list(batch.shape))
        expected, found = reference.forward(batch), exported.forward(batch)
        if not all(np.isfinite(array).all() for array in expected):
            raise ExportError(path, "the model's own output contains NaN or infinity; did its training diverge?")
        if options.output != "nms":
            worst = max(worst, *map(relative_difference, found, expected))
    conf, parts = CONFS[0], []
    for size in sizes if model.channels == 3 else ():  # `predict` takes color images
        conf, part = _compare_detections(reference, exported, options, images, size)
        parts.append(part)
    if options.output == "nms":
        differences = [max(part.box_difference / max(options.size), part.score_difference) for part in parts]
        worst = max(differences, default=0.0)
    boxes, matched = sum(part.boxes for part in parts), sum(part.matched for part in parts)
    return {"inputs": inputs, "difference": worst, "conf": conf, "boxes": boxes, "matched": matched}


def _compare_detections(
    reference: Predictor,
    exported: Predictor,
    options: ExportOptions,
    images: Sequence[np.ndarray],
    size: tuple[int, int],
) -> tuple[float, Matches]:
    """The lowest score compared, and the matches."""
    everything = _detections(reference, images, CONFS[-1], options.iou, size, 1)
    enough = [c for c in CONFS if sum(int((one.scores > c).sum()) for one in everything) >= ENOUGH_BOXES]
    conf = max([*enough[:1], CONFS[-1]])
    expected = _detections(reference, images, conf, options.iou, size, 1)
    return conf, match_detections(expected, _detections(exported, images, conf, options.iou, size, 2))


def _detections(
    model: Predictor, images: Sequence[np.ndarray], conf: float, iou: float, size: tuple[int, int], batch_size: int
) -> list[Detections]:
    return list(model.predict(list(images), conf=conf, iou=iou, imgsz=size, batch_size=batch_size))


def make_receipt(
    model: Any,
    exported: Any,
    path: Path,
    options: ExportOptions,
    *,
    format_name: str,
    package: str,
    parts: Sequence[Path],
    weights: str | Path,
    images: Sequence[np.ndarray] = (),
    source: str = "",
    limits: Limits | None = None,
    precision: str = "float32",
) -> Receipt:
    """Compare a file with its model.

    Args:
        model, exported, options, images: see `compare`.
        path: the file.
        format_name: the format, a name of `BACKENDS`.
        package: the package that runs it.
        parts: the file and those that belong to it.
        weights: the weights file, for the receipt.
        source: where the images are from.
        limits: what the file must reach; None: the default for real or for drawn images.
        precision: "float32" or "int8".
    """
    return Receipt(
        file=path.name,
        format=format_name,
        runtime=f"{package} {_version(package)}",
        precision=precision,
        output=options.output,
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        megabytes=sum(part.stat().st_size for part in parts) / 1e6,
        weights=str(weights),
        weights_sha256=weights_sha256(model),
        images=f"{len(images)} of {source}" if images else "4 of drawn noise",
        limits=limits or default_limits(options.output, drawn=not images),
        **compare(model, exported, options, images, path),
    )


def default_limits(output: str, drawn: bool) -> Limits:
    """The limits of a float32 file.

    On drawn images and after little training, hundreds of boxes have almost the same score. Which of them NMS keeps
    says nothing; the values before it decide.

    Args:
        output: where its graph ends.
        drawn: whether the images are drawn.
    """
    return Limits(matched=DRAWN_MATCHED if output == "nms" else None) if drawn else Limits()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"


def _as_image(noise: np.ndarray) -> np.ndarray:
    """(3, H, W) in 0..1 -> (H, W, 3) uint8."""
    return np.ascontiguousarray((255 * noise).astype(np.uint8).transpose(1, 2, 0))


def _batch(images: Sequence[np.ndarray], count: int, size: tuple[int, int], channels: int) -> np.ndarray:
    """The first images letterboxed into `size`, (count, C, H, W) float32 in 0..1."""
    if channels != 3:
        return noise_images(count, size, channels)
    chosen = [images[index % len(images)] for index in range(count)]
    return np.stack([to_chw(letterbox(image, size)[0]) for image in chosen]).astype(np.float32) / 255
