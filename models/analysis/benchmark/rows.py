"""The rows of `export.py --benchmark`: a model in each export format and precision."""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from graftdet.models.analysis.benchmark.measurement import Measurement, measure_in_process
from graftdet.models.backends import BACKENDS, ExportOptions, check_output
from graftdet.models.backends.quantization import INT8_FORMATS, export_int8
from graftdet.models.backends.receipt.receipt import Limits
from graftdet.models.backends.receipt.verified_export import Evidence, export_verified
from graftdet.models.backends.receipt.verify import noise_images
from graftdet.utils.errors import UserError, first_line
from graftdet.utils.images.letterbox import letterbox, to_chw

logger = logging.getLogger(__name__)
BATCH = 8
CALIBRATION_FOR_SPEED = 2  # images for the ranges of a quantized file of which only the speed is measured


@dataclass
class BenchmarkRow:
    """A model in one format and precision.

    Attributes:
        format: name in `BACKENDS`, or "pt" for the weights run by torch, the reference.
        precision: "float32", "half" or "int8".
        megabytes: size of the file, with the files that belong to it.
        measured: speed and memory; None where the file cannot be made or run.
        ap: AP50-95; None without a dataset.
        reason: why it cannot be made or run.
    """

    format: str
    precision: str
    megabytes: float | None = None
    measured: Measurement | None = None
    ap: float | None = None
    reason: str = ""


@dataclass(frozen=True)
class Subject:
    """What is measured, and on what.

    Attributes:
        model: the `DetectionModel` of the weights.
        weights: the weights file.
        options: how files are exported.
        evidence: what files are compared on; int8 is measured where it has calibration images.
        folder: where files are written.
        plugins: files or packages with blocks of the weights.
    """

    model: Any
    weights: Path
    options: ExportOptions
    evidence: Evidence
    folder: Path
    plugins: tuple[str, ...] = ()

    @property
    def images(self) -> Path:
        """The images that files are timed on."""
        return self.folder / "images.npy"

    def measure(self, file: Path, precision: str = "float32") -> Measurement | None:
        """Measure a file on the images; None where half precision has no effect."""
        return measure_in_process(file, self.images, precision, self.plugins)

    def average_precision(self, file: Path | None, half: bool = False) -> float | None:
        """AP50-95 of a file, of the weights for None; None without a dataset."""
        return self.evidence.average_precision(file, half) if self.evidence.average_precision else None


def benchmark_rows(subject: Subject, formats: Sequence[str]) -> Iterator[BenchmarkRow]:
    """Measure the weights and each format, in float32, in half precision where it has an effect, and in int8.

    Args:
        subject: what is measured.
        formats: names in `BACKENDS` whose packages are installed.

    Yields:
        One row per format and precision; a row with a reason where a file cannot be made or run.
    """
    np.save(subject.images, batch_of(subject.evidence.images, subject.options.size))
    yield from _rows_of_file(subject, "pt", subject.weights, [subject.weights])
    for name in formats:
        yield from _caught(name, "float32", partial(_float_rows, subject, name))
        if subject.evidence.calibration and name in INT8_FORMATS:
            yield from _caught(name, "int8", partial(_int8_rows, subject, name))


def batch_of(images: Sequence[np.ndarray], size: tuple[int, int]) -> np.ndarray:
    """`BATCH` letterboxed images (B, 3, H, W) uint8 RGB of BGR images (H, W, 3); of noise where there are none."""
    if not images:
        return (255 * noise_images(BATCH, size)).astype(np.uint8)
    return np.stack([to_chw(letterbox(images[index % len(images)], size)[0]) for index in range(BATCH)])


def _caught(name: str, precision: str, measure: Callable[[], Iterable[BenchmarkRow]]) -> list[BenchmarkRow]:
    """The rows, or one with the reason why there are none."""
    try:
        return list(measure())
    except UserError as error:
        return [BenchmarkRow(name, precision, reason=first_line(error))]


def _rows_of_file(
    subject: Subject,
    name: str,
    file: Path,
    parts: Sequence[Path],
    batch_file: Path | None = None,
    known_ap: dict[str, float] | None = None,
) -> Iterator[BenchmarkRow]:
    """The row of a float32 file, and that of half precision where it has an effect.

    Args:
        subject: what is measured.
        name: its format.
        file: the file.
        parts: the file and those that belong to it.
        batch_file: the same for batches; None: `file` takes them.
        known_ap: AP50-95 of the "file" in float32; None: not yet computed.
    """
    megabytes = sum(part.stat().st_size for part in parts) / 1e6
    for precision in ("float32", "half"):
        measured = subject.measure(file, precision)
        if measured is None:
            return
        if batch_file and measured.images_per_second is None:
            measured = _with_batches(measured, subject.measure(batch_file, precision))
        is_known = known_ap is not None and not measured.half
        ap = known_ap["file"] if is_known else subject.average_precision(None if name == "pt" else file, measured.half)
        yield BenchmarkRow(name, precision, megabytes, measured, ap)


def _with_batches(measured: Measurement, batched: Measurement | None) -> Measurement:
    """The measurement of a file for single images, with the images per second of one for batches."""
    return replace(measured, images_per_second=batched.images_per_second if batched else None)


def _float_rows(subject: Subject, name: str) -> Iterator[BenchmarkRow]:
    backend, options = BACKENDS[name], subject.options
    check_output(subject.model, options, name)
    path = subject.folder / name / f"{subject.weights.stem}{backend.suffix}"
    float_evidence = replace(subject.evidence, calibration=None, limits=None)
    _, receipt = export_verified(subject.model, name, path, options, float_evidence)
    batch_file = None
    if not options.dynamic:
        batch_file = path.with_name(f"batch{BATCH}{backend.suffix}")
        try:
            backend.export(subject.model, batch_file, replace(options, batch_size=BATCH))
        except UserError as error:
            logger.info(f"{name}: no batches of {BATCH} ({first_line(error)})")
            batch_file = None
    yield from _rows_of_file(subject, name, path, backend.files(path), batch_file, receipt.ap)


def _int8_rows(subject: Subject, name: str) -> list[BenchmarkRow]:
    backend, options, images = BACKENDS[name], subject.options, subject.evidence.calibration or ()
    path = subject.folder / name / f"{subject.weights.stem}-int8{backend.suffix}"
    any_loss = Limits(difference=None, matched=None, ap_drop=1.0)
    _, receipt = export_verified(subject.model, name, path, options, replace(subject.evidence, limits=any_loss))
    measured = subject.measure(path)
    if measured and measured.images_per_second is None:
        batch_file, few = path.with_name(f"batch{BATCH}-int8{backend.suffix}"), images[:CALIBRATION_FOR_SPEED]
        export_int8(subject.model, name, batch_file, replace(options, batch_size=BATCH), few, receipt.method)
        measured = _with_batches(measured, subject.measure(batch_file))
    return [BenchmarkRow(name, "int8", receipt.megabytes, measured, receipt.ap["file"] if receipt.ap else None)]
