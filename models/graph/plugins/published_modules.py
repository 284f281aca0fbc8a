"""While a plugin is loaded: the modules that code of YOLOv5 and its forks imports, such as `models.common`.

`models.common`, `models.experimental`, `models.yolo`, `utils.general`, `utils.torch_utils`, `ultralytics.nn.modules`
and all others below these packages have the names of `published_names`, unless the plugin has such files itself.
`models.x` and `utils.x` that the project has are its own modules.
"""

import importlib
import importlib.util
import sys
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

from graftdet.models.graph.plugins.published_names import IMPORTED, all_names, find_name

PUBLISHED_PACKAGES = ("models", "utils", "ultralytics")
"""Top-level packages whose modules are found for plugins."""
_PUBLISHED = frozenset(  # below models and utils: these are never those of a fork that lies in the working directory
    """
    models.common models.experimental models.yolo models.tf utils.general utils.torch_utils utils.activations
    utils.datasets utils.dataloaders utils.plots utils.google_utils utils.downloads utils.metrics utils.loss
    utils.autoanchor utils.augmentations utils.loggers utils.callbacks utils.checks
    ultralytics ultralytics.nn ultralytics.nn.modules ultralytics.nn.modules.conv ultralytics.nn.modules.block
    ultralytics.nn.modules.head ultralytics.nn.modules.transformer ultralytics.nn.modules.utils ultralytics.nn.tasks
    ultralytics.utils ultralytics.utils.torch_utils ultralytics.utils.tal ultralytics.utils.ops
    """.split()
)
_BESIDE = frozenset("common experimental yolo conv block head transformer activation utils general torch_utils".split())
"""Files that pasted code imports from beside it: `from .conv import Conv`."""


class PublishedModule(ModuleType):
    """A module with the published names. `from models.common import *` also gives torch, nn, math, ..., as there."""

    __path__: list[str] = []  # so that modules below it can be imported
    __version__ = "0"  # code that finds none may install the package

    def __getattr__(self, name: str) -> Any:
        if name == "__all__":
            return [*all_names(), *IMPORTED]
        try:
            return find_name(name)
        except KeyError:
            raise AttributeError(f"module '{self.__name__}' has no '{name}'") from None


class _TopModule(ModuleType):
    """`models` or `utils` for plugins: the project's own package, and a folder of that name beside the plugin."""

    __path__: list[str]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        for package in (importlib.import_module(f"graftdet.{self.__name__}"), *self._packages_of_others()):
            if hasattr(package, name):
                return getattr(package, name)
        try:
            return find_name(name)
        except KeyError:
            raise AttributeError(f"module '{self.__name__}' has no '{name}'") from None

    def _packages_of_others(self) -> Iterator[ModuleType]:
        """Packages of this name that an application has, beside the plugin or importable."""
        for folder in self.__path__:
            path = Path(folder) / "__init__.py"
            spec = importlib.util.spec_from_file_location(self.__name__, path) if path.is_file() else None
            if spec is not None and spec.loader is not None:
                module = importlib.util.module_from_spec(spec)
                spec.loader.exec_module(module)
                yield module


class _Finder(MetaPathFinder, Loader):
    """Finds published modules, and modules of the project by their bare names."""

    def __init__(self, plugin: str, named: Collection[str]):
        self._plugin, self._published = plugin, _PUBLISHED.union(named)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The spec of a module below `models`, `utils` and `ultralytics`, or beside the plugin; None for others."""
        top, _, rest = fullname.partition(".")
        if top == self._plugin:
            missing = rest in _BESIDE and PathFinder.find_spec(fullname, path) is None
            return ModuleSpec(fullname, self) if missing else None
        if top not in PUBLISHED_PACKAGES or fullname in ("models", "utils"):
            return None
        if _is_own(fullname):
            return ModuleSpec(fullname, self)
        found = None if fullname in _PUBLISHED else PathFinder.find_spec(fullname, path)
        return found or (ModuleSpec(fullname, self, is_package=True) if fullname in self._published else None)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """The project's own module, else one with the published names."""
        if not _is_own(spec.name):
            return PublishedModule(spec.name)
        module = importlib.import_module(f"graftdet.{spec.name}")
        spec.loader_state = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Restore the spec of a module of the project, which the import system has just replaced."""
        if not isinstance(module, PublishedModule) and module.__spec__ is not None:
            module.__spec__ = module.__spec__.loader_state


def _is_own(fullname: str) -> bool:
    """Whether `models.x` or `utils.x` is a module of the project."""
    if fullname.partition(".")[0] == "ultralytics" or fullname in _PUBLISHED:
        return False
    try:
        return importlib.util.find_spec(f"graftdet.{fullname}") is not None
    except ModuleNotFoundError:  # its parent is none
        return False


@contextmanager
def published_modules(plugin: str, folder: Path, named: Collection[str]) -> Iterator[set[str]]:
    """Within the context, imports of published modules succeed; afterwards all is as before.

    Args:
        plugin: name of the Python module that is loaded meanwhile.
        folder: the folder of its file. Further files of a fork are found in `models` and `utils` beside it.
        named: names of the modules that it imports: those that are not found anywhere have the published names, too.

    Returns:
        A set that receives the names of the Python modules below `models` and `utils` that were read from there.
    """
    before = {name: module for name, module in sys.modules.items() if name.partition(".")[0] in PUBLISHED_PACKAGES}
    for name in before:
        del sys.modules[name]
    for name in ("models", "utils"):
        sys.modules[name] = module = _TopModule(name)
        module.__path__ = _folders(name, folder)
    finder, local = _Finder(plugin, named), set[str]()
    sys.meta_path.insert(0, finder)
    try:
        yield local
    finally:
        sys.meta_path.remove(finder)
        for name in [name for name in sys.modules if name.partition(".")[0] in PUBLISHED_PACKAGES]:
            if str(getattr(sys.modules[name], "__file__", None) or "").startswith(str(folder)):
                local.add(name)
            del sys.modules[name]
        sys.modules.update(before)


def _folders(name: str, folder: Path) -> list[str]:
    """Folders of a package `models` or `utils` that is not the project's: beside the plugin, or importable."""
    own = {Path(path).resolve() for path in importlib.import_module(f"graftdet.{name}").__path__}
    found = PathFinder.find_spec(name)
    importable = map(Path, (found.submodule_search_locations or ()) if found is not None else ())
    beside = [folder if folder.name == name else folder / name, folder.parent / name]
    paths = dict.fromkeys(path.resolve() for path in (*beside, *importable) if path.is_dir())
    return [str(path) for path in paths if path not in own]
