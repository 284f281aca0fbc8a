"""Loading of one plugin file: an import that fails stops it only where a class needs what was to be imported."""

import ast
import builtins
import importlib.util
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from graftdet.models.graph.module_names import likely_typo
from graftdet.models.graph.plugins.error_position import PLUGIN_PREFIX
from graftdet.models.graph.plugins.published_modules import PUBLISHED_PACKAGES, PublishedModules
from graftdet.models.graph.plugins.published_names import all_names, find_name
from graftdet.utils.errors import UserError
from graftdet.utils.text import decode_unicode

_HANDLER = "__graftdet_missing__"


class MissingName:
    """What a name stands for whose import failed: while the file is loaded anything may be done with it.

    Afterwards every use raises a `UserError` with the `reason`.
    """

    reason: str
    is_loading: bool

    def __init__(self, reason: str):
        vars(self).update(reason=reason, is_loading=True)

    def __call__(self, *_: Any, **__: Any) -> "MissingName":
        """Itself, so that it can be a decorator."""
        return self._use()

    def __getitem__(self, _: Any) -> "MissingName":
        return self._use()

    def __getattr__(self, name: str) -> "MissingName":
        if name.startswith("__"):
            raise AttributeError(name)
        return self._use()

    def __mro_entries__(self, _: tuple) -> tuple[type, ...]:
        def refuse(*_: Any, **__: Any) -> None:
            raise UserError(self.reason)

        return (type("MissingBase", (nn.Module,), {"__init__": refuse}),)

    def _use(self) -> "MissingName":
        if not self.is_loading:
            raise UserError(self.reason)
        return self


class PluginLoader(SourceFileLoader):
    """Loads a file whose failing imports give a `MissingName`; the imports inside `try` stay as they are.

    Attributes:
        text, tree: the file's text and its syntax tree, after loading.
        missing: the names whose imports failed, in order.
        local_modules: names of the modules below `models` and `utils` that it imported from its own folder.
    """

    def __init__(self, fullname: str, path: str):
        super().__init__(fullname, path)
        self.text, self.tree = "", ast.Module([], [])
        self.missing: dict[str, MissingName] = {}
        self.local_modules: set[str] = set()

    def get_code(self, fullname: str) -> Any:
        """The compiled file, never from a cache: other programs may have compiled it as it is."""
        path = self.get_filename(fullname)
        return self.source_to_code(self.get_data(path), path)

    def source_to_code(self, data: Any, path: Any, *, _optimize: int = -1) -> Any:  # type: ignore[override]
        """Compile the file with its imports guarded."""
        try:
            self.text = importlib.util.decode_source(data)
        except (SyntaxError, UnicodeDecodeError):  # without a comment that names the encoding
            decode_unicode(data, str(path), comments=False)  # raises an error that names the likely one
            raise
        self.tree = ast.parse(data, path)
        guarded = ast.Module([part for node in self.tree.body for part in _guard(node)], [])
        return super().source_to_code(ast.fix_missing_locations(guarded), path, _optimize=_optimize)  # type: ignore

    def imported_modules(self) -> set[str]:
        """Names of the modules that the file imports, and of the packages that they are in."""
        names = set()
        for node in ast.walk(ast.parse(self.get_data(self.path), self.path)):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names.add(node.module)
        return {name[:end] for name in names for end in range(len(name) + 1) if name[end : end + 1] in (".", "")}

    def exec_module(self, module: ModuleType) -> None:
        """Run the file."""

        def missing(name: str, imported: str, line: int, error: ImportError) -> Any:
            if (error.name or "").startswith("graftdet.") and imported in all_names():
                return find_name(imported)  # another module of the project has it
            self.missing[name] = MissingName(f"{self.path}: line {line}: {describe_import_error(error, imported)}")
            return self.missing[name]

        published = PublishedModules(module.__name__, Path(self.path).resolve().parent, self.imported_modules())
        own = vars(builtins) | {"__import__": _PublishedImport(published)}
        vars(module).update({_HANDLER: missing, "__builtins__": own})
        with published.importable():
            super().exec_module(module)
        self.local_modules = published.local
        own["__import__"].is_loaded = True
        for entry in self.missing.values():
            vars(entry)["is_loading"] = False


class _PublishedImport:
    """The import function of a plugin file: published modules are there for its functions as well, when they run."""

    def __init__(self, published: PublishedModules):
        self._published = published
        self._modules: dict[tuple, ModuleType] = {}
        self.is_loaded = False

    def __call__(
        self, name: str, globals: Any = None, locals: Any = None, fromlist: Any = (), level: int = 0
    ) -> ModuleType:
        if not self.is_loaded or level or name.partition(".")[0] not in PUBLISHED_PACKAGES:
            return importlib.__import__(name, globals, locals, fromlist, level)
        key = (name, tuple(fromlist or ()))
        if key not in self._modules:
            with self._published.importable():
                self._modules[key] = importlib.__import__(name, globals, locals, fromlist, level)
        return self._modules[key]


def describe_import_error(error: ImportError, imported: str = "") -> str:
    """What cannot be imported, and what there is instead.

    Args:
        error: the error.
        imported: the name to be imported from the module.
    """
    module = error.name or ""
    top = module.partition(".")[0]
    if top in PUBLISHED_PACKAGES or top.startswith(PLUGIN_PREFIX):
        where = f".{module.partition('.')[2]}" if top.startswith(PLUGIN_PREFIX) else module
        near = likely_typo(imported, all_names())
        hint = f"; did you mean '{near}'?" if near else ""
        return f"{where} has no '{imported}'{hint}; for plugins it has {', '.join(all_names())}"
    return f"{type(error).__name__}: {error.msg}"


def _guard(node: ast.stmt) -> list[ast.stmt]:
    """An import of the file's top level as one guarded import per name; other statements as they are."""
    if not isinstance(node, (ast.Import, ast.ImportFrom)) or _module_of(node) == "__future__":
        return [node]
    if isinstance(node, ast.ImportFrom) and node.level > 1:  # beyond the plugin: of a package that is not there
        node = ast.copy_location(ast.ImportFrom("models.common", node.names, 0), node)
    if any(alias.name == "*" for alias in node.names):
        return [node]
    guarded: list[ast.stmt] = []
    for alias in node.names:
        one = ast.Import([alias]) if isinstance(node, ast.Import) else ast.ImportFrom(node.module, [alias], node.level)
        name = alias.asname or alias.name.partition(".")[0]
        values = [
            ast.Constant(name),
            ast.Constant(alias.name),
            ast.Constant(node.lineno),
            ast.Name("_error", ast.Load()),
        ]
        placeholder = ast.Assign(
            [ast.Name(name, ast.Store())],
            ast.Call(ast.Name(_HANDLER, ast.Load()), values, []),  # type: ignore[arg-type]
        )
        handler = ast.ExceptHandler(ast.Name("ImportError", ast.Load()), "_error", [placeholder])
        parts = [ast.copy_location(part, node) for part in (one, placeholder)]
        guarded.append(ast.copy_location(ast.Try([parts[0]], [ast.copy_location(handler, node)], [], []), node))
    return guarded


def _module_of(node: ast.stmt) -> str | None:
    return node.module if isinstance(node, ast.ImportFrom) else None
