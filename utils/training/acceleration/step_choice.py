"""The precision and memory format of a run: by option, by device, or the fastest of a few timed steps."""

import copy
import functools
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from graftdet.utils.distributed import as_single_process
from graftdet.utils.text import counted
from graftdet.utils.threads import BUSY, CpuTimes, adapt_threads, load_since
from graftdet.utils.training.acceleration.remembered_times import (
    Times,
    machine_key,
    read_times,
    remember_times,
    structure_key,
)
from graftdet.utils.training.acceleration.step_timing import (
    MEMORY_FORMATS,
    StepVariant,
    cpu_clock,
    fastest,
    random_states_restored,
    same_loss,
    time_in_turns,
    variants_for,
)
from graftdet.utils.training.muon import Muon

logger = logging.getLogger(__name__)

MIN_STEPS = 40  # of a run; timing takes as long as about ten
LIMIT_S = 6.0  # time for the steps of the whole batch; with slower steps fewer images are timed
TURNS = 3  # least number of steps per variant, with the first one
FEW_IMAGES = 2  # of the first steps, which exclude slow variants
HOPELESS = 2.5  # times the fastest: not timed with the whole batch
TARGETS_PER_IMAGE = 8


@dataclass(frozen=True)
class StepChoice:
    """How the steps of a run compute.

    Attributes:
        device_type: Type of the device that the choice is for.
        training: Variant of a training step.
        validation: Precision of validation between epochs: "float32" or "bfloat16".
    """

    device_type: str
    training: StepVariant
    validation: str = "float32"

    def to_record(self) -> dict[str, str]:
        """Return plain data for config.yaml and the checkpoints."""
        return {"device": self.device_type, "training": str(self.training), "validation": self.validation}

    @classmethod
    def from_record(cls, record: Any) -> "StepChoice | None":
        """Return the choice that `to_record` returned; None for anything else."""
        try:
            choice = cls(str(record["device"]), StepVariant.parse(record["training"]), str(record["validation"]))
        except (TypeError, KeyError, ValueError, AttributeError):
            return None
        return choice if choice.validation in ("float32", "bfloat16") else None

    def apply(self, work: "Work") -> None:
        """Make a model contiguous again if that was chosen, and set the precision of the optimizer."""
        if self.training.layout == torch.contiguous_format:  # channels last is not for every block
            work.trained.to(memory_format=torch.contiguous_format)
        set_products(work.optimizer, self.training)

    def scaler(self) -> torch.amp.GradScaler | None:
        """Return the gradient scaler that the precision needs, if any."""
        needs_one = self.device_type == "cuda" and self.training.precision == "float16"
        return torch.amp.GradScaler("cuda") if needs_one else None


@dataclass(frozen=True)
class Work:
    """What the steps of a run do.

    Attributes:
        model: The model; it is validated.
        trained: The module that is trained: the model, or one that contains it.
        criterion: `(outputs of trained, targets (M, 6)) -> dict of named losses`.
        optimizer: Optimizer of the parameters of `trained`.
        images_shape: Shape (B, C, H, W) of a batch.
        steps: Number of training steps of the run.
        device: The device of the model.
    """

    model: nn.Module
    trained: nn.Module
    criterion: Callable[[Any, torch.Tensor], dict[str, torch.Tensor]]
    optimizer: torch.optim.Optimizer
    images_shape: tuple[int, int, int, int]
    steps: int
    device: torch.device

    def key(self) -> dict[str, Any]:
        """Return what the times of its steps depend on."""
        return machine_key() | {
            "model": structure_key(self.trained),
            "training": [type(self.trained).__name__, type(self.criterion).__name__, type(self.optimizer).__name__],
            "images": list(self.images_shape),
        }


def set_products(optimizer: torch.optim.Optimizer, variant: StepVariant) -> None:
    """Let Muon compute its matrix products in bfloat16 where the model does."""
    if isinstance(optimizer, Muon):
        optimizer.product_type = torch.bfloat16 if variant.precision == "bfloat16" else None


def choose_steps(option: str, work: Work, layout: torch.memory_format, recorded: Any = None) -> StepChoice:
    """Choose how the steps of a run compute.

    "off" is float32, "on" float16 on CUDA and bfloat16 on CPUs. "auto" is "on" on CUDA; on CPUs a few steps are timed,
    or were in an earlier run (see `read_times`). Short runs, and other devices, train in float32. Weights, statistics,
    and random states do not change.

    Args:
        option: "auto", "on" or "off".
        work: The run.
        layout: The memory format that the model is in and supports.
        recorded: `StepChoice.to_record` of the run that is resumed, if any. It holds on the same type of device.
    """
    kind = work.device.type
    choice = StepChoice.from_record(recorded)
    if choice and choice.device_type == kind:
        return choice
    memory_format = next(name for name, value in MEMORY_FORMATS.items() if value == layout)
    if option == "auto" and kind == "cpu":
        return _by_time(work, memory_format)
    is_mixed = option == "on" or (option == "auto" and kind == "cuda")
    precision = ("bfloat16" if kind == "cpu" else "float16") if is_mixed else "float32"
    return StepChoice(kind, StepVariant(precision, memory_format))


def _by_time(work: Work, memory_format: str) -> StepChoice:
    """The fastest choice, by times that are remembered or taken now."""
    default = StepChoice(work.device.type, StepVariant("float32", memory_format))
    if work.steps < MIN_STEPS:
        logger.info(
            f"precision: {default.training}; a run of {counted(work.steps, 'step')} is too short to time others"
        )
        return default
    adapt_threads()  # timed steps compute as those of the run will
    key = work.key()
    times, origin = read_times(key), "; as measured in an earlier run"
    if not times:
        before = CpuTimes.now()
        times = time_steps(work, memory_format)
        if not times:
            return default
        load = load_since(before)
        remember_times(key, times, load)
        is_busy = load >= BUSY
        origin = f"; timed while other processes used {load:.0%} of the cores, so the next run times again" * is_busy
    training, validation = (fastest(times[part]) for part in ("training", "validation"))
    logger.info(f"precision: {describe(times['training'])}; validation: {describe(times['validation'])}{origin}")
    return StepChoice(work.device.type, training, validation.precision)


def describe(seconds: Mapping[StepVariant, float]) -> str:
    """Return the fastest variant and the images per second of all, as text.

    Args:
        seconds: Variant -> seconds per image, the preferred variants first.
    """
    chosen = fastest(seconds)
    others = ", ".join(f"{variant} {1 / taken:.1f}" for variant, taken in seconds.items() if variant != chosen)
    return f"{chosen}, {1 / seconds[chosen]:.1f} images/s" + (f" ({others})" if others else "")


def time_steps(work: Work, memory_format: str) -> Times | None:
    """Time steps on copies of the model.

    Args:
        work: The run.
        memory_format: Name of the memory format that the model is in and supports.

    Returns:
        Seconds per image of the variants that are not much slower than others; None if the steps in float32 raise an
        error or their loss is not finite, which training or validation then reports.
    """
    clock, variants = cpu_clock(), variants_for(memory_format)
    with random_states_restored(), as_single_process():
        steps = TimedSteps(work, variants)
        few = min(FEW_IMAGES, steps.batch)
        calls = {variant: functools.partial(steps.train, variant, few) for variant in variants}
        first = time_in_turns(calls, 0, clock, 1)
        if variants[0] not in first:
            return None
        limit = max(HOPELESS * min(first.values()), first[variants[0]])
        remaining = [variant for variant, taken in first.items() if taken <= limit and same_loss(steps.losses, variant)]
        if variants[0] not in remaining:  # its loss is not finite
            return None
        seconds_per_turn = sum(first[variant] for variant in remaining) / few * steps.batch
        count = max(few, min(steps.batch, int(steps.batch * LIMIT_S / (TURNS * seconds_per_turn))))
        calls = {variant: functools.partial(steps.train, variant, count) for variant in remaining}
        training = time_in_turns(calls, LIMIT_S / TURNS, clock)
        name = fastest(training).memory_format if training else memory_format
        precisions = dict.fromkeys(variant.precision for variant in remaining)
        inferred = [StepVariant(precision, name) for precision in precisions]
        calls = {variant: functools.partial(steps.validate, variant, count) for variant in inferred}
        validation = time_in_turns(calls, LIMIT_S / TURNS / 2, clock)
    if variants[0] not in training or inferred[0] not in validation:
        return None
    parts = {"training": training, "validation": validation}
    return {part: {variant: taken / count for variant, taken in times.items()} for part, times in parts.items()}


class TimedSteps:
    """Steps of copies of a run's modules, one copy per memory format, on random images.

    The learning rate is 0, so that the losses of all steps are of the same weights.

    Args:
        work: The run; it does not change.
        variants: The variants to run.

    Attributes:
        batch: Images per batch of the run.
        losses: Variant -> loss of its first step; gradients of NaN make the weights NaN, whatever the learning rate.
    """

    def __init__(self, work: Work, variants: list[StepVariant]):
        self.batch = work.images_shape[0]
        self.losses: dict[StepVariant, float] = {}
        self._device = work.device
        generator = torch.Generator().manual_seed(0)
        self._images = torch.rand(work.images_shape, generator=generator).to(work.device)
        self._targets = _random_targets(self.batch, generator).to(work.device)
        self._copies = {}
        for memory_format in dict.fromkeys(variant.memory_format for variant in variants):
            modules = copy.deepcopy((work.model, work.trained, work.criterion, work.optimizer))
            if memory_format == "contiguous":
                modules[1].to(memory_format=torch.contiguous_format)
            for group in modules[3].param_groups:
                group["lr"] = 0.0
            self._copies[memory_format] = modules

    def train(self, variant: StepVariant, count: int) -> None:
        """Run forward and backward pass and the optimizer's step on `count` images."""
        _, trained, criterion, optimizer = self._copies[variant.memory_format]
        trained.train()
        torch.manual_seed(0)
        outputs = self._forward(trained, variant, count)
        losses = criterion(outputs, self._targets[self._targets[:, 0] < count])
        loss = torch.stack(list(losses.values())).sum() * count
        loss.backward()
        set_products(optimizer, variant)
        optimizer.step()
        optimizer.zero_grad()
        self.losses.setdefault(variant, float(loss.detach()))

    @torch.no_grad()
    def validate(self, variant: StepVariant, count: int) -> None:
        """Run the model in eval mode on `count` images."""
        self._forward(self._copies[variant.memory_format][0].eval(), variant, count)

    def _forward(self, module: nn.Module, variant: StepVariant, count: int) -> Any:
        images = self._images[:count].contiguous(memory_format=variant.layout)
        dtype = variant.autocast_type
        with torch.autocast(self._device.type, dtype=dtype, enabled=dtype is not None):
            return module(images)


def _random_targets(count: int, generator: torch.Generator) -> torch.Tensor:
    """Targets (M, 6) of the first class for `count` images: image, class, cx, cy, w, h normalized."""
    image = torch.arange(count).repeat_interleave(TARGETS_PER_IMAGE)[:, None].float()
    centers = torch.rand(len(image), 2, generator=generator) * 0.6 + 0.2
    sizes = torch.rand(len(image), 2, generator=generator) * 0.3 + 0.05
    return torch.cat((image, torch.zeros_like(image), centers, sizes), 1)
