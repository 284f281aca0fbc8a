"""One exported file: written and compared with its model, or compared again."""

import logging
from dataclasses import dataclass
from pathlib import Path

import cv2

from graftdet.models.backends import BACKENDS, ExportOptions
from graftdet.models.backends.limits.trial import try_out
from graftdet.models.backends.metadata import weights_sha256
from graftdet.models.backends.receipt.receipt import Receipt, receipt_table
from graftdet.models.backends.receipt.verified_export import Evidence, export_verified, verified
from graftdet.models.backends.receipt.verify import opencv_difference
from graftdet.models.graph.detection_model import DetectionModel
from graftdet.utils.errors import UserError

logger = logging.getLogger(__name__)


@dataclass
class ExportedFile:
    """One exported file.

    Attributes:
        format: the name of its format in `graftdet.models.backends.BACKENDS`.
        path: the file.
        megabytes: its size, with the files that belong to it.
        difference: largest |a-b|/max(1,|b|) between its output and the model's; None where it cannot be run here.
        receipt: what was compared, and the result.
        opencv_difference: the same for OpenCV's dnn module; None where it cannot load the file, or was not asked.
    """

    format: str
    path: Path
    megabytes: float
    difference: float | None
    receipt: Receipt
    opencv_difference: float | None = None


def export_file(
    model: DetectionModel, name: str, path: Path, options: ExportOptions, evidence: Evidence
) -> ExportedFile:
    """Export a model in one format and compare the file with the model.

    Args:
        model: the model.
        name: the format.
        path: the file to write.
        options: how to export.
        evidence: what the file is compared on.

    Raises:
        UserError: the model cannot be exported, or the file misses a limit; nothing is written then.
    """
    loaded, receipt = export_verified(model, name, path, options, evidence)
    compared = f"largest |a-b|/max(1,|b|) to torch {receipt.difference:.2e}" if receipt.was_run else receipt.runtime
    logger.info(f"{name}: {compared}")
    exported = ExportedFile(name, path, receipt.megabytes, receipt.difference, receipt)
    if name == "onnx" and options.output == "decoded":
        exported.opencv_difference = opencv_difference(loaded, path, options)
        unreadable = exported.opencv_difference is None
        outcome = "cannot read it" if unreadable else f"reads it, largest difference {exported.opencv_difference:.2e}"
        logger.info(f"OpenCV {cv2.__version__} dnn: {outcome}; docs/export-support.md lists other versions")
    return exported


def compare_again(
    model: DetectionModel, name: str, path: Path, options: ExportOptions, evidence: Evidence
) -> ExportedFile:
    """Compare an exported file with its weights and write the receipt.

    Args:
        model: the model of the weights.
        name: the format.
        path: the exported file.
        options: what it was exported with, as far as its metadata state it.
        evidence: what the file is compared on.

    Raises:
        UserError: it was exported from other weights, or misses a limit.
    """
    if BACKENDS[name].runs_here:
        try_out(path, BACKENDS[name])
    if BACKENDS[name].load(path).metadata.get("weights_sha256") not in (None, weights_sha256(model)):
        raise UserError(
            f"--receipt {path}: it was not exported from {evidence.weights}, whose tensors have another hash"
        )
    _, receipt = verified(model, name, path, options, evidence)
    receipt.write(path)
    logger.info(receipt_table([receipt]))
    receipt.check(path)
    return ExportedFile(name, path, receipt.megabytes, receipt.difference, receipt)
