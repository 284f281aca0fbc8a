"""Mutation testing: small changes of the code, each of which some test must notice. `make mutation`.

A sample of the possible changes of a file is drawn. For each one a process is forked in which the file is read with the
change, and the tests of that file run until the first failure. What survives is printed with its line: either a test
is missing, or the change makes no difference.
"""

import argparse
import ast
import contextlib
import copy
import importlib.machinery
import io
import os
import random
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import hypothesis
import numpy
import pytest
import torch
import yaml

IMPORTED = (cv2, hypothesis, numpy, torch, yaml)  # before the forks: it takes seconds
ROOT = Path(__file__).resolve().parents[2]
SECONDS = 120  # of one run of the tests
TARGETS = {  # file -> tests
    "utils/boxes.py": ["tests/utils/test_boxes.py"],
    "utils/evaluation/metrics.py": [
        "tests/utils/evaluation/test_metrics.py",
        "tests/utils/evaluation/test_evaluator.py",
    ],
    "models/spec/row_parser.py": ["tests/models/spec"],
    "models/spec/scales.py": ["tests/models/spec"],
    "models/spec/model_spec.py": ["tests/models/spec"],
    "models/weights/transfer.py": [
        "tests/models/weights/test_transfer.py",
        "tests/models/weights/test_class_outputs.py",
    ],
    "models/weights/row_matching.py": [
        "tests/models/weights/test_row_matching.py",
        "tests/models/weights/test_transfer.py",
    ],
    "data/formats/yolo.py": [
        "tests/data/formats/test_yolo.py",
        "tests/data/formats/parsing",
        "tests/data/formats/files",
    ],
    "data/formats/validation.py": ["tests/data/formats"],
}
_COMPARISONS = {
    **{ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq},
    **{ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In},
}
_OPERATORS = {
    **{ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Div},
    **{ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd},
}


@dataclass(frozen=True)
class Mutant:
    """A change of a file: its line, the code before and after, and the whole changed file."""

    line: int
    before: str
    after: str
    tree: ast.Module


def changes(node: ast.AST) -> Iterator[ast.AST]:
    """Other nodes that may stand in the place of a node."""
    if isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in _COMPARISONS:
        yield ast.Compare(node.left, [_COMPARISONS[type(node.ops[0])]()], node.comparators)
    elif isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        yield ast.BinOp(node.left, _OPERATORS[type(node.op)](), node.right)
    elif isinstance(node, ast.BoolOp):
        yield ast.BoolOp(ast.Or() if isinstance(node.op, ast.And) else ast.And(), node.values)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.Not, ast.USub)):
        yield node.operand
    elif isinstance(node, ast.Constant) and type(node.value) is bool:
        yield ast.Constant(not node.value)
    elif isinstance(node, ast.Constant) and type(node.value) in (int, float):
        yield ast.Constant(node.value + 1)
    elif isinstance(node, ast.IfExp):
        yield ast.IfExp(node.test, node.orelse, node.body)
    elif isinstance(node, ast.Continue):
        yield ast.Break()
    elif isinstance(node, (ast.AugAssign, ast.Raise)) or (
        isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)
    ):
        yield ast.Pass()


def mutants(source: str) -> list[Mutant]:
    """All changes of a file, outside annotations, messages and assertions."""
    tree, found = ast.parse(source), []
    nodes = [node for node in ast.walk(tree) if not _is_left_out(tree, node)]
    for node in nodes:
        for change in changes(node):
            changed = copy.deepcopy(tree)
            (place,) = [other for other in ast.walk(changed) if _position(other) == _position(node)]
            ast.copy_location(change, node)
            changed = _Replace(place, ast.fix_missing_locations(change)).visit(changed)
            found.append(Mutant(node.lineno, ast.unparse(node), ast.unparse(change), changed))
    return found


def _position(node: ast.AST) -> tuple:
    return type(node), *(getattr(node, name, None) for name in ("lineno", "col_offset", "end_lineno", "end_col_offset"))


def _is_left_out(tree: ast.Module, node: ast.AST) -> bool:
    """Whether a node is part of an annotation, a text or an assertion."""
    return _position(node) in _left_out(tree)


def _left_out(tree: ast.Module, _known: dict[int, set[tuple]] = {}) -> set[tuple]:  # noqa: B006
    if id(tree) not in _known:
        parts: list[ast.AST] = []
        for node in ast.walk(tree):
            if isinstance(node, (ast.JoinedStr, ast.Assert)):
                parts.append(node)
            for name in ("annotation", "returns"):
                if getattr(node, name, None) is not None:
                    parts.append(getattr(node, name))
        _known.clear()
        _known[id(tree)] = {_position(inner) for part in parts for inner in ast.walk(part)}
    return _known[id(tree)]


class _Replace(ast.NodeTransformer):
    def __init__(self, old: ast.AST, new: ast.AST):
        self.old, self.new = old, new

    def visit(self, node: ast.AST) -> ast.AST:
        return self.new if node is self.old else self.generic_visit(node)


def is_noticed(path: Path, tree: ast.Module | None, tests: list[str]) -> bool:
    """Whether tests fail, or do not end, with a changed file (None: the file as it is)."""
    process = os.fork()
    if process:
        return _failed(process)
    status = 1
    try:
        loader = importlib.machinery.SourceFileLoader
        get_code = loader.get_code

        def changed(self, name):
            if tree is not None and Path(self.path).resolve() == path:
                return compile(tree, str(path), "exec")
            return get_code(self, name)

        loader.get_code = changed
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            status = int(pytest.main(["-x", "-q", "-p", "no:cacheprovider", "-p", "no:faulthandler", *tests]))
    finally:
        os._exit(status)


def _failed(process: int) -> bool:
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        done, status = os.waitpid(process, os.WNOHANG)
        if done:
            return status != 0
        time.sleep(0.02)
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    return True


def main() -> int:
    """Print what survives, and a table; 1 if tests fail without any change."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="*", metavar="FILE", help=f"files, among {', '.join(TARGETS)} (default: all)")
    parser.add_argument("--sample", type=int, default=25, help="changes per file")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    os.chdir(ROOT)
    torch.set_num_threads(1)
    rows = []
    for name in options.files or TARGETS:
        path, tests = ROOT / name, TARGETS[name]
        if is_noticed(path, None, tests):
            print(f"{name}: its tests fail without any change")
            return 1
        every = mutants(path.read_text(encoding="utf-8"))
        sample = random.Random(options.seed).sample(every, min(options.sample, len(every)))
        survivors = []
        for mutant in sorted(sample, key=lambda mutant: mutant.line):
            if not is_noticed(path, mutant.tree, tests):
                survivors.append(mutant)
                print(f"{name}:{mutant.line}: survived: {mutant.before} -> {mutant.after}", flush=True)
        rows.append(f"| `{name}` | {len(every)} | {len(sample)} | {len(sample) - len(survivors)} |")
        print(rows[-1], flush=True)
    print("| file | changes | sample | noticed |\n|---|---|---|---|")
    print("\n".join(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
