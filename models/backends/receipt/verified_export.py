"""Export a model, compare the file with it, and move into place only a file that passes."""

import contextlib
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from graftdet.models.backends import BACKENDS, Backend, ExportOptions, backend_for
from graftdet.models.backends.limits.trial import remember
from graftdet.models.backends.metadata import parse_size, parse_value
from graftdet.models.backends.quantization import LISTED_LAYERS, export_int8, layer_sensitivity, methods_for
from graftdet.models.backends.receipt.receipt import Limits, Receipt, make_receipt
from graftdet.utils.errors import UserError
from graftdet.utils.tables import text_table
from graftdet.utils.text import counted

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Evidence:
    """What a file is compared on.

    Attributes:
        weights: the weights file.
        images: (H, W, 3) uint8 BGR; empty for drawn ones.
        source: where the images are from.
        data: the data YAML and split of `average_precision`.
        average_precision: AP50-95 of a file, or of the weights for None, with a second argument True in half precision;
            None: not asked for.
        limits: what the file must reach; None: the default.
        calibration: images (H, W, 3) uint8 BGR that int8 is calibrated on; None: the file stays in float32.
        accepted_loss: loss of AP50-95 up to which no further method of int8 is tried.
    """

    weights: Path
    images: Sequence[np.ndarray] = ()
    source: str = ""
    data: str | None = None
    average_precision: Callable[..., float] | None = None
    limits: Limits | None = None
    calibration: Sequence[np.ndarray] | None = None
    accepted_loss: float = 0.005


def export_verified(
    model: Any, name: str, path: Path, options: ExportOptions, evidence: Evidence
) -> tuple[Any, Receipt]:
    """Export a model in one format.

    The file is written into a temporary folder beside its target and moved only after it has passed.

    Args:
        model: the `DetectionModel`.
        name: the format.
        path: the file to write; the receipt is written beside it.
        options: how to export.
        evidence: what the file is compared on.

    Returns:
        The opened file, None where this operating system cannot run the format, and its receipt.

    Raises:
        UserError: the model cannot be exported, the file misses a limit, or nothing can be written.
    """
    backend = BACKENDS[name]
    with staging_folder(path) as folder:
        if evidence.calibration is None:
            staged = backend.export(model, folder / path.name, options)
            loaded, receipt = verified(model, name, staged, options, evidence)
        else:
            staged, loaded, receipt = _quantized(model, name, folder, path.name, options, evidence)
        receipt.check(path)
        move_into_place(backend, staged, path)
    receipt.write(path)
    if loaded:
        loaded.path = path
        remember(path, backend)
    return loaded, receipt


@contextlib.contextmanager
def staging_folder(path: Path) -> Any:
    """A temporary folder beside `path`, removed afterwards. Raises `UserError` where it cannot be created."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        folder = tempfile.mkdtemp(dir=path.parent, prefix=f".{path.stem[:40]}-")
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror})") from None
    try:
        yield Path(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _quantized(
    model: Any, name: str, folder: Path, file_name: str, options: ExportOptions, evidence: Evidence
) -> tuple[Path, Any, Receipt]:
    """The file of the method with the highest AP; the first that loses at most `accepted_loss` ends the search."""
    images, found = evidence.calibration or (), []
    for method in methods_for(name):
        target = folder / method / file_name
        target.parent.mkdir()
        staged = export_int8(model, name, target, options, images, method)
        loaded, receipt = verified(model, name, staged, options, evidence)
        receipt.method, receipt.calibration = method, f"{method} on {counted(len(images), 'image')}"
        ap = f"AP50-95 {receipt.ap['file']:.4f}" if receipt.ap else "AP50-95 unknown"
        logger.info(f"int8, {receipt.calibration}: {ap}")
        found.append((receipt.loss, len(found), staged, loaded, receipt))
        if receipt.loss <= evidence.accepted_loss:
            break
    _, _, staged, loaded, receipt = min(found)
    if receipt.problems():
        _report_layers(model, folder, options, images)
    return staged, loaded, receipt


def _report_layers(model: Any, folder: Path, options: ExportOptions, images: Sequence[np.ndarray]) -> None:
    """Log which layers lose most by quantization."""
    layers = layer_sensitivity(BACKENDS["onnx"].export(model, folder / "float.onnx", options), images, options)
    rows = [[layer.layer, f"{layer.difference:.4f}"] for layer in layers[:LISTED_LAYERS]]
    logger.warning(text_table(["layer quantized alone", "mean difference of the best scores"], rows, right=(1,)))


def verified(model: Any, name: str, path: Path, options: ExportOptions, evidence: Evidence) -> tuple[Any, Receipt]:
    """Open a file and compare it with its model.

    Args:
        model: the `DetectionModel`.
        name: the format.
        path: the file.
        options: what it was exported with.
        evidence: what it is compared on.

    Returns:
        The opened file and its receipt, whose limits are not checked. The file is None, and the receipt says so, where
        this operating system cannot run the format.
    """
    backend = BACKENDS[name]
    loaded = backend.load(path) if backend.runs_here else None
    receipt = make_receipt(
        model,
        loaded,
        path,
        options,
        format_name=name,
        package=backend.package,
        files=backend.files(path),
        weights=evidence.weights,
        images=evidence.images,
        source=evidence.source,
        limits=evidence.limits,
        precision="float32" if evidence.calibration is None else "int8",
    )
    if evidence.average_precision and loaded:
        receipt.data = evidence.data
        receipt.ap = {"torch": evidence.average_precision(None), "file": evidence.average_precision(path)}
    return loaded, receipt


def move_into_place(backend: Backend, staged: Path, path: Path) -> None:
    """Move a staged export to its target. Raises `UserError` where it cannot be written."""
    try:
        for source, target in zip(backend.parts(staged), backend.parts(path), strict=True):
            if source.is_dir() and target.is_dir():
                os.replace(target, staged.with_name("replaced"))  # removed with the staging folder
            if source.exists():
                os.replace(source, target)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror})") from None


def format_of(path: Path) -> str:
    """The name of the format of an exported file. Raises `UserError` for any other file."""
    backend = backend_for(path)
    if backend is None:
        suffixes = ", ".join(backend.suffix for backend in BACKENDS.values())
        raise UserError(f"--receipt {path}: expected an exported file, one of {suffixes}")
    if not backend.exists(path):
        raise UserError(f"--receipt {path}: no such file")
    if missing := backend.missing_packages(for_export=False):
        raise UserError(f"--receipt {path}: needs {missing[0]}; install it with 'pip install {missing[0]}'")
    return next(name for name, candidate in BACKENDS.items() if candidate is backend)


def options_of(metadata: Mapping[str, str], path: Path) -> ExportOptions:
    """What a file of this project was exported with, as far as its metadata state it.

    Raises:
        UserError: it is not one of this project.
    """
    size = parse_size(metadata.get("size"))
    if metadata.get("made_by") != "graftdet" or size is None:
        raise UserError(f"--receipt {path}: its metadata do not state that this project exported it")
    default = ExportOptions()
    return ExportOptions(
        size,
        dynamic=parse_value(metadata.get("dynamic")) is True,
        output=metadata.get("output", "decoded"),
        conf=float(metadata.get("conf", default.conf)),
        iou=float(metadata.get("iou", default.iou)),
        max_det=int(metadata.get("max_det", default.max_det)),
    )
