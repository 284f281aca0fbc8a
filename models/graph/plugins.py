"""Blocks of the user's own: a Python file or a package named with --plugins, whose classes become YAML words.

Only what the user names on the command line is ever loaded; a checkpoint or a YAML cannot ask for it.
"""

import ast
import hashlib
import importlib
import importlib.util
import inspect
import sys
from pathlib import Path

from graftdet.models.blocks import BLOCKS
from graftdet.models.heads import HEADS
from graftdet.utils.errors import UserError
from torch import nn

_loaded: dict[str, list[str]] = {}
_packages: list[str] = []  # whose classes may be named in YAMLs, by dotted name
_disputed: dict[
    str, str
] = {}  # words of the project that a plugin's class has too -> where, and which word the class is


def load_plugins(plugins=()) -> list[str]:
    """Load each of `plugins`, a .py file (or a folder with an __init__.py, written with a /) or the dotted name of a
    package that is installed or stands in the working folder, and return its new words.

    Every public `nn.Module` class defined in a file is a word under its own name, as is whatever it registers itself
    with `@BLOCKS.register()`; where the file has `__all__`, only the classes listed there. A class whose name is a
    word already is the word `file.Name`: the plain name stays the project's where other code of the file uses the class
    as its helper, else nobody's, since one may mean either (`refuse_disputed`). A package's classes are words by dotted name
    (`my_package.MyBlock`, `my_package.parts.MyBlock`). Loading the same one again does nothing. Raises `UserError`
    when it is not there, does not run, or has no class to offer.
    """
    words = []
    for plugin in plugins or ():
        path = Path(plugin)
        if not all(part.isidentifier() for part in str(plugin).split(".")) and (path / "__init__.py").is_file():
            path = path / "__init__.py"
        is_file = path.suffix == ".py"
        key = str(path.resolve()) if is_file else str(plugin)
        if key not in _loaded:
            _loaded[key] = _load_file(path) if is_file else _load_package(str(plugin))
        words += _loaded[key]
    return words


def refuse_disputed(word: str) -> None:
    """Raise `UserError` for a word that may mean the project's block or a plugin's class."""
    if word in _disputed:
        raise UserError(_disputed[word])


def find_in_packages(word: str) -> type | None:
    """The class of a dotted word whose package was allowed with --plugins; None where none is. Raises `UserError`
    where the package is allowed and has no such class."""
    package, _, name = word.rpartition(".")
    if not any(package == allowed or package.startswith(f"{allowed}.") for allowed in _packages):
        return None
    try:
        entry = getattr(importlib.import_module(package), name, None)
    except ImportError as error:
        raise UserError(f"'{word}': {package} cannot be imported: {error}") from None
    if not (inspect.isclass(entry) and issubclass(entry, nn.Module)):
        raise UserError(f"'{word}': {package} has no block '{name}'")
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
        sys.path.append(folder)  # last, so that nothing of the framework is hidden: `import helpers` works too
    try:
        spec.loader.exec_module(module)
    except UserError:
        del sys.modules[name]
        raise
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise UserError(f"--plugins {path}: {_tell(error, path)}") from error
    return _register(module, path.stem if path.stem != "__init__" else path.resolve().parent.name, str(path), known)


def _tell(error, path: Path) -> str:
    """What went wrong in the file, with its line."""
    line, traceback = getattr(error, "lineno", None), error.__traceback__
    while traceback is not None:
        if Path(traceback.tb_frame.f_code.co_filename).resolve() == path.resolve():
            line = traceback.tb_lineno
        traceback = traceback.tb_next
    return (f"line {line}: " if line else "") + f"{type(error).__name__}: {getattr(error, 'msg', None) or error}"


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


def _public_classes(module, package: str):
    """Names and classes of the blocks that a module offers as its own."""
    listed = getattr(module, "__all__", None)
    for name, entry in list(vars(module).items()):
        if not (inspect.isclass(entry) and issubclass(entry, nn.Module)):
            continue
        if (
            name in listed
            if listed is not None
            else (entry.__module__ + ".").startswith(package + ".") and name[0] != "_"
        ):
            yield name, entry


def _is_helper(entry: type) -> bool:
    """Whether other code of a class's own file uses it."""
    try:
        tree = ast.parse(inspect.getsource(sys.modules[entry.__module__]))
    except (OSError, SyntaxError):
        return False
    others = [node for node in tree.body if not (isinstance(node, ast.ClassDef) and node.name == entry.__name__)]
    return any(isinstance(node, ast.Name) and node.id == entry.__name__ for other in others for node in ast.walk(other))


def _register(module, short: str, where: str, known: set[str]) -> list[str]:
    """Make words of the module's classes that it has not registered itself; return all its words."""
    words = [word for word in (*BLOCKS, *HEADS) if word not in known]
    registered = {id(BLOCKS[word] if word in BLOCKS else HEADS[word]) for word in words}
    for name, entry in _public_classes(module, module.__name__):
        if entry.__hash__ is None:  # a dataclass: torch keeps modules in sets
            entry.__hash__ = object.__hash__
        if id(entry) in registered or entry in BLOCKS.values():
            continue
        word = name
        if name in BLOCKS or name in HEADS:
            word = f"{short}.{name}"
            if word in BLOCKS:
                raise UserError(f"--plugins {where}: the word '{word}' exists already; give the class another name")
            if _is_helper(entry):
                print(
                    f"--plugins {where}: '{name}' is a word already; the file's class is the word '{word}'",
                    file=sys.stderr,
                )
            else:
                _disputed[name] = (
                    f"'{name}' is a block of the project and a class of {where}; write '{word}' for the latter, or rename it there"
                )
        BLOCKS.register(word)(entry)
        words.append(word)
    if not words:
        raise UserError(f"--plugins {where}: defines no nn.Module class")
    return words
