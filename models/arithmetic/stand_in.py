"""A stand-in for the package torch: what blocks use of it, by arithmetic; anything else raises `Unsupported`."""

import contextlib
from types import ModuleType
from typing import Any

from graftdet.models.arithmetic import activations, functions, layers, module, windows
from graftdet.models.arithmetic.tensor import Parameter, ShapeTensor, Size, Unsupported


class _NoEffect(contextlib.ContextDecorator):
    """`torch.no_grad()`, `torch.device(...)`: contexts that change nothing without values."""

    def __init__(self, *_: Any, **__: Any):
        pass

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        pass


class _Missing:
    """A name that the stand-in lacks: it may be imported, be a base class or an annotation, and nothing else."""

    def __init__(self, name: str):
        self._name = name

    def __getattr__(self, name: str) -> "_Missing":
        if name.startswith("__"):
            raise AttributeError(name)
        return _Missing(f"{self._name}.{name}")

    def __call__(self, *_: Any, **__: Any) -> Any:
        raise Unsupported(self._name)

    def __mro_entries__(self, _: tuple) -> tuple[type, ...]:
        def refuse(*_: Any, **__: Any) -> None:
            raise Unsupported(self._name)

        return (type("Missing", (), {"__init__": refuse}),)

    def __or__(self, _: Any) -> "_Missing":
        return self

    __ror__ = __or__


class _Package(ModuleType):
    """A module of torch whose other names are `_Missing`."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Missing(f"{self.__name__}.{name}")


def _package(name: str, **entries: Any) -> _Package:
    result = _Package(name)
    vars(result).update(entries)
    return result


_BASES = frozenset(("Activation", "ConvNd", "ConvTransposeNd"))  # of the layers; torch.nn has none of these names


def _layers() -> dict[str, type]:
    """The layers by name, as classes of torch: their arguments are bound as those."""
    found = {
        name: entry
        for source in (module, windows, layers, activations)
        for name, entry in vars(source).items()
        if isinstance(entry, type) and issubclass(entry, module.Module) and name[0] != "_" and name not in _BASES
    } | activations.LEFT_TO_TORCH
    for entry in found.values():
        entry.__module__ = "torch.nn.modules"
    return found


def _do_nothing(tensor: Any, *_: Any, **__: Any) -> Any:
    return tensor


class _Initialization(ModuleType):
    """`torch.nn.init`: values do not matter."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _do_nothing


def _false(*_: Any) -> bool:
    return False


def make_torch() -> dict[str, ModuleType]:
    """The modules of the stand-in by name; others are an `empty_module`."""
    functional = _package("torch.nn.functional", **functions.FUNCTIONAL)
    init = _Initialization("torch.nn.init")
    unused = type("UninitializedParameter", (), {})
    nn = _package(
        "torch.nn", **_layers(), functional=functional, init=init, Parameter=Parameter, UninitializedParameter=unused
    )
    torch = _package(
        "torch",
        **functions.TORCH,
        nn=nn,
        Tensor=ShapeTensor,
        Size=Size,
        no_grad=_NoEffect,
        inference_mode=_NoEffect,
        device=_NoEffect,
    )
    vars(torch)["jit"] = _package("torch.jit", is_tracing=_false, is_scripting=_false)
    vars(torch)["compiler"] = _package("torch.compiler", is_compiling=_false, is_exporting=_false)
    vars(torch)["onnx"] = _package("torch.onnx", is_in_onnx_export=_false)
    convolutions = _package("torch.nn.modules.conv", _ConvNd=windows.ConvNd, _ConvTransposeNd=windows.ConvTransposeNd)
    every = (torch, nn, functional, init, convolutions, torch.jit, torch.compiler, torch.onnx)
    return {layer_class.__name__: layer_class for layer_class in every}


def empty_module(name: str) -> ModuleType:
    """A module whose names are all `_Missing`."""
    return _package(name)
