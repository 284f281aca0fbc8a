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
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from types import ModuleType

from torch import nn

from graftdet.models.blocks import BLOCKS
from graftdet.models.graph.errors import UnknownModuleError
from graftdet.models.graph.module_names import TIMM
from graftdet.models.graph.plugins.error_position import PLUGIN_PREFIX, class_line, plugin_line
from graftdet.models.graph.plugins.published_names import import_line
from graftdet.models.graph.plugins.references import line_of_use, needed_names, undefined
from graftdet.models.graph.plugins.source_loader import PluginLoader
from graftdet.models.graph.plugins.timm_models import load_timm
from graftdet.models.heads import HEADS
from graftdet.utils.errors import UserError, first_line

logger = logging.getLogger(__name__)

COLLECTION = 5
"""A file with so many names of the project's blocks is a whole collection, such as a fork's models/common.py."""

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

    `timm` is the module of that name, see `graftdet.models.graph.plugins.timm_models`.

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
            _loaded[key] = _load_file(path) if is_file else _load_named(str(plugin))
        names += _loaded[key]
    return names


def any_loaded() -> bool:
    """Whether a plugin is loaded."""
    return bool(_loaded)


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
    folder = path.resolve().parent
    name = f"{PLUGIN_PREFIX}{path.stem}_{hashlib.sha1(str(path.resolve()).encode()).hexdigest()[:8]}"
    loader = PluginLoader(name, str(path))
    # a folder of its own makes it a package: `from .helpers import x` finds the files beside it
    spec = importlib.util.spec_from_file_location(name, path, loader=loader, submodule_search_locations=[str(folder)])
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # so that dataclasses and pickling between workers find it
    known = {*BLOCKS, *HEADS}
    if str(folder) not in sys.path:
        sys.path.append(str(folder))  # last, so that nothing of the framework is hidden: `import helpers` works, too
    try:
        loader.exec_module(module)
        classes = dict(_public_classes(module, {name, *loader.local_modules}))
        _check_names(loader, module, classes, str(path))
    except UserError:
        del sys.modules[name]
        raise
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise UserError(f"--plugins {path}: {_describe(error, path)}") from error
    return _register(classes, path.stem if path.stem != "__init__" else folder.name, str(path), known, loader.tree)


def _check_names(loader: PluginLoader, module: ModuleType, classes: dict[str, type], file: str) -> None:
    """Report names that classes use and that are not there; where no class is without them, none can be used."""
    needed = needed_names(loader.text, file)
    own = [name for name, entry in classes.items() if entry.__module__ == module.__name__]
    faults: dict[str, str] = {}
    without_import = []
    for owner in own:
        names = needed.get(owner, set())
        lost = undefined(names, vars(module))
        missing = [name for name in loader.missing if name in names]
        if lost:
            line = line_of_use(loader.tree, lost[0], owner)
            faults[owner] = (
                f"{file}: line {line}: {owner} uses '{lost[0]}', which is not imported{add_import_hint(lost[0])}"
            )
            without_import.append(faults[owner])
        elif missing:
            faults[owner] = loader.missing[missing[0]].reason
    if faults and len(faults) == len(classes):
        raise UserError(f"--plugins {next(iter(faults.values()))}")
    if not classes and loader.missing:
        raise UserError(f"--plugins {next(iter(loader.missing.values())).reason}")
    for fault in without_import:
        logger.warning("--plugins %s", fault)


def add_import_hint(name: str) -> str:
    """`; add "from models.common import Conv"` for a name that pasted code uses without importing it; else ""."""
    line = import_line(name)
    return f'; add "{line}"' if line else ""


def _describe(error: BaseException, path: Path) -> str:
    """What went wrong in the file, with its line."""
    line, traceback = getattr(error, "lineno", None), error.__traceback__
    while traceback is not None:
        if Path(traceback.tb_frame.f_code.co_filename).resolve() == path.resolve():
            line = traceback.tb_lineno
        traceback = traceback.tb_next
    text = f"{type(error).__name__}: {getattr(error, 'msg', None) or error}"
    if isinstance(error, NameError) and error.name:
        text += add_import_hint(error.name)
    return (f"line {line}: " if line else "") + text


def _load_named(name: str) -> list[str]:
    return load_timm() if name == TIMM else _load_package(name)


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
    return [f"{name}.{key}" for key, entry in _public_classes(module, {name})]


def _public_classes(module: ModuleType, packages: Collection[str]) -> Iterator[tuple[str, type]]:
    """Names and classes of the blocks that a Python module offers as its own: those of `packages` or below them."""
    listed = getattr(module, "__all__", None)
    for name, entry in list(vars(module).items()):
        if not (inspect.isclass(entry) and issubclass(entry, nn.Module)):
            continue
        own = any(f"{entry.__module__}.".startswith(f"{package}.") for package in packages) and name[0] != "_"
        if own if listed is None else name in listed:
            yield name, entry


def _helpers(tree: ast.Module) -> set[str]:
    """Names of the classes of a file that other code of it uses."""
    used: dict[str, set[str]] = {}
    for node in tree.body:
        for part in ast.walk(node):
            if isinstance(part, ast.Name):
                used.setdefault(part.id, set()).add(getattr(node, "name", ""))
    return {name for name, owners in used.items() if owners - {name}}


def _register(classes: dict[str, type], short: str, file: str, known: set[str], tree: ast.Module) -> list[str]:
    """Register the classes of a Python module that it has not registered itself; return all names that it adds."""
    names = [name for name in (*BLOCKS, *HEADS) if name not in known]
    registered = {id(BLOCKS[name] if name in BLOCKS else HEADS[name]) for name in names}
    conflicts = []
    for class_name, entry in classes.items():
        if entry.__hash__ is None:  # a dataclass: torch stores modules in sets
            entry.__hash__ = object.__hash__  # type: ignore[assignment, method-assign]
        if id(entry) in registered or entry in BLOCKS.values():
            continue
        name = class_name
        if class_name in BLOCKS or class_name in HEADS:
            name = f"{short}.{class_name}"
            if name in BLOCKS:
                raise UserError(f"--plugins {file}: the module '{name}' exists already; rename the class")
            conflicts.append(class_name)
        BLOCKS.register(name)(entry)
        names.append(name)
    if not names:
        raise UserError(f"--plugins {file}: defines no nn.Module class")
    _resolve_conflicts(conflicts, _helpers(tree), short, file)
    return names


def _resolve_conflicts(names: list[str], helpers: set[str], short: str, file: str) -> None:
    """Decide what the names of classes mean that the project has, too: `file.Name` is the class in any case.

    The plain name stays the project's where the class is a helper of others in the file, and where the file is a whole
    collection such as a fork's models/common.py. Otherwise it is refused, since it may mean either.
    """
    whole = len(names) >= COLLECTION
    plain = [name for name in names if whole or name in helpers]
    if plain:
        listed = ", ".join(f"'{name}'" for name in plain[:8]) + (", ..." if len(plain) > 8 else "")
        text = "exist already; they mean the project's blocks" if len(plain) > 1 else "exists already"
        logger.warning("--plugins %s: %s %s; '%s.%s' is the class of the file", file, listed, text, short, plain[0])
    for name in names:
        if name not in plain:
            message = f"'{name}' is a block of the project and a class of {file}"
            _ambiguous[name] = message, f"write '{short}.{name}' for the latter, or rename it there"


def describe_error(error: BaseException, meaning: str = "", block: nn.Module | None = None) -> str:
    """What a block raised on one line, with the innermost line of a plugin: `... (mine.py:14)`.

    Args:
        error: what it raised.
        meaning: what that means, instead of its own text.
        block: the block, whose class is named where the error comes from no line of it, such as in a backward pass.
    """
    text, packages = meaning or first_line(error), tuple(_packages)
    position = plugin_line(error, packages) or (class_line(block, packages) if block is not None else "")
    if isinstance(error, NameError) and error.name:
        text += add_import_hint(error.name)
    return f"{text} ({position})" if position else text
