"""`models`, `data` and `utils` imported by their bare names in a checkout: the same modules as below graftdet."""

import multiprocessing
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NO_SECOND_COPY = """
bare = {name: module for name, module in sys.modules.items() if name.split(".")[0] in ("models", "data", "utils")}
assert all(sys.modules["graftdet." + name] is module for name, module in bare.items())
files = [module.__file__ for name, module in sys.modules.items() if name.startswith("graftdet.")]
assert len(files) == len(set(files))
"""


def run(*arguments: str | Path, cwd: Path = ROOT) -> subprocess.CompletedProcess:
    """A Python process started from the checkout."""
    return subprocess.run([sys.executable, *map(str, arguments)], cwd=cwd, capture_output=True, text=True)


@pytest.mark.parametrize(
    "code",
    [
        "import graftdet.models as full, models; assert models is full and 'models.graph' not in sys.modules",
        "from models import BLOCKS, HEADS; import graftdet.models as full; assert full.BLOCKS is BLOCKS",
        "from models import build_model, load_model, load_plugins; import graftdet\n"
        "assert (build_model, load_model, load_plugins) == "
        "(graftdet.build_model, graftdet.load_model, graftdet.load_plugins)",
        "from models.blocks.conv import Conv; from graftdet.models.blocks.conv import Conv as full; assert Conv is full",
        "import graftdet.models.blocks.conv as full; import models.blocks.conv as bare; assert full is bare",
        "import utils.boxes, data.dataset_config; from graftdet.utils import boxes; assert utils.boxes is boxes",
        "import utils.cli; from graftdet.utils import cli as full\n"
        "assert utils.cli is full and full.__spec__.name == 'graftdet.utils.cli'",
    ],
)
def test_bare_imports_are_the_same_modules(code):
    result = run("-c", f"import sys\n{code}\n{NO_SECOND_COPY}")
    assert result.returncode == 0, result.stderr


def test_a_bare_name_that_does_not_exist_is_an_ordinary_import_error():
    result = run("-c", "import models.nothing_of_the_kind")
    assert "ModuleNotFoundError: No module named 'models.nothing_of_the_kind'" in result.stderr


def test_a_package_that_replaces_the_alias_is_imported_as_itself(tmp_path):
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "__init__.py").write_text("")
    (tmp_path / "models" / "spec.py").write_text("OWNER = 'the application'")
    code = f"import sys, models; del sys.modules['models']; sys.path.insert(0, {str(tmp_path)!r})\nimport models.spec"
    result = run("-c", f"{code}; assert models.spec.OWNER")
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_processes_that_import_everything_anew(method, tmp_path):
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"no {method} on this system")
    (tmp_path / "program.py").write_text(
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "import multiprocessing\n"
        "from utils.errors import UserError, nearest\n"
        "def work(text):\n"
        "    import graftdet.utils.errors, utils.errors\n"
        "    assert utils.errors is graftdet.utils.errors and nearest is utils.errors.nearest\n"
        "    return nearest(text, ['cut']), UserError\n"
        "if __name__ == '__main__':\n"
        f"    with multiprocessing.get_context({method!r}).Pool(1) as pool:\n"
        "        assert pool.apply(work, ('cat',)) == ('cut', UserError)\n"
    )
    result = run(tmp_path / "program.py", cwd=tmp_path)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("module", ["models", "data", "graftdet"])
def test_the_commands_run_as_modules_of_the_checkout(module):
    result = run("-m", module, "--help")
    assert result.returncode == 0 and result.stdout.startswith("usage: "), result.stderr


def test_a_plugin_may_import_by_bare_names(tmp_path):
    (tmp_path / "mine.py").write_text(
        "from models import BLOCKS\nfrom models.blocks.conv import Conv\n\n\n"
        "@BLOCKS.register()\nclass MyConv(Conv):\n    '''A convolution.'''\n"
    )
    (tmp_path / "mine.yaml").write_text(
        "nc: 3\nanchors: [[10,13, 16,30, 33,23]]\nbackbone: [[-1, 1, MyConv, [8, 6, 2, 2]]]\n"
        "head: [[[0], 1, Detect, [nc, anchors]]]\n"
    )
    result = run("-m", "models", "summary", tmp_path / "mine.yaml", "--plugins", tmp_path / "mine.py")
    assert result.returncode == 0 and "MyConv" in result.stdout, result.stderr
