"""What the classes of a plugin file need: the names that they use, directly or through other code of the file."""

import ast
import builtins
import symtable
from collections.abc import Collection, Iterable


def needed_names(source: str, path: str) -> dict[str, set[str]]:
    """Find the global names that each class and function of a file uses.

    Args:
        source: text of the file.
        path: names it in errors.

    Returns:
        Name of a class or function of the top level -> the global names that it uses, also through others of them.
    """
    direct: dict[str, set[str]] = {}
    for table in symtable.symtable(source, path, "exec").get_children():
        direct.setdefault(table.get_name(), set()).update(_globals_of(table))
    found = {}
    for name in direct:
        reached, waiting = {name}, [name]
        while waiting:
            for other in direct.get(waiting.pop(), ()):
                if other not in reached:
                    reached.add(other)
                    waiting.append(other)
        found[name] = reached - {name}
    return found


def _globals_of(table: symtable.SymbolTable) -> Iterable[str]:
    for symbol in table.get_symbols():
        if symbol.is_global() and symbol.is_referenced():
            yield symbol.get_name()
    for child in table.get_children():
        yield from _globals_of(child)


def undefined(names: Iterable[str], defined: Collection[str]) -> list[str]:
    """The names that are neither `defined` nor built in, sorted."""
    return sorted(name for name in names if name not in defined and not hasattr(builtins, name))


def line_of_use(tree: ast.Module, name: str, owner: str) -> int:
    """The first line of the class or function `owner` of the top level that uses a name, else of the whole file."""
    for part in [*(node for node in tree.body if getattr(node, "name", None) == owner), tree]:
        lines = [node.lineno for node in ast.walk(part) if isinstance(node, ast.Name) and node.id == name]
        if lines:
            return min(lines)
    return 1
