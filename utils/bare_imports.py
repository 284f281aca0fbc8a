"""Imports of `models`, `data` and `utils` by their bare names, as a checkout allows: aliases of `graftdet.models` etc."""

import importlib.abc
import importlib.machinery
import importlib.util
import sys


class _AliasFinder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports `models.x.y` as the module `graftdet.models.x.y`, so that no module is loaded twice."""

    def __init__(self, packages: set[str]):
        self.packages = packages

    def find_spec(self, fullname, path=None, target=None):
        top, _, rest = fullname.partition(".")
        is_alias = top in self.packages and rest and sys.modules.get(top) is sys.modules.get(f"graftdet.{top}")
        if not is_alias or rest == "__main__" or importlib.util.find_spec(f"graftdet.{fullname}") is None:
            return None
        return importlib.machinery.ModuleSpec(fullname, self)

    def create_module(self, spec):
        module = importlib.import_module(f"graftdet.{spec.name}")
        spec.loader_state = module.__spec__
        return module

    def exec_module(self, module):
        alias, module.__spec__ = module.__spec__, module.__spec__.loader_state  # importlib has replaced it by the alias
        del alias


_finder = _AliasFinder(set())


def alias_package(name: str) -> None:
    """Make the package that is imported by its bare `name` the same object as `graftdet.NAME`, submodules included.

    Args:
        name: `models`, `data` or `utils`; called by the package's own `__init__` while it is imported by that name.
    """
    sys.modules[name] = importlib.import_module(f"graftdet.{name}")
    _finder.packages.add(name)
    if _finder not in sys.meta_path:
        sys.meta_path.insert(0, _finder)
