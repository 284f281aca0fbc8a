"""The folder of a training run: what is written into it and what is reported on the console."""

import contextlib
import functools
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from graftdet.utils.checkpoint import (
    load_checkpoint_or_previous,
    non_finite_tensors,
    previous_checkpoint,
    save_checkpoint,
    to_plain,
)
from graftdet.utils.cli.console import RESULT
from graftdet.utils.device import peak_memory
from graftdet.utils.environment import versions
from graftdet.utils.errors import UserError
from graftdet.utils.evaluation.evaluator import Evaluation
from graftdet.utils.evaluation.report import format_evaluation
from graftdet.utils.evaluation.saved_evaluation import FILE, save_evaluation
from graftdet.utils.files import remove_temporary_files, write_errors
from graftdet.utils.processes.run_lock import RunLock
from graftdet.utils.progress import duration
from graftdet.utils.reporting.page import Section
from graftdet.utils.reporting.run_report import RunReport
from graftdet.utils.text import counted
from graftdet.utils.training.acceleration.color_jitter import images_on_device
from graftdet.utils.training.fine_tuning import find_fall
from graftdet.utils.training.loggers.callback import Callback
from graftdet.utils.training.results import (
    METRICS,
    ResultsTable,
    TrainResult,
    epoch_line,
    read_column,
    results_row,
    save_config,
)
from graftdet.utils.training.run_state import RunState, fitness
from graftdet.utils.training.trainer import EpochResult
from graftdet.utils.visualization import batch_images, evaluation_plots, plots

logger = logging.getLogger(__name__)

PLOTTED_BATCHES = 3


class Run:
    """Writes a run's folder: weights, results.csv, config.yaml, charts. A resumed run continues in its folder.

    Args:
        folder: Folder of the run.
        info: What is trained: "yaml" (the model as text), "names", "nc", "options", "hyperparameters".
        state: State of the run, saved after every epoch.
        epochs: Length of the run.
        save_period: Save the weights every `save_period` epochs, too; 0: the best and the last only.
        again: Whether the run starts again in its folder, and can be resumed from there before its first epoch.
        gentle_recipe: Recipe to start again with where training overwrites what the initial weights know; "": none.
        plots: File formats of charts; empty: png; "none" among them: no images, charts and report.
        sections: Make further sections of report.html at the end of the run.
        callbacks: Called in their order.

    Raises:
        UserError: If another process still writes this run, or the folder cannot be written.
    """

    def __init__(
        self,
        folder: str | Path,
        info: dict[str, Any],
        state: RunState,
        epochs: int,
        save_period: int = 0,
        again: bool = False,
        gentle_recipe: str = "",
        plots: Sequence[str] = (),
        sections: Sequence[Callable[[], Section]] = (),
        callbacks: Sequence[Callback] = (),
    ):
        self.folder = Path(folder)
        self.state = state
        self.epochs = epochs
        self.save_period = save_period
        self.gentle_recipe = gentle_recipe
        self.is_abandoned = False
        self.plots = plots
        self.callbacks = callbacks
        self.info = to_plain({**info, "versions": versions()})
        self.names = self.info["names"]
        self.start = time.monotonic() - state.elapsed
        self.report = RunReport(self.folder, self.info, sections)
        self.draws = "none" not in plots
        self.best = self.folder / "weights" / "best.pt"
        self.last = self.folder / "weights" / "last.pt"
        self._prepare_folder(again)
        self._fall_reported = self._non_finite_reported = False
        self._initial: dict[str, float] | None = None  # metrics of the initial weights, until the first epoch
        logger.info(f"run: {self.folder}, epochs {state.epoch + 1} to {epochs}")
        for callback in callbacks:
            callback.on_start(self.folder, self.info)

    def _prepare_folder(self, again: bool) -> None:
        """Lock the folder; for a new run, remove what an earlier one left there and write config.yaml."""
        state = self.state
        with write_errors(self.best.parent):
            self.best.parent.mkdir(parents=True, exist_ok=True)
        self._lock = RunLock(self.folder)
        self._lock.acquire()
        remove_temporary_files(self.folder, self.best.parent)  # of processes that were killed
        self.table = ResultsTable(self.folder / "results.csv", completed_epochs=state.epoch)
        if not state.epoch:
            if again:
                save_checkpoint(self.last, {**self.info, **state.state_dict()})
            of_earlier_run = [self.best, previous_checkpoint(self.best), previous_checkpoint(self.last)]
            if not again:
                of_earlier_run.append(self.last)
            for path in of_earlier_run:
                with write_errors(path):
                    path.unlink(missing_ok=True)
            config = {key: value for key, value in self.info.items() if key not in ("yaml", "manifest")}
            save_config(self.folder / "config.yaml", config)

    def plot_labels(self, boxes: list[np.ndarray], labels: list[np.ndarray], sizes_hw: np.ndarray) -> None:
        """Plot the distribution of the training set's boxes; see `plots.plot_annotations`."""
        if self.draws:
            plots.plot_annotations(boxes, labels, sizes_hw, self.names, self.folder / "labels.png", self.plots)

    def plot_batch(self, number: int, batch: dict[str, Any]) -> None:
        """Draw the first batches of the run with their targets."""
        if self.draws and self.state.epoch == 0 and number < PLOTTED_BATCHES:
            images = images_on_device(batch, "cpu")
            batch_images.plot_batch(images, batch["targets"], self.names, self.folder / f"train_batch{number}.jpg")

    def record_initial(self, evaluation: Evaluation) -> None:
        """Report and save the initial weights as epoch 0; they are the best until an epoch is better."""
        self._initial = evaluation.metrics
        values = ", ".join(f"{name} {evaluation.metrics[name]:.3f}" for name in METRICS)
        logger.info(f"epoch 0/{self.epochs}: {values} (the initial weights)")
        if evaluation.instances and self.state.stopping.update(0, fitness(evaluation.metrics)):
            save_checkpoint(self.best, {**self.info, **self.state.state_dict()})

    def finish_epoch(self, trained: EpochResult, evaluation: Evaluation | None) -> None:
        """Count, report and save an epoch. The table is written first: resuming drops rows without a checkpoint."""
        state = self.state
        state.epoch += 1
        state.elapsed = time.monotonic() - self.start
        is_best = False
        if evaluation:
            reached = fitness(evaluation.metrics) if evaluation.instances else None
            is_best = state.stopping.update(state.epoch, reached)
            if reached is not None:
                state.average.update(state.epoch, reached, state.ema.state_dict())
            state.class_ap = np.nan_to_num([entry["AP50-95"] for entry in evaluation.per_class])
        metrics, losses = (evaluation.metrics, evaluation.losses) if evaluation else (None, None)
        row = results_row(state.epoch, state.elapsed, trained, metrics, losses)
        if self._initial:  # with the columns of the first epoch
            self.table.add(dict.fromkeys(row) | results_row(0, 0.0, None, self._initial))
            self._initial = None
        self.table.add(row)
        seconds_left = state.elapsed / state.epoch * (self.epochs - state.epoch)
        line = epoch_line(state.epoch, self.epochs, row, seconds_left)
        logger.info(f"{line}{', best' if is_best else ''}", extra={"color": "green" if is_best else ""})
        if evaluation and state.transferred and not self._fall_reported and self._abandon_or_report_fall():
            return
        if self.draws:
            self.report.refresh(state.epoch, self.epochs, evaluation, state.elapsed)
        content = {**self.info, **state.state_dict()}
        if is_best:
            save_checkpoint(self.best, content, keep_previous=True)
        if self.save_period and state.epoch % self.save_period == 0:
            save_checkpoint(self.best.with_name(f"epoch{state.epoch}.pt"), content)
        save_checkpoint(self.last, content, keep_previous=True)
        if not self._non_finite_reported and (broken := non_finite_tensors(content["ema"])):
            self._non_finite_reported = True
            logger.warning(
                f"{self.last}: {counted(len(broken), 'tensor')} with NaN or infinite values, first '{broken[0]}'; "
                "the run has diverged, start it again with a lower learning rate (--set lr0=...)"
            )
        for callback in self.callbacks:
            callback.on_epoch_end(row)

    def return_to_state(self) -> None:
        """Continue from `state`, which has been set to that of an earlier epoch."""
        if self.state.epoch:
            self.table = ResultsTable(self.table.path, completed_epochs=self.state.epoch)
            save_checkpoint(self.last, {**self.info, **self.state.state_dict()})
        with contextlib.suppress(UserError, OSError):
            if load_checkpoint_or_previous(self.best)[0]["epoch"] > self.state.epoch:  # it is trained again
                self.best.unlink()
                previous_checkpoint(self.best).rename(self.best)

    def _abandon_or_report_fall(self) -> bool:
        """Abandon the run, or warn once, if AP has fallen far below an earlier epoch; whether it was abandoned."""
        fall = find_fall(read_column(self.table.path, "val/AP50-95"), self.epochs)
        if fall and self.gentle_recipe:
            logger.info(f"{fall}; starting again with {self.gentle_recipe}")
            self.is_abandoned = True
            self._lock.release()
        elif fall:
            rate = self.info["hyperparameters"]["transferred_lr"]
            logger.warning(
                f"{fall}; lower the learning rate of their parameters, for example --set transferred_lr={rate / 5:.2g} "
                f"(now {rate:g})"
            )
            self._fall_reported = True
        return self.is_abandoned

    def finish(self, validate: Callable[..., Evaluation]) -> TrainResult:
        """Validate the best weights, report and plot the results, reduce the checkpoints to their EMA weights."""
        stopping = self.state.stopping
        logger.info(
            f"{counted(self.state.epoch, 'epoch')} completed, the best was epoch {stopping.best_epoch}; {self.best}:"
        )
        model = self.state.ema.model
        if not self.best.is_file():  # resumed from a lone checkpoint, and no epoch since then was better
            save_checkpoint(self.best, load_checkpoint_or_previous(self.last)[0])
        contents = {path: load_checkpoint_or_previous(path)[0] for path in (self.best, self.last)}
        images = batch_images.ValidationImages()
        validate = functools.partial(validate, on_batch=images)
        evaluation = self._validate_average(validate, contents)
        if evaluation is None:
            model.load_state_dict(contents[self.best]["ema"])
            evaluation = validate(model)
        if stopping.stop and stopping.smoothing > 1:  # what was trained after the best weights is worse
            contents[self.last] = contents[self.best]
        logger.log(RESULT, format_evaluation(evaluation, self.names))
        save_evaluation(evaluation, self.folder / FILE)
        for path, content in contents.items():
            final = {key: content[key] for key in content if key in (*self.info, "ema", "epoch", "best")}
            final.pop("manifest", None)
            save_checkpoint(path, {**final, "model": None, "finished": True})
            previous_checkpoint(path).unlink(missing_ok=True)
        memory = peak_memory(next(model.parameters()).device)
        if self.draws:
            self._draw(evaluation, images, memory)
        self._lock.release()
        shown = ", see report.html" if self.draws else ""
        logger.log(RESULT, f"results in {self.folder}{shown}; peak memory {memory}")
        result = TrainResult(
            folder=self.folder,
            best_weights=self.best,
            last_weights=self.last,
            epochs=self.state.epoch,
            best_epoch=stopping.best_epoch,
            metrics=evaluation.metrics,
            per_class=evaluation.per_class,
        )
        for callback in self.callbacks:
            callback.on_end(result)
        return result

    def _draw(self, evaluation: Evaluation, images: batch_images.ValidationImages, memory: str) -> None:
        """Write validation images, charts and the report of the finished run."""
        images.write(self.folder, self.names)
        plots.plot_results(self.folder / "results.csv", formats=self.plots)
        evaluation_plots.plot_evaluation(evaluation.curves, evaluation.confusion, self.names, self.folder, self.plots)
        run: dict[str, Any] = {"best epoch": self.state.stopping.best_epoch, "epochs": self.state.epoch}
        run |= {"time": duration(self.state.elapsed), "peak memory": memory}
        self.report.finish(evaluation, images.paths, run)

    def _validate_average(
        self, validate: Callable[..., Evaluation], contents: dict[Path, dict[str, Any]]
    ) -> Evaluation | None:
        """Validate the averaged weights of the best epochs; they become the last or the best ones if they are better.

        Args:
            validate: validates a model.
            contents: the checkpoints, `best` and `last`; changed in place.

        Returns:
            Their evaluation, None where the best weights stay those of an epoch. They are in the EMA's model then.
        """
        state, average = self.state, self.state.average
        if average.best is None:
            return None
        state.ema.model.load_state_dict(average.best)
        evaluation = validate(state.ema.model)
        reached, best = fitness(evaluation.metrics), state.stopping.best
        first, last = average.epochs
        verb = "are" if reached >= best else "are not"
        logger.info(
            f"averaged weights of epochs {first} to {last}: AP50-95 {evaluation.metrics['AP50-95']:.3f}, fitness "
            f"{reached:.4f}; they {verb} the best (epoch {state.stopping.best_epoch}: {best:.4f})"
        )
        averaged = contents[self.last] | {"ema": average.best}
        if reached >= state.stopping.last:
            contents[self.last] = averaged
        if reached < best:
            return None
        contents[self.best] = averaged | {"best": reached}
        return evaluation
