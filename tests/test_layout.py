"""Layers: imports go down only, packages import lazily, and exported files run without torch."""

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted(path for top in ("utils", "data", "models") for path in (ROOT / top).rglob("*.py"))
SCRIPTS = [ROOT / f"{name}.py" for name in ("train", "val", "detect", "export")]
TESTS = sorted((ROOT / "tests").rglob("*.py"))
MAX_LINES, MAX_TEST_LINES = 305, 340
MAX_ENTRIES = {
    "models": 16,
    "models/blocks": 66,
    "models/backends": 20,  # one file per format
    "tests/models/backends": 19,
    "models/inference": 17,
    "models/lint": 16,
    "tests/models/blocks": 21,
    "data/formats": 18,
    "utils": 30,
    "tests/utils": 26,
    "tests/utils/training": 16,
    "tests": 30,
    "tests/models": 18,
    "utils/training": 17,
    "models/graph": 16,
    "tests/models/graph": 16,
}  # others: 15
MAY_IMPORT = {"utils": {"utils"}, "data": {"data", "utils"}, "models": {"models", "utils"}}
LAYERS = {  # package -> its layer within its top-level directory; a package imports its own and lower layers
    "models": {
        **{
            "spec": 0,
            "blocks": 1,
            "losses": 1,
            "heads": 2,
            "arithmetic": 3,
            "graph": 3,
            "weights": 4,
            "inference": 4,
            "editing": 4,
        },
        **{"backends": 5, "distillation": 5, "lint": 6, "analysis": 6, "conformance": 6, "editor": 7, "commands": 8},
        "__main__": 9,
    },
    "utils": {"evaluation": 1, "reporting": 2, "training": 3},
    "data": {"__main__": 3, "tools": 2},
}
TORCH_FREE = [
    *(
        "utils.images.letterbox",
        "utils.images.io",
        "utils.nms.suppression",
        "utils.visualization.drawing",
        "utils.boxes",
    ),
    *("utils.sources.source", "models.inference.predictor", "models.backends.onnx", "models.backends.openvino"),
    *("models.backends.ncnn", "models.backends.executorch", "models.backends.coreml", "models.backends.torchscript"),
    "models.backends.litert",
    *("models.backends.selection.auto", "models.spec.model_spec"),
]


def imported(path):
    """(module, line) of each import in the file, wherever it stands; `from a import b` is a.b where that is a module."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import, expected graftdet..."
            for alias in node.names:
                assert alias.name != "*", f"{path}:{node.lineno}: star import"
                inner = ROOT.joinpath(*node.module.split(".")[1:], alias.name)
                is_module = inner.with_suffix(".py").is_file() or inner.is_dir()
                yield f"{node.module}.{alias.name}" if is_module else node.module, node.lineno


def package_of(parts):
    """The entry of `LAYERS` that a module path below a top-level directory belongs to."""
    return parts[1] if len(parts) > 1 else "__init__"


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_imports_follow_the_layers(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    top, layers = parts[0], LAYERS[parts[0]]
    own = layers.get(package_of(parts), 0)
    for module, line in imported(path):
        names = module.split(".")
        if names[0] in ("models", "data", "utils", "tests", "benchmarks", "train", "val", "detect", "export"):
            raise AssertionError(f"line {line}: {module}, expected graftdet.{module}")
        if names[0] != "graftdet":
            assert names[0] != "torchvision" or path.name == "suppression.py", f"line {line}: {module}"
            continue
        assert len(names) > 1 and names[1] in MAY_IMPORT[top], f"line {line}: {module} from {top}"
        if names[1] == top and package_of(names[1:]) != package_of(parts):
            other = layers.get(package_of(names[1:]), 0)
            assert other <= own, f"line {line}: {module} lies above {'.'.join(parts)}"


def test_packages_have_no_circular_imports():
    graph = {}
    for path in FILES:
        parts = path.relative_to(ROOT).with_suffix("").parts
        if path.name == "__main__.py" or (len(parts) == 2 and path.name == "__init__.py"):
            continue
        node = ".".join(parts[: 2 if (ROOT / parts[0] / parts[1]).is_dir() else 3])
        for module, _ in imported(path):
            names = module.split(".")[1:] if module.startswith("graftdet.") else []
            if len(names) > 1:
                other = ".".join(names[:2])
                if other != node:
                    graph.setdefault(node, set()).add(other)
    list(TopologicalSorter(graph).static_order())  # raises CycleError


@pytest.mark.parametrize("path", [*FILES, *SCRIPTS], ids=lambda p: p.relative_to(ROOT).as_posix())
def test_nothing_is_evaluated_or_unpickled(path):
    calls = [n for n in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(n, ast.Call)]
    names = [n.func.id for n in calls if isinstance(n.func, ast.Name)]
    assert not {"eval", "exec", "compile", "__import__"} & set(names)
    for call in calls:
        if isinstance(call.func, ast.Attribute) and ast.unparse(call.func) == "torch.load":
            assert any(k.arg == "weights_only" and ast.unparse(k.value) == "True" for k in call.keywords), call.lineno


def test_models_holds_packages_alone():
    assert {path.name for path in (ROOT / "models").glob("*.py")} == {"__init__.py", "__main__.py"}


@pytest.mark.parametrize("path", [*FILES, *SCRIPTS, *TESTS], ids=lambda p: p.relative_to(ROOT).as_posix())
def test_files_are_short(path):
    limit = MAX_TEST_LINES if path in TESTS else MAX_LINES
    assert len(path.read_text(encoding="utf-8").splitlines()) <= limit


def test_directories_can_be_scanned():
    folders = {path.parent for path in [*FILES, *TESTS]}
    sizes = {
        folder.relative_to(ROOT).as_posix(): sum(not path.name.startswith("__") for path in folder.iterdir())
        for folder in folders
    }
    assert {name: size for name, size in sizes.items() if size > MAX_ENTRIES.get(name, 15)} == {}


def test_tests_mirror_the_tree():
    for path in TESTS:
        parts = path.parent.relative_to(ROOT / "tests").parts
        assert ROOT.joinpath(*parts).is_dir() or parts[:1] in (
            ("fixtures",),
            ("fuzz",),
            ("chaos",),
            ("dependencies",),
        ), path


def test_running_an_exported_file_needs_no_torch():
    code = (
        "import sys; sys.modules['torch'] = None\n"
        f"import importlib\nfor name in {TORCH_FREE!r}: importlib.import_module('graftdet.' + name)\n"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_packages_import_lazily():
    code = (
        "import sys; from graftdet import models, data, utils; "
        "assert not {'torch', 'cv2', 'numpy'} & set(sys.modules), 'heavy import'"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
