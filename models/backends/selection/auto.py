"""A `.pt` file run on the CPU by the fastest backend and precision: timed once on this machine, then remembered.

Timing pays for many images only. For few, the choice of an earlier start or a fixed order of backends is used.
"""

import contextlib
import logging
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from graftdet.models.backends.selection.agreement import Agreement, agreement
from graftdet.models.backends.selection.cached_export import CachedExport, NoExport
from graftdet.models.backends.selection.choice import Choice, choose, time_ways, without_times
from graftdet.models.backends.selection.remembered import Choices
from graftdet.models.backends.selection.ways import (
    Way,
    Workload,
    installed_backends,
    machine,
    onnx_backends,
    possible_ways,
)
from graftdet.models.backends.torch_file import load_torch_model
from graftdet.models.inference.image_input import load_image
from graftdet.models.inference.predict_settings import PredictSettings
from graftdet.models.inference.predictor import Predictor
from graftdet.utils.errors import UserError, first_line
from graftdet.utils.threads import BUSY, CpuTimes, load_since, load_since_start

logger = logging.getLogger(__name__)
EXPORT_FROM = 20  # images for which an export takes less time than it saves
TIMING_FROM = 200  # the same of the export and the comparison of all ways
START_WORTH = 20  # images: a start without torch saves as much time as they do
TIMING_SECONDS = 1.5
DRAWN_IMAGES = 4


def load_fastest(
    weights: str | Path,
    name: str = "auto",
    precision: str = "auto",
    plugins: Iterable[str] = (),
    workload: Workload | None = None,
) -> Predictor:
    """Open `weights` on the CPU in the fastest way that the request leaves.

    Args:
        weights: a `.pt` or `.safetensors` file.
        name: the backend, or 'auto'.
        precision: 'float32'; 'half': bfloat16, where backend and processor have it; 'auto': bfloat16 where it is faster
            and its boxes agree with float32 (`agreement`).
        plugins: the plugins that the weights need, already loaded.
        workload: what the model will be used for.

    Returns:
        The predictor. Backends whose float32 output differs from torch's are not used; with 'auto', torch runs what
        cannot be exported, after a warning.

    Raises:
        UserError: the weights cannot be read, or the requested backend cannot run them.
    """
    installed, packages = installed_backends(), onnx_backends()
    if name not in ("auto", "torch", *installed):
        raise UserError(f"--backend {name}: needs {packages[name]}; install it with 'pip install {packages[name]}'")
    workload = workload or Workload()
    export = CachedExport(weights, plugins, workload.check_names)
    selection = _Selection(export, name, precision, workload)
    try:
        return selection.load()
    except NoExport as error:
        if name != "auto":
            raise UserError(f"--backend {name}: {error}") from None
        logger.warning(f"{error}; continuing with torch")
    return _Selection(selection.export, "torch", precision, selection.workload).load()


class _Selection:
    """One request for the fastest way."""

    def __init__(self, export: CachedExport, name: str, precision: str, workload: Workload):
        self.export, self.name, self.precision, self.workload = export, name, precision, workload
        self.choices = Choices(export.path.stem, machine())
        self.opened: dict[Way, Predictor] = {}
        self.images: list[Any] = []

    def load(self) -> Predictor:
        """The predictor of the chosen way. Raises `NoExport`, `UserError`."""
        if self.name == "auto" and not installed_backends():
            self.export.backends()  # raises which are missing
        ways = possible_ways(["torch", *installed_backends()], self.name, self.precision)
        if len(ways) == 1:
            return self._open_verified(ways[0])
        choice = self.choices.get(self._work())
        if choice is None or choice.way not in ways or (choice.load >= BUSY and load_since_start() < BUSY):
            if not self._is_long(TIMING_FROM):
                return self._load_without_timing(ways)
            choice = self._time(ways)
            logger.info(f"{self.export.weights}: run by {choice}")
            self.choices.add(self._work(), choice)
        else:
            logger.info(f"{self.export.weights}: run by {choice} (an earlier start)")
        return self._open_verified(choice.way)

    def _work(self) -> str:
        """What a choice is remembered for."""
        size, batch = self.workload.size or "as trained", self.workload.batch_size
        text = size if isinstance(size, str) else "x".join(map(str, (size, size) if isinstance(size, int) else size))
        request = "" if (self.name, self.precision) == ("auto", "auto") else f", {self.name}, {self.precision}"
        return f"{text}, batch {batch}{request}"

    def _is_long(self, images: int) -> bool:
        """Whether there are that many images, those of earlier starts included."""
        expected = self.workload.num_images
        return expected is None or self.choices.images + expected >= images

    def _load_without_timing(self, ways: Sequence[Way]) -> Predictor:
        """The way of an earlier start for other work, else the first of a fixed order; exports for many images only."""
        earlier, is_long = self.choices.any(), self._is_long(EXPORT_FROM)
        self.choices.count((self.workload.num_images or 0) + START_WORTH)
        if earlier is not None and earlier.way in ways:
            return self._open_verified(earlier.way)
        can_wait = self.name == "auto" and not is_long and not self.export.exists
        return self._open_verified(Way("torch") if can_wait else without_times(self._verified(ways)))

    def _verified(self, ways: Sequence[Way]) -> list[Way]:
        """The ways whose backend reproduces the model. Raises `NoExport` if none does."""
        if all(way.backend == "torch" for way in ways):
            return list(ways)
        verified = ["torch", *self.export.backends()]
        reproduced = [way for way in ways if way.backend in verified]
        if not reproduced:
            raise NoExport(f"the output of {ways[0].backend} differs from torch's")
        return reproduced

    def _open_verified(self, way: Way) -> Predictor:
        self._verified([way])
        return self._open(way)

    def _open(self, way: Way) -> Predictor:
        if way not in self.opened:
            is_torch, file = way.backend == "torch", self.export
            self.opened[way] = (
                load_torch_model(file.weights, "cpu", way.half) if is_torch else file.load(way.backend, way.half)
            )
        return self.opened[way]

    def _time(self, ways: Sequence[Way]) -> Choice:
        """Time each way on the first image, and compare bfloat16 with float32 on all of them."""
        ways, before = self._verified(ways), CpuTimes.now()
        logger.info(f"{self.export.weights}: timing {', '.join(map(str, ways))}, once on this machine")
        self.images, origin = _readable(self.workload.read_images()), self.workload.origin
        if not self.images:
            self.images, origin = _drawn_images(self._open(ways[0])), "drawn images"
        calls = {way: call for way in ways if (call := self._call(way)) is not None}
        if not calls:
            return Choice(ways[0], {})  # what is wrong is raised where it runs
        milliseconds = {
            way: taken / self.workload.batch_size for way, taken in time_ways(calls, TIMING_SECONDS).items()
        }
        choice = choose(milliseconds, self._agreement if self.precision == "auto" else None)
        choice.images = f"{len(self.images)} of {origin}" if origin != "drawn images" else origin
        choice.load = load_since(before)
        return choice

    def _call(self, way: Way) -> Callable[[], Any] | None:
        """What runs a batch of the first image once; None, after a warning, for a way that fails."""
        settings = PredictSettings(size=self.workload.size, batch_size=self.workload.batch_size)
        try:
            steps = self._open(way).steps(settings)
            batch = steps.preprocess(self.images[:1] * settings.batch_size)
            steps.infer(batch)
        except Exception as error:  # whatever a block raises in bfloat16
            logger.warning(f"{self.export.weights}: cannot be run by {way} ({first_line(error)})")
            return None
        return lambda: steps.infer(batch)

    def _agreement(self, way: Way) -> Agreement:
        """How the boxes of a way agree with those in float32."""
        reference = min((one for one in self.opened if not one.half), key=lambda one: one.backend != way.backend)
        return agreement(self._open(reference), self._open(way), self.images, self.workload.size)


def _readable(images: Iterable[Any]) -> list[np.ndarray]:
    """The images (H, W, 3) that can be read: problems of others are reported when they are used."""
    loaded = []
    for image in images:
        with contextlib.suppress(UserError):
            loaded.append(load_image(image).image)
    return loaded


def _drawn_images(model: Predictor) -> list[np.ndarray]:
    """Images (H, W, 3) uint8 of the size that the model was trained on."""
    from graftdet.models.backends.receipt.verify import noise_images

    images = noise_images(DRAWN_IMAGES, model.input_size(None))
    return [np.ascontiguousarray((255 * image).astype(np.uint8).transpose(1, 2, 0)) for image in images]
