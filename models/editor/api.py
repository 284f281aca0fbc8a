"""What the page may ask of the program: a function per call, JSON values in and out."""

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from graftdet.models.editor.catalog import module_list
from graftdet.models.editor.comparison import compare_texts, measure_latency
from graftdet.models.editor.edited_file import EditedFile, model_names, model_text
from graftdet.models.editor.edits import apply_edit
from graftdet.models.editor.model_report import build_rows, report_model
from graftdet.utils.errors import UserError

Values = dict[str, Any]
DISK = ""
"""The name of the file on disk among those that a text can be compared with."""


_WITH_PROBLEM = """
nc: 1
anchors: 1
backbone: [[-1, 1, Conv, [8, 3, 2]], [-1, 1, C3, [8]], [-1, 1, Conv, [8, 3, 2]], [[-1, 0], 1, Concat, [1]]]
head: [[[3], 1, Detect, [nc, anchors]]]
"""
"""A model whose check loads all that checks of other models need."""


class EditorApi:
    """The calls of the page.

    Args:
        file: the file that is edited.
        plugins: files and packages of `--plugins`, for the process that measures latencies.
    """

    def __init__(self, file: EditedFile, plugins: Sequence[str] = ()):
        self.file, self.plugins = file, plugins
        self._work, self._measuring = threading.Lock(), threading.Lock()
        self.calls: Mapping[str, Callable[[Values], Any]] = {
            "state": self.state,
            "modules": self.modules,
            "check": self.check,
            "edit": self.edit,
            "compare": self.compare,
            "latency": self.latency,
            "open": self.open,
            "save": self.save,
        }

    def prepare(self) -> None:
        """Load what takes seconds, so that the first answers do not: torch, the list of modules, the rows."""
        with self._work:
            module_list()
            report_model(_WITH_PROBLEM, "example.yaml")
            build_rows(self.file.text(), self.file.name)

    def state(self, values: Values) -> Values:
        """The file: `name`, `path`, `text`, `digest`, `origin`; and the `models` that can be opened."""
        about = {"name": self.file.name, "path": str(self.file.path), "origin": self.file.origin}
        return {**about, "digest": self.file.digest(), "text": self.file.text(), "models": model_names()}

    def modules(self, values: Values) -> list[Values]:
        """All modules, see `module_list`."""
        with self._work:
            return module_list()

    def check(self, values: Values) -> Values:
        """Problems, rows, totals and graph of `text`, see `report_model`."""
        with self._work:
            return report_model(_text(values, "text"), self.file.name)

    def edit(self, values: Values) -> Values:
        """The `text` after the edit `edit`, see `apply_edit`."""
        edit = values.get("edit")
        if not isinstance(edit, dict):
            raise UserError(f"edit: expected a mapping, got {edit!r:.80}")
        with self._work:
            return {"text": apply_edit(_text(values, "text"), self.file.name, edit)}

    def compare(self, values: Values) -> Values:
        """The `text` beside the model `other` of configs/models, or "" for the file on disk, see `compare_texts`."""
        with self._work:
            return compare_texts(_text(values, "text"), f"{self.file.name} (in the page)", *self._other(values))

    def latency(self, values: Values) -> list[Values]:
        """Latency of the other model and of `text`, in a process of its own; one measurement at a time."""
        if not self._measuring.acquire(blocking=False):
            raise UserError("a measurement is running")
        try:
            return measure_latency([self._other(values), (_text(values, "text"), self.file.name)], self.plugins)
        finally:
            self._measuring.release()

    def open(self, values: Values) -> Values:
        """The text of the file `name` of configs/models; "" is the file on disk."""
        text, _ = self._other({"other": _text(values, "name")})
        return {"text": text, "digest": self.file.digest()}

    def save(self, values: Values) -> Values:
        """Write `text` to the file, if its content still has the `digest`, or with `overwrite`; the new digest."""
        overwrite = values.get("overwrite") is True
        return {"digest": self.file.save(_text(values, "text"), _text(values, "digest"), overwrite)}

    def _other(self, values: Values) -> tuple[str, str]:
        name = _text(values, "other")
        return (self.file.text(), f"{self.file.name} (on disk)") if name == DISK else (model_text(name), name)


def _text(values: Values, key: str) -> str:
    value = values.get(key)
    if not isinstance(value, str):
        raise UserError(f"{key}: expected text, got {value!r:.80}")
    return value
