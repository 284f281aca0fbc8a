"""The receipt of an exported file: what was compared with torch, the result, and the limits."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from graftdet.models.backends import BACKENDS, ExportError, ExportOptions
from graftdet.models.backends.metadata import weights_sha256
from graftdet.models.backends.receipt.comparison import compare
from graftdet.models.backends.receipt.verify import TOLERANCE
from graftdet.utils.environment import project_version
from graftdet.utils.files import write_atomically
from graftdet.utils.tables import text_table
from graftdet.utils.text import counted

SUFFIX = ".receipt.json"
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
        file, format, runtime: name of the file, its format, and what ran it, with its version, or "not run" and why.
        precision: "float32" or "int8".
        output: where the graph ends.
        sha256, megabytes: of the file, companions excluded and included; of a folder that of all its files.
        weights, weights_sha256: the weights file and a hash of its tensors.
        images: number of images compared, and where they are from.
        inputs: shapes (B, C, H, W) that were run.
        difference: largest |a - b| / max(1, |b|) of all boxes and scores; with NMS inside, of matched detections; None
            where the file was not run.
        conf: lowest score of the detections compared.
        boxes, matched: number of detections, and how many match one to one.
        ap: AP50-95 of "torch" and "file" on `data`; None where it was not asked for.
        data: the data YAML and split.
        limits: see `Limits`.
        method: how int8 was calibrated, see `models.backends.quantization`; None in float32.
        calibration: the method and its number of images, as text.
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
    difference: float | None
    conf: float | None
    boxes: int
    matched: int
    ap: dict[str, float] | None = None
    data: str | None = None
    limits: Limits = field(default_factory=Limits)
    method: str | None = None
    calibration: str | None = None
    graftdet: str = field(default_factory=project_version)

    def problems(self) -> list[str]:
        """What misses its limit, as text."""
        found, limits = [], self.limits
        if not self.was_run:
            return []
        if limits.difference is not None and not self.difference <= limits.difference:
            found.append(f"largest |a-b|/max(1,|b|) is {self.difference:.2e}, allowed is {limits.difference:.0e}")
        fraction = self.matched / self.boxes if self.boxes else 1.0
        if limits.matched is not None and fraction < limits.matched:
            found.append(
                f"{self.matched} of {counted(self.boxes, 'detection')} match, expected are {limits.matched:.0%}"
            )
        if self.ap and self.loss > limits.ap_drop:
            found.append(
                f"AP50-95 is {self.ap['file']:.4f} instead of {self.ap['torch']:.4f}, allowed is a loss of "
                f"{limits.ap_drop:g}"
            )
        return found

    @property
    def was_run(self) -> bool:
        """Whether the file was run; elsewhere its operating system or package is missing."""
        return self.difference is not None

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
        content = {**asdict(self), "passed": not self.problems() if self.was_run else None}
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
            *((f"{one.difference:.1e}", f"{one.matched} of {one.boxes}") if one.was_run else ("-", "-")),
            *(f"{one.ap[key]:.4f}" if one.ap else "-" for key in ("torch", "file")),
            ("no" if one.problems() else "yes") if one.was_run else "not run",
        ]
        for one in receipts
    ]
    return text_table(header, rows, right=(3, 4, 5, 6, 7))


def make_receipt(
    model: Any,
    exported: Any,
    path: Path,
    options: ExportOptions,
    *,
    format_name: str,
    package: str,
    files: Sequence[Path],
    weights: str | Path,
    images: Sequence[np.ndarray] = (),
    source: str = "",
    limits: Limits | None = None,
    precision: str = "float32",
) -> Receipt:
    """Compare a file with its model.

    Args:
        model, options, images: see `compare`.
        exported: the file as its backend loads it; None: it cannot be run here.
        path: the file.
        format_name: the format, a name of `BACKENDS`.
        package: the package that runs it.
        files: the file and those that belong to it, or those in the folder.
        weights: the weights file, for the receipt.
        source: where the images are from.
        limits: what the file must reach; None: the default for real or for drawn images.
        precision: "float32" or "int8".
    """
    runtime = f"{package} {_version(package)}"
    compared = {"images": "none", "inputs": [], "difference": None, "conf": None, "boxes": 0, "matched": 0}
    if exported is None:
        runtime = f"not run, which needs {BACKENDS[format_name].systems}"
    else:
        compared = compare(model, exported, options, images, path)
        compared["images"] = f"{len(images)} of {source}" if images else "4 of drawn noise"
    return Receipt(
        file=path.name,
        format=format_name,
        runtime=runtime,
        precision=precision,
        output=options.output,
        sha256=_sha256(files if path.is_dir() else [path]),
        megabytes=sum(part.stat().st_size for part in files) / 1e6,
        weights=str(weights),
        weights_sha256=weights_sha256(model),
        limits=limits or default_limits(options.output, drawn=not images),
        **compared,
    )


def _sha256(files: Sequence[Path]) -> str:
    """The digest of the contents of files."""
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()


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
