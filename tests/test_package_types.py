"""Public functions are typed: nine of ten arguments at least, and what they return."""

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TOPS = ("graftdet", "models", "utils", "data", "train.py", "val.py", "detect.py", "export.py")
MINIMUM = 0.9


def public_functions():
    """(file, qualified name, node) of each public function and method; `__init__` and `__call__` are public, too."""
    for top in TOPS:
        path = ROOT / top
        for file in [path] if path.is_file() else sorted(path.rglob("*.py")):
            yield from _functions_in(ast.parse(file.read_text(encoding="utf-8")), file.relative_to(ROOT), "")


def _functions_in(node, file, prefix):
    for item in node.body:
        if isinstance(item, ast.ClassDef) and not item.name.startswith("_"):
            yield from _functions_in(item, file, f"{prefix}{item.name}.")
        elif isinstance(item, ast.FunctionDef) and (item.name[0] != "_" or item.name in ("__init__", "__call__")):
            yield file, f"{prefix}{item.name}", item


def arguments_of(node: ast.FunctionDef) -> list[ast.arg]:
    """The arguments of a function that can be annotated, less self and cls."""
    given = node.args
    arguments = [*given.posonlyargs, *given.args, *given.kwonlyargs, *filter(None, (given.vararg, given.kwarg))]
    return [argument for argument in arguments if argument.arg not in ("self", "cls")]


def is_block_constructor(file: Path, name: str) -> bool:
    """Whether it takes the short arguments of a YAML row, whose meaning and type the block's docstring describes."""
    return file.parts[:2] == ("models", "blocks") and name.endswith(".__init__")


def test_arguments_of_public_functions_are_typed():
    arguments = [
        (file, name, argument)
        for file, name, node in public_functions()
        if not is_block_constructor(file, name)
        for argument in arguments_of(node)
    ]
    untyped = [f"{file}: {name}({one.arg})" for file, name, one in arguments if one.annotation is None]
    assert len(arguments) > 1000
    assert len(untyped) <= (1 - MINIMUM) * len(arguments), "\n".join([f"{len(untyped)} of {len(arguments)}", *untyped])


def test_public_functions_state_what_they_return():
    functions = [(file, name, node) for file, name, node in public_functions() if not name.endswith("__init__")]
    untyped = [f"{file}: {name}" for file, name, node in functions if node.returns is None]
    assert len(untyped) <= (1 - MINIMUM) * len(functions), "\n".join([f"{len(untyped)} of {len(functions)}", *untyped])
