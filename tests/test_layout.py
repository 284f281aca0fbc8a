"""The floors: imports go down only, packages import lazily, and exported files can be run without torch."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FLOORS = {"utils": set(), "data": {"utils"}, "models": {"utils"}}
FILES = sorted(p for floor in FLOORS for p in (ROOT / floor).rglob("*.py"))
SCRIPTS = [ROOT / f"{name}.py" for name in ("train", "val", "detect", "export")]
TORCH_FREE = ["utils.letterbox", "utils.images", "utils.nms", "utils.draw", "utils.boxes", "data.sources", "models.predictor",
              "models.backends.onnx", "models.backends.openvino", "models.exported", "models.spec"]  # fmt: skip


def imported(path):
    """(top-level package, line) of each absolute import in the file, wherever it stands."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name.split(".")[0], node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module.split(".")[0], node.lineno
        elif isinstance(node, ast.ImportFrom) and any(alias.name == "*" for alias in node.names):
            yield "*", node.lineno


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_imports_go_down_only(path):
    floor = path.relative_to(ROOT).parts[0]
    forbidden = ({*FLOORS, "train", "val", "detect", "export", "tests", "benchmarks", "torchvision", "*"} - FLOORS[floor]) - {floor}
    if path.name == "nms.py":
        forbidden -= {"torchvision"}
    wrong = [f"line {line}: {name}" for name, line in imported(path) if name in forbidden]
    assert not wrong, wrong


@pytest.mark.parametrize("path", [*FILES, *SCRIPTS], ids=lambda p: p.relative_to(ROOT).as_posix())
def test_nothing_is_evaluated_or_unpickled(path):
    calls = [n for n in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(n, ast.Call)]
    names = [n.func.id for n in calls if isinstance(n.func, ast.Name)]
    assert not {"eval", "exec", "compile", "__import__"} & set(names)
    for call in calls:
        if isinstance(call.func, ast.Attribute) and ast.unparse(call.func) == "torch.load":
            assert any(k.arg == "weights_only" and ast.unparse(k.value) == "True" for k in call.keywords), call.lineno


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda p: p.name)
def test_scripts_are_short(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) < 200


def test_running_an_exported_file_needs_no_torch():
    code = (
        "import sys; sys.modules['torch'] = None\n"
        f"import importlib\nfor name in {TORCH_FREE!r}: importlib.import_module(name)\n"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_packages_import_lazily():
    code = "import sys, models, data, utils; assert not {'torch', 'cv2', 'numpy'} & set(sys.modules), 'heavy import'"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
