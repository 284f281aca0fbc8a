"""The user's own blocks: a Python file or a package named with --plugins, whose classes become modules of YAMLs.

Only what the user names on the command line is ever loaded; a checkpoint or a YAML cannot ask for it.
"""

import ast
import hashlib
import importlib
import importlib.util
import inspect
import logging
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType

from torch import nn

from graftdet.models.blocks import BLOCKS
from graftdet.models.graph.errors import UnknownModuleError
from graftdet.models.heads import HEADS
from graftdet.utils.errors import UserError

logger = logging.getLogger(__name__)

_loaded: dict[str, list[str]] = {}
_packages: list[str] = []  # whose classes may be named in YAMLs, by dotted name
_ambiguous: dict[str, tuple[str, str]] = {}  # names of the project's blocks that a plugin has, too -> message and fix


def load_plugins(plugins: Iterable[str | Path] | None = ()) -> list[str]:
    """Load the user's own blocks.

    Every public `nn.Module` class defined in a file is a module under its own name, as is whatever it registers itself
    with `@BLOCKS.register()`; where the file has `__all__`, only the classes listed there. A class whose name exists
    already is the module `file.Name`: the plain name stays the project's where other code of the file uses the class as
    its helper; otherwise it is refused, since it may mean either (`refuse_ambiguous`). The classes of a package are
    modules by dotted name (`my_package.MyBlock`, `my_package.parts.MyBlock`). Loading a plugin again does nothing.

    Args:
        plugins: .py files (or folders with an __init__.py, written with a /) or dotted names of packages that are
            installed or in the working directory.

    Returns:
        The names of the new modules.

    Raises:
        UserError: a plugin does not exist, does not run, or defines no block.
    """
    names = []
    for plugin in plugins or ():
        path = Path(plugin)
        if not all(part.isidentifier() for part in str(plugin).split(".")) and (path / "__init__.py").is_file():
            path = path / "__init__.py"
        is_file = path.suffix == ".py"
        key = str(path.resolve()) if is_file else str(plugin)
        if key not in _loaded:
            _loaded[key] = _load_file(path) if is_file else _load_package(str(plugin))
        names += _loaded[key]
    return names


def refuse_ambiguous(name: str) -> None:
    """Refuse a module name that may mean a block of the project or a class of a plugin.

    Raises:
        UnknownModuleError: it may mean either.
    """
    if name in _ambiguous:
        raise UnknownModuleError(*_ambiguous[name])


def find_in_packages(name: str) -> type | None:
    """Find the class of a dotted module name.

    Args:
        name: such as `my_package.MyBlock`.

    Returns:
        The class; None where its package is not allowed with --plugins.

    Raises:
        UnknownModuleError: the package is allowed and has no such class.
    """
    package, _, class_name = name.rpartition(".")
    if not any(package == allowed or package.startswith(f"{allowed}.") for allowed in _packages):
        return None
    try:
        entry = getattr(importlib.import_module(package), class_name, None)
    except ImportError as error:
        raise UnknownModuleError(f"'{name}': {package} cannot be imported: {error}") from None
    if not (inspect.isclass(entry) and issubclass(entry, nn.Module)):
        raise UnknownModuleError(f"'{name}': {package} has no block '{class_name}'")
    return entry


def _load_file(path: Path) -> list[str]:
    if not path.is_file():
        raise UserError(f"--plugins {path}: no such file")
    folder = str(path.resolve().parent)
    name = f"graftdet_plugin_{path.stem}_{hashlib.sha1(str(path.resolve()).encode()).hexdigest()[:8]}"
    # a folder of its own makes it a package: `from .helpers import x` finds the files beside it
    spec = importlib.util.spec_from_file_location(name, path, submodule_search_locations=[folder])
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # so that dataclasses and pickling between workers find it
    known = {*BLOCKS, *HEADS}
    if folder not in sys.path:
        sys.path.append(folder)  # last, so that nothing of the framework is hidden: `import helpers` works, too
    try:
        spec.loader.exec_module(module)
    except UserError:
        del sys.modules[name]
        raise
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise UserError(f"--plugins {path}: {_describe(error, path)}") from error
    return _register(module, path.stem if path.stem != "__init__" else path.resolve().parent.name, str(path), known)


def _describe(error: BaseException, path: Path) -> str:
    """What went wrong in the file, with its line."""
    line, traceback = getattr(error, "lineno", None), error.__traceback__
    while traceback is not None:
        if Path(traceback.tb_frame.f_code.co_filename).resolve() == path.resolve():
            line = traceback.tb_lineno
        traceback = traceback.tb_next
    text = (f"line {line}: " if line else "") + f"{type(error).__name__}: {getattr(error, 'msg', None) or error}"
    module = (error.name or "") if isinstance(error, ImportError) else ""
    return f"{text}; write graftdet.{module}" if module.split(".")[0] in ("models", "data", "utils") else text


def _load_package(name: str) -> list[str]:
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))
    try:
        module = importlib.import_module(name)
    except Exception as error:  # what a package does at import is its author's
        if Path(name).exists():
            raise UserError(f"--plugins {name}: expected a Python file (*.py) or a package's name") from None
        raise UserError(
            f"--plugins {name}: no such file (*.py), and as a package: {type(error).__name__}: {error}"
        ) from None
    _packages.append(name)
    return [f"{name}.{key}" for key, entry in _public_classes(module, name)]


def _public_classes(module: ModuleType, package: str) -> Iterator[tuple[str, type]]:
    """Names and classes of the blocks that a Python module offers as its own."""
    listed = getattr(module, "__all__", None)
    for name, entry in list(vars(module).items()):
        if not (inspect.isclass(entry) and issubclass(entry, nn.Module)):
            continue
        own = (entry.__module__ + ".").startswith(package + ".") and name[0] != "_"
        if own if listed is None else name in listed:
            yield name, entry


def _is_helper(entry: type) -> bool:
    """Whether other code of a class's own file uses it."""
    try:
        tree = ast.parse(inspect.getsource(sys.modules[entry.__module__]))
    except (OSError, SyntaxError):
        return False
    others = [node for node in tree.body if not (isinstance(node, ast.ClassDef) and node.name == entry.__name__)]
    return any(isinstance(node, ast.Name) and node.id == entry.__name__ for other in others for node in ast.walk(other))


def _register(module: ModuleType, short: str, file: str, known: set[str]) -> list[str]:
    """Register the classes of a Python module that it has not registered itself; return all names that it adds."""
    names = [name for name in (*BLOCKS, *HEADS) if name not in known]
    registered = {id(BLOCKS[name] if name in BLOCKS else HEADS[name]) for name in names}
    for class_name, entry in _public_classes(module, module.__name__):
        if entry.__hash__ is None:  # a dataclass: torch stores modules in sets
            entry.__hash__ = object.__hash__  # type: ignore[assignment, method-assign]
        if id(entry) in registered or entry in BLOCKS.values():
            continue
        name = class_name
        if class_name in BLOCKS or class_name in HEADS:
            name = f"{short}.{class_name}"
            _resolve_conflict(entry, name, file)
        BLOCKS.register(name)(entry)
        names.append(name)
    if not names:
        raise UserError(f"--plugins {file}: defines no nn.Module class")
    return names


def _resolve_conflict(entry: type, name: str, file: str) -> None:
    """Decide what the plain name of a class means that the project has, too; `name` is the class's own name."""
    plain = name.rpartition(".")[2]
    if name in BLOCKS:
        raise UserError(f"--plugins {file}: the module '{name}' exists already; rename the class")
    if _is_helper(entry):
        logger.warning("--plugins %s: '%s' exists already; the class of the file is the module '%s'", file, plain, name)
    else:
        message = f"'{plain}' is a block of the project and a class of {file}"
        _ambiguous[plain] = message, f"write '{name}' for the latter, or rename it there"
