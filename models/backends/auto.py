"""A `.pt` file run by the fastest backend: exported once, cached beside the weights, timed on this machine.

The cached export is an ONNX file, which several backends read (`graftdet.models.backends.export_cache`). Torch is
imported only to export and verify it.
"""

import importlib.util
import logging
import os
import platform
import time
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from graftdet.models.backends import BACKENDS, ExportError, ExportOptions
from graftdet.models.backends.export_cache import cached_export, read_notes, remove_outdated, write_notes
from graftdet.models.inference.predictor import Predictor
from graftdet.utils.errors import UserError

logger = logging.getLogger(__name__)
HALF = " bfloat16"  # after a backend's name
MAX_HALF_TIME = 0.8  # of the time in float32: bfloat16 moves boxes slightly, so it has to be much faster
MAX_SLOW_START_TIME = 0.9  # of onnxruntime's time, which starts in half the time
TIMING_SECONDS = 1.5


class NoExport(Exception):
    """Weights that can be read have no exported form."""


def onnx_backends() -> dict[str, str]:
    """Backends that run an ONNX file -> the package that each needs."""
    return {name: backend.package for name, backend in BACKENDS.items() if backend.can_load(".onnx")}


def installed_backends() -> dict[str, str]:
    """Backends that run an ONNX file and whose package is installed -> its version."""
    installed = {}
    for name, package in onnx_backends().items():
        try:
            if importlib.util.find_spec(package) is not None:
                installed[name] = version(package)
        except (PackageNotFoundError, ValueError):  # onnxruntime-gpu is a package of another name
            installed[name] = ""
    return installed


def load_exported(
    weights: str | Path, name: str = "auto", half: bool = False, plugins: Iterable[str] = ()
) -> Predictor | None:
    """The cached export of `weights` on the CPU; it is made if needed.

    Args:
        weights: a `.pt` file.
        name: the backend; 'auto': the fastest one installed.
        half: compute in bfloat16 where backend and CPU support it. With 'auto' this happens by itself where the CPU has
            matrix units for bfloat16 and it is much faster.
        plugins: the plugins that the weights need, already loaded.

    Returns:
        The predictor; None, after a warning, where 'auto' has to continue with torch. Backends whose output differs
        from torch's are not used.

    Raises:
        UserError: the weights cannot be read, or the requested backend cannot run them.
    """
    weights = Path(weights)
    installed, packages = installed_backends(), onnx_backends()
    if name != "auto" and name not in installed:
        raise UserError(f"--backend {name}: needs {packages[name]}; install it with 'pip install {packages[name]}'")
    try:
        if not installed:
            runtimes = " or ".join(packages.values())
            raise NoExport(f"{weights}: would run faster with {runtimes}, which are not installed")
        path = cached_export(weights, plugins)
        notes = read_notes(path)
        if notes.get("machine") != _machine(installed) or not (path.is_file() or "failed" in notes):
            notes = _make_export(weights, path, installed)
        if "failed" in notes:
            raise NoExport(f"{weights}: {notes['failed']}")
        chosen = choose(notes["milliseconds"], name, half)
    except NoExport as error:
        if name != "auto":
            raise UserError(f"--backend {name}: {error}") from None
        logger.warning(f"{error}; continuing with torch")
        return None
    return BACKENDS[chosen.removesuffix(HALF)].load(path, half=chosen.endswith(HALF))


def choose(milliseconds: Mapping[str, float], name: str, half: bool) -> str:
    """Choose how to run an export.

    Args:
        milliseconds: backend name, with `HALF` appended for bfloat16 -> time per image.
        name: the requested backend; 'auto': the fastest, but onnxruntime, which starts in half the time, where OpenVINO
            is hardly faster.
        half: whether bfloat16 is requested.

    Returns:
        A key of `milliseconds`, or one with `HALF` appended.

    Raises:
        NoExport: the output of the requested backend differs from torch's.
    """
    if name != "auto" and name not in milliseconds:
        raise NoExport(f"the output of {name} differs from torch's")
    if half and name in ("auto", "openvino") and "openvino" in milliseconds:
        return "openvino" + HALF
    if name != "auto":
        return name
    best = min((way for way in milliseconds if not way.endswith(HALF)), key=milliseconds.__getitem__)
    if milliseconds[best] > MAX_SLOW_START_TIME * milliseconds.get("onnx", float("inf")):
        best = "onnx"
    half_time = milliseconds.get("openvino" + HALF, float("inf"))
    return "openvino" + HALF if half_time <= MAX_HALF_TIME * milliseconds[best] else best


def _machine(installed: Mapping[str, str]) -> str:
    """What times depend on: they are taken again on another machine or with other packages."""
    packages = onnx_backends()
    runtimes = " ".join(f"{packages[name]} {number}" for name, number in installed.items())
    return f"{platform.node()} {platform.machine()} {os.cpu_count()} cores, {runtimes}"


def _make_export(weights: Path, path: Path, installed: Mapping[str, str]) -> dict:
    """Export `weights` to `path` unless it exists, verify and time each way to run it; the notes, which are written."""
    from graftdet.models.weights.transfer import build_from_weights
    from graftdet.models.weights.weights_file import load_weights

    file = load_weights(weights)
    model = build_from_weights(file)
    side = -(-(file.size or 640) // model.size_multiple) * model.size_multiple
    options = ExportOptions((side, side), dynamic=True, square_letterbox=file.square_letterbox)
    notes: dict = {"machine": _machine(installed)}
    try:
        if not path.is_file():
            remove_outdated(path, weights.stem)
            BACKENDS["onnx"].export(model, path, options)
        notes["milliseconds"] = _time(_verified(model, path, installed), side, model.channels)
        times = ", ".join(f"{way} {taken:.1f}" for way, taken in notes["milliseconds"].items())
        logger.info(f"{weights}: exported to {path}; milliseconds per image of {side}x{side}: {times}")
    except ExportError as error:
        notes["failed"] = error.reason
    except UserError as error:
        notes["failed"] = str(error)
    try:
        write_notes(path, notes)
    except UserError as error:
        raise NoExport(f"{weights}: {error}") from None
    return notes


def _verified(model: Any, path: Path, installed: Mapping[str, str]) -> dict[str, Predictor]:
    """The ways to run `path` that reproduce `model` at several sizes. Raises `UserError` if none does."""
    from graftdet.models.backends.verify import verify
    from graftdet.utils.device import cpu_flags

    small = ExportOptions((2 * model.size_multiple,) * 2, dynamic=True)
    ways, problem = {}, None
    for name in installed:
        backend = BACKENDS[name]
        try:
            verify(model, backend.load(path), path, small)
            ways[name] = backend.load(path)  # a new one: OpenVINO is fastest at the first shape it receives
            if name == "openvino" and "amx_bf16" in cpu_flags():
                ways[name + HALF] = backend.load(path, half=True)
        except UserError as error:
            problem = error
    if not ways:
        raise problem
    return ways


def _time(ways: Mapping[str, Predictor], side: int, channels: int) -> dict[str, float]:
    """The shortest time in milliseconds of each way on one image.

    The ways take turns, with several runs in a row: waiting threads of one runtime may slow down the first run of the
    next.
    """
    from graftdet.models.backends.verify import noise_images

    image = (255 * noise_images(1, (side, side), channels)).astype("uint8")
    shortest = {way: float("inf") for way in ways}
    end = time.perf_counter() + TIMING_SECONDS
    for turn in range(10):
        for way, predictor in ways.items():
            for _ in range(3):
                start = time.perf_counter()
                predictor(image)
                shortest[way] = min(shortest[way], 1000 * (time.perf_counter() - start))
        if turn and time.perf_counter() > end:
            break
    return {way: round(milliseconds, 2) for way, milliseconds in shortest.items()}
