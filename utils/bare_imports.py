"""Bare imports in a checkout: `models`, `data` and `utils` are aliases of the packages below `graftdet`.

An alias is the same module object, so `from models.blocks.conv import Conv` never loads a second copy.
"""

import importlib.util
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType


class _AliasFinder(MetaPathFinder, Loader):
    """Resolves `models.x.y` to the module `graftdet.models.x.y`."""

    def __init__(self) -> None:
        self.packages: set[str] = set()

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The spec of an alias; None for every module that is not below one of the aliased packages."""
        top, _, rest = fullname.partition(".")
        if top not in self.packages or rest in ("", "__main__"):  # `python -m models` runs the file itself
            return None
        if sys.modules.get(top) is not sys.modules.get(f"graftdet.{top}"):  # another package of that name by now
            return None
        return ModuleSpec(fullname, self) if importlib.util.find_spec(f"graftdet.{fullname}") else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """The module of the package, loaded if necessary."""
        module = importlib.import_module(f"graftdet.{spec.name}")
        spec.loader_state = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Restore the module's own spec, which the import system has just replaced with the alias."""
        assert module.__spec__ is not None
        module.__spec__ = module.__spec__.loader_state


_finder = _AliasFinder()


def alias_package(name: str) -> None:
    """Make the package that is being imported by its bare name the same object as `graftdet.NAME`, submodules included.

    Args:
        name: `models`, `data` or `utils`. The package's own `__init__` calls this when it is imported by that name.
    """
    sys.modules[name] = importlib.import_module(f"graftdet.{name}")
    _finder.packages.add(name)
    if _finder not in sys.meta_path:
        sys.meta_path.insert(0, _finder)
