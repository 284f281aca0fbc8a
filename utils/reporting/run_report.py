"""`report.html` of a training run: curves after every epoch, everything at its end."""

import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from graftdet.utils.errors import UserError
from graftdet.utils.evaluation.evaluator import Evaluation
from graftdet.utils.files import write_atomically
from graftdet.utils.progress import duration
from graftdet.utils.reporting import sections
from graftdet.utils.reporting.example_images import images_section
from graftdet.utils.reporting.page import Section, numbers, page, paragraph

logger = logging.getLogger(__name__)

MAX_FRACTION = 0.02  # of the time of a run that the report may take before its end
RELOAD_SECONDS = 60
SHOWN = ("AP50-95", "AP50", "precision", "recall")


class RunReport:
    """Writes FOLDER/report.html.

    Args:
        folder: Folder of the run, with results.csv.
        info: What the run recorded: "names", "options", "hyperparameters", "versions" ...
        extra: Make further sections at the end of the run, such as the model and the dataset.
        clock: Gives the time [s].
    """

    def __init__(
        self,
        folder: str | Path,
        info: Mapping[str, Any],
        extra: Sequence[Callable[[], Section]] = (),
        clock: Callable[[], float] = time.monotonic,
    ):
        self.folder, self.info, self.extra, self.clock = Path(folder), info, extra, clock
        self.path = self.folder / "report.html"
        self._start, self._spent = clock(), 0.0

    def refresh(self, epoch: int, epochs: int, evaluation: Evaluation | None, elapsed: float) -> bool:
        """Write the report of a running training, unless reports have taken too large a fraction of its time.

        Args:
            epoch: Number of completed epochs.
            epochs: Length of the run.
            evaluation: Result of the last validation.
            elapsed: Time since the start of the run [s].

        Returns:
            Whether it was written.
        """
        begin = self.clock()
        if self._spent > MAX_FRACTION * (begin - self._start):
            return False
        with _reported_errors(self.path):
            self._write_progress(epoch, epochs, evaluation, elapsed)
        self._spent += self.clock() - begin
        return True

    def _write_progress(self, epoch: int, epochs: int, evaluation: Evaluation | None, elapsed: float) -> None:
        head = {"epoch": f"{epoch} of {epochs}", "time": duration(elapsed)}
        parts = [sections.curves_section(self.folder / "results.csv")]
        if evaluation and evaluation.instances:
            parts.append(sections.classes_section(evaluation, self.info["names"]))
        parts.append(sections.settings_section(self.info, {}))
        self._write(head, evaluation, parts, reload_seconds=RELOAD_SECONDS)

    def finish(
        self,
        evaluation: Evaluation,
        paths: Mapping[Any, tuple[str, tuple[int, int]]],
        run: Mapping[str, Any],
    ) -> None:
        """Write the complete report.

        Args:
            evaluation: Of the best weights.
            paths: See `images_section`.
            run: Values of the whole run by name, such as its time and peak memory.
        """
        with _reported_errors(self.path):
            self._write({}, evaluation, self._all_sections(evaluation, paths, run))

    def _all_sections(self, evaluation: Evaluation, paths: Mapping[Any, Any], run: Mapping[str, Any]) -> list[Section]:
        names = self.info["names"]
        parts = []
        if (self.folder / "results.csv").is_file():
            parts.append(sections.curves_section(self.folder / "results.csv"))
        parts += [
            sections.classes_section(evaluation, names),
            sections.precision_recall_section(evaluation, names),
            sections.confusion_section(evaluation, names),
            sections.sizes_section(evaluation),
            sections.errors_section(evaluation),
            images_section(evaluation, names, paths),
            sections.calibration_section(evaluation),
        ]
        for make in self.extra:
            try:
                parts.append(make())
            except UserError as error:
                parts.append(Section("Not available", paragraph(error)))
        return [*parts, sections.settings_section(self.info, run)]

    def _write(
        self, head: dict[str, Any], evaluation: Evaluation | None, parts: list[Section], reload_seconds: int = 0
    ) -> None:
        shown = {**head, **({name: evaluation.metrics[name] for name in SHOWN} if evaluation else {})}
        options = self.info.get("options") or {}
        about = [options.get("cfg") or "the model of the weights", f"on {options.get('data')}"]
        about.append(f"at {options.get('img')} pixels, initial weights: {self.info.get('initial_weights') or 'none'}")
        summary = paragraph(" ".join(about), note=True) + numbers(shown)
        write_atomically(self.path, page(self.folder.name, summary, parts, reload_seconds))


@contextlib.contextmanager
def _reported_errors(path: Path) -> Iterator[None]:
    """Turn any error into a warning: a report must not end a training."""
    try:
        yield
    except Exception as error:
        logger.warning(f"{path}: not written ({type(error).__name__}: {error})")
