"""Loads the code of blocks, heads and the row builder a second time, with the stand-in for torch.

The import function of each module that is loaded here is its own, as that of plugin files is: `sys.modules` and the
modules that torch runs are untouched.
"""

import builtins
import functools
import importlib.util
import threading
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

from graftdet.models.arithmetic.stand_in import empty_module, make_torch
from graftdet.models.arithmetic.substitutes import plugins, shape_inference, size_limit

ROOT = Path(__file__).resolve().parents[1]
_PACKAGE = "graftdet.models"
_LOADED = ("blocks", "heads", "graph", "lint")  # packages below models whose code is loaded here
_EMPTY = ("torch", f"{_PACKAGE}.losses")  # what is imported from these and not replaced may only be named


class Loader:
    """The modules that are loaded with the stand-in."""

    def __init__(self) -> None:
        self._modules: dict[str, ModuleType] = {
            **make_torch(),
            f"{_PACKAGE}.graph.shape_inference": shape_inference(),
            f"{_PACKAGE}.graph.size_limit": size_limit(),
            f"{_PACKAGE}.graph.plugins": plugins(),
        }
        self._lock = threading.RLock()

    def load(self, name: str) -> ModuleType:
        """Return the module `name`, such as `graftdet.models.graph.row_builder`, with its packages."""
        with self._lock:
            parent, _, own = name.rpartition(".")
            package = self.load(parent) if parent != _PACKAGE else None
            if name not in self._modules:  # the package may have loaded it
                self._execute(name)
                if package is not None:
                    setattr(package, own, self._modules[name])
            return self._modules[name]

    def _execute(self, name: str) -> None:
        path = ROOT.joinpath(*name.split(".")[2:])
        folder = path if path.is_dir() else None
        file = path / "__init__.py" if folder else path.with_suffix(".py")
        locations = [str(folder)] if folder else None
        spec = importlib.util.spec_from_file_location(name, file, submodule_search_locations=locations)
        module = importlib.util.module_from_spec(spec)  # type: ignore[arg-type]
        vars(module)["__builtins__"] = vars(builtins) | {"__import__": self._import}
        self._modules[name] = module
        try:
            spec.loader.exec_module(module)  # type: ignore[union-attr]
        except BaseException:
            del self._modules[name]
            raise

    def _import(self, name: str, globals: Any = None, locals: Any = None, fromlist: Any = (), level: int = 0) -> Any:
        """`__import__` of the modules that are loaded here."""
        if any(f"{name}.".startswith(f"{empty}.") for empty in _EMPTY):
            module = self._modules.setdefault(name, empty_module(name))
            return module if fromlist else self._modules[name.partition(".")[0]]
        if name == "importlib" and fromlist:
            return SimpleNamespace(import_module=self._import_module)
        if not name.startswith(f"{_PACKAGE}.") or name.split(".")[2] not in _LOADED:
            return builtins.__import__(name, globals, locals, fromlist, level)
        module = self.load(name)
        for entry in fromlist or ():
            if not hasattr(module, entry):
                self.load(f"{name}.{entry}")
        return module

    def _import_module(self, name: str, package: str | None = None) -> ModuleType:
        name = f"{package}{name}" if name.startswith(".") else name
        inner = name.split(".")
        return self.load(name) if inner[2:3] and inner[2] in _LOADED else importlib.import_module(name)


@functools.cache
def loader() -> Loader:
    """Return the loader of this process."""
    return Loader()
