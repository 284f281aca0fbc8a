"""The ways to run a model on a CPU: a backend and a precision. No torch."""

import importlib.util
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any, NamedTuple

from graftdet.models.backends import BACKENDS
from graftdet.models.backends.exported_model import thread_limit
from graftdet.utils.processor import has_bfloat16, processor_name, usable_cores
from graftdet.utils.text import counted

PRECISIONS = ("float32", "bfloat16")
BFLOAT16_BACKENDS = ("torch", "openvino")
SAMPLED_IMAGES = 16  # of a dataset or source, on which the ways are compared


class Way(NamedTuple):
    """A backend ('torch' or a name in `BACKENDS`) and a precision, one of `PRECISIONS`."""

    backend: str
    precision: str = "float32"

    @property
    def half(self) -> bool:
        """Whether it computes in bfloat16."""
        return self.precision == "bfloat16"

    def __str__(self) -> str:
        return self.backend + " in bfloat16" * self.half

    @classmethod
    def parse(cls, text: str) -> "Way | None":
        """The way that `str` gave this text; None for any other text."""
        backend, _, precision = text.partition(" in ")
        known = backend in ("torch", *BACKENDS) and (precision or "float32") in PRECISIONS
        return cls(backend, precision or "float32") if known else None


@dataclass(frozen=True)
class Workload:
    """What a model will be used for, as far as it is known when it is loaded.

    Attributes:
        size: longer side, or (height, width), of the input in pixels; None: as trained.
        batch_size: images per call of the model.
        num_images: expected number of images; None: many.
        images: images that the ways to run the model are compared on, as `Predictor.predict` takes them, or a function
            that reads them when they are needed; without any, drawn images are used.
        origin: where these images are from, for messages.
        check_names: called with the class names before the model is exported; raises `UserError` for names that do not
            fit the request. None: nothing to check.
    """

    size: int | tuple[int, int] | None = None
    batch_size: int = 1
    num_images: int | None = None
    images: Sequence[Any] | Callable[[], Sequence[Any]] = ()
    origin: str = "the given images"
    check_names: Callable[[list[str]], object] | None = None

    def read_images(self) -> list[Any]:
        """The images, read now."""
        return list(self.images() if callable(self.images) else self.images)


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


def possible_ways(backends: Sequence[str], name: str, precision: str) -> list[Way]:
    """The ways that a user's request leaves.

    Args:
        backends: names of the backends that can be used, among them 'torch'.
        name: the requested backend, or 'auto'.
        precision: 'float32', 'half' or 'auto'; a backend without half precision computes in float32.
    """
    ways = [Way(backend) for backend in (backends if name == "auto" else [name])]
    half = [way._replace(precision="bfloat16") for way in ways if way.backend in BFLOAT16_BACKENDS and has_bfloat16()]
    if precision == "auto":
        return ways + half
    return (half if precision == "half" else []) or ways


def runtimes() -> str:
    """The processor and the versions of the installed backends, which the output of a model depends on."""
    packages = {**onnx_backends(), "torch": "torch"}
    installed = {**installed_backends(), "torch": version("torch")}
    return ", ".join([processor_name(), *(f"{packages[name]} {number}" for name, number in installed.items())])


def machine() -> str:
    """What the time per image depends on, besides model, size and batch."""
    threads = f"{counted(usable_cores(), 'core')}, {thread_limit() or 'all'} threads"
    return f"{platform.node()}, {platform.machine()}, {threads}, {runtimes()}"
