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
    """`models` or `utils` for plugins: the project's own package, and packages of that name of an application.

    Args:
        name: "models" or "utils".
        folders: those of the application's packages.
        imported: the package of that name that the application has imported, if any.
    """

    __path__: list[str]

    def __init__(self, name: str, folders: list[str], imported: ModuleType | None):
        super().__init__(name)
        self.__path__, self._imported = folders, imported
        self._packages: dict[Path, ModuleType] = {}

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        for package in (importlib.import_module(f"graftdet.{self.__name__}"), *self._packages_of_others()):
            found = getattr(package, name, None)  # files of the packages are left to the import system
            if hasattr(package, name) and getattr(found, "__name__", None) != f"{self.__name__}.{name}":
                return found
        try:
            return find_name(name)
        except KeyError:
            raise AttributeError(f"module '{self.__name__}' has no '{name}'") from None

    def _packages_of_others(self) -> Iterator[ModuleType]:
        """Packages of this name that an application has, beside the plugin or importable."""
        for path in (Path(folder) / "__init__.py" for folder in self.__path__):
            if path not in self._packages and path.is_file():
                self._add_package(path)
            if path in self._packages:
                yield self._packages[path]

    def _add_package(self, path: Path) -> None:
        """Take the package that the application has imported, or run its file once."""
        if self._imported is not None and _file_of(self._imported) == path:
            self._packages[path] = self._imported
            return
        spec = importlib.util.spec_from_file_location(self.__name__, path)
        assert spec is not None and spec.loader is not None
        self._packages[path] = module = importlib.util.module_from_spec(spec)  # before it runs: it may import itself
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del self._packages[path]
            raise


class _Finder(MetaPathFinder, Loader):
    """Finds published modules, and modules of the project by their bare names.

    Attributes:
        imported: modules that the application has imported, by name; plugins get the same ones.
    """

    def __init__(self, plugin: str, named: Collection[str]):
        self._plugin, self._published = plugin, _PUBLISHED.union(named)
        self.imported: dict[str, ModuleType] = {}

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
            return ModuleSpec(fullname, self, loader_state=importlib.import_module(f"graftdet.{fullname}"))
        found = None if fullname in _PUBLISHED else PathFinder.find_spec(fullname, path)
        imported = self.imported.get(fullname)
        if imported is not None and found is not None and found.origin and _file_of(imported) == Path(found.origin):
            return ModuleSpec(fullname, self, loader_state=imported)
        return found or (ModuleSpec(fullname, self, is_package=True) if fullname in self._published else None)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """The module of the project or application that `find_spec` has found, else one with the published names."""
        if spec.loader_state is None:
            return PublishedModule(spec.name)
        module, spec.loader_state = spec.loader_state, spec.loader_state.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Restore the spec of a module that was there already, which the import system has just replaced."""
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


def _file_of(module: ModuleType) -> Path | None:
    file = getattr(module, "__file__", None)
    return Path(file).resolve() if file else None


class PublishedModules:
    """The published modules for one plugin, and the modules below `models` and `utils` that it has imported.

    Args:
        plugin: name of the plugin's Python module.
        folder: the folder of its file. Further files of a fork are found in `models` and `utils` beside it.
        named: names of the modules that it imports: those that are not found anywhere have the published names, too.
    """

    def __init__(self, plugin: str, folder: Path, named: Collection[str]):
        self._folder, self._finder = folder, _Finder(plugin, named)
        self._modules: dict[str, ModuleType] = {}

    @property
    def local(self) -> set[str]:
        """Names of the imported modules below `models` and `utils` whose files are in the folder."""
        files = {name: _file_of(module) for name, module in self._modules.items()}
        return {name for name, file in files.items() if file is not None and file.is_relative_to(self._folder)}

    @contextmanager
    def importable(self) -> Iterator[None]:
        """Within the context, imports of published modules succeed; afterwards `sys.modules` is as before."""
        self._finder.imported = before = _take_modules()
        if not self._modules:
            for name in ("models", "utils"):
                self._modules[name] = _TopModule(name, _folders(name, self._folder), before.get(name))
        sys.modules.update(self._modules)
        sys.meta_path.insert(0, self._finder)
        try:
            yield
        finally:
            sys.meta_path.remove(self._finder)
            self._modules = _take_modules()
            sys.modules.update(before)


def _take_modules() -> dict[str, ModuleType]:
    """Remove the modules of the published packages from `sys.modules`, and return them."""
    names = [name for name in sys.modules if name.partition(".")[0] in PUBLISHED_PACKAGES]
    return {name: sys.modules.pop(name) for name in names}


def _folders(name: str, folder: Path) -> list[str]:
    """Folders of a package `models` or `utils` that is not the project's: beside the plugin, or importable."""
    own = {Path(path).resolve() for path in importlib.import_module(f"graftdet.{name}").__path__}
    found = PathFinder.find_spec(name)
    importable = map(Path, (found.submodule_search_locations or ()) if found is not None else ())
    beside = [folder if folder.name == name else folder / name, folder.parent / name]
    paths = dict.fromkeys(path.resolve() for path in (*beside, *importable) if path.is_dir())
    return [str(path) for path in paths if path not in own]
