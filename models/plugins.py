"""Blocks of the user's own: a Python file or a package named with --plugins, whose classes become YAML words.

Only what the user names on the command line is ever loaded; a checkpoint or a YAML cannot ask for it.
"""

import hashlib
import importlib
import importlib.util
import inspect
import sys
from pathlib import Path

from torch import nn

from utils.errors import UserError

from .blocks import BLOCKS
from .heads import HEADS

_loaded: dict[str, list[str]] = {}


def load_plugins(plugins=()) -> list[str]:
    """Load each of `plugins`, a .py file or the dotted name of an installed package, and return its new words.

    Every public `nn.Module` class defined in a file is a word under its own name, as is whatever it registers itself
    with `@BLOCKS.register()`. A package's classes are words by dotted name (`my_package.MyBlock`). Loading the same
    one again does nothing. Raises `UserError` when it is not there, does not run, or names a word that exists.
    """
    words = []
    for plugin in plugins or ():
        path = Path(plugin)
        key = str(path.resolve()) if path.suffix == ".py" else str(plugin)
        if key not in _loaded:
            _loaded[key] = _load_file(path) if path.suffix == ".py" else _load_package(str(plugin))
        words += _loaded[key]
    return words


def _load_file(path: Path) -> list[str]:
    if not path.is_file():
        raise UserError(f"--plugins {path}: no such file")
    name = f"graftdet_plugin_{path.stem}_{hashlib.sha1(str(path.resolve()).encode()).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # so that dataclasses and pickling between workers find it
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise UserError(f"--plugins {path}: {type(error).__name__}: {error}") from error
    return _register(module, str(path), lambda word: word)


def _load_package(name: str) -> list[str]:
    try:
        module = importlib.import_module(name)
    except ImportError as error:
        raise UserError(f"--plugins {name}: no such file (*.py) and no such package: {error}") from None
    return _register(module, name, lambda word: f"{name}.{word}")


def _register(module, where: str, word_of) -> list[str]:
    """Register the module's own nn.Module classes that it has not registered itself."""
    known = {id(entry) for registry in (BLOCKS, HEADS) for entry in registry.values()}
    words = []
    for name, entry in vars(module).items():
        is_block = inspect.isclass(entry) and issubclass(entry, nn.Module) and entry.__module__.startswith(module.__name__)
        if not is_block or name.startswith("_"):
            continue
        word = word_of(name)
        if id(entry) not in known:
            if word in BLOCKS or word in HEADS:
                raise UserError(f"--plugins {where}: the word '{word}' exists already; give the class another name")
            BLOCKS.register(word)(entry)
        words.append(word)
    if not words:
        raise UserError(f"--plugins {where}: defines no nn.Module class")
    return words
