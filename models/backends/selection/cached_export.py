"""The cached export of a `.pt` file, made and verified if needed. Torch is imported only for that."""

import logging
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from graftdet.models.backends import BACKENDS, ExportError, ExportOptions
from graftdet.models.backends.selection.export_cache import (
    export_path,
    file_hash,
    notes_time,
    read_notes,
    remove_outdated,
    write_notes,
)
from graftdet.models.backends.selection.ways import installed_backends, onnx_backends, runtimes
from graftdet.models.inference.predictor import Predictor
from graftdet.utils.errors import UserError

RETRY = 86_400.0  # seconds after which a failed export is tried again: its reason may be gone
logger = logging.getLogger(__name__)


class NoExport(Exception):
    """Weights that can be read have no exported form."""


class CachedExport:
    """The exported form of a weights file.

    Args:
        weights: a `.pt` or `.safetensors` file, or the name of a file in `configs/weights`.
        plugins: the plugins that it needs, already loaded.
        check_names: see `graftdet.models.backends.selection.ways.Workload`.

    Attributes:
        path: the `.onnx`, which need not exist.

    Raises:
        UserError: the weights cannot be read.
    """

    def __init__(
        self,
        weights: str | Path,
        plugins: Iterable[str] = (),
        check_names: Callable[[list[str]], object] | None = None,
    ):
        self.weights = Path(weights)
        self.path = export_path(self.weights, plugins)
        self.check_names = check_names

    @property
    def exists(self) -> bool:
        """Whether it needs no work: the file is there and verified, or it is known that there is none."""
        return bool(self._known_notes())

    def backends(self) -> list[str]:
        """The installed backends that reproduce the model; the file is exported and verified if needed.

        Raises:
            NoExport: the model cannot be exported, or no backend reproduces it.
        """
        if not installed_backends():
            names = " or ".join(onnx_backends().values())
            raise NoExport(f"{self.weights}: would run faster with {names}, which are not installed")
        notes = self._known_notes() or self._make()
        if "failed" in notes:
            raise NoExport(f"{self.weights}: {notes['failed']}")
        return notes["verified"]

    def load(self, backend: str, half: bool) -> Predictor:
        """The predictor of a backend. A cached file that cannot be opened is exported again."""
        try:
            return BACKENDS[backend].load(self.path, half=half)
        except UserError:
            self.path.unlink(missing_ok=True)
            self.backends()
            return BACKENDS[backend].load(self.path, half=half)

    def _known_notes(self) -> dict:
        notes = read_notes(self.path)
        if notes.get("runtimes") != runtimes():
            return {}
        if "failed" in notes:
            return notes if time.time() - notes_time(self.path) < RETRY else {}
        return notes if notes.get("sha256") == file_hash(self.path) else {}

    def _make(self) -> dict:
        """Export the weights unless they are, verify the file with each backend; the notes, which are written."""
        from graftdet.models.weights.transfer import build_from_weights
        from graftdet.models.weights.weights_file import load_weights

        file = load_weights(self.weights)
        model = build_from_weights(file)
        if self.check_names:
            self.check_names(model.names)
        side = -(-(file.size or 640) // model.size_multiple) * model.size_multiple
        options = ExportOptions((side, side), dynamic=True, square_letterbox=file.square_letterbox)
        notes: dict[str, Any] = {"runtimes": runtimes()}
        try:
            if not self.path.is_file() or read_notes(self.path).get("sha256") != file_hash(self.path):
                remove_outdated(self.path, self.weights.stem)
                BACKENDS["onnx"].export(model, self.path, options, as_matmul=True)
                logger.info(f"{self.weights}: exported to {self.path}")
            notes["verified"] = _verified(model, self.path)
            notes["sha256"] = file_hash(self.path)
        except ExportError as error:
            notes["failed"] = error.reason
        except UserError as error:  # such as a full disk: not remembered
            raise NoExport(f"{self.weights}: {error}") from None
        try:
            write_notes(self.path, notes)
        except UserError as error:
            raise NoExport(f"{self.weights}: {error}") from None
        return notes


def _verified(model: Any, path: Path) -> list[str]:
    """The backends that reproduce `model` at several sizes. Raises `UserError` if none does."""
    from graftdet.models.backends.receipt.verify import verify

    small = ExportOptions((2 * model.size_multiple,) * 2, dynamic=True)
    names, problem = [], None
    for name in installed_backends():
        try:
            verify(model, BACKENDS[name].load(path), path, small)
            names.append(name)
        except UserError as error:
            problem = error
    if problem and not names:
        raise problem
    return names
