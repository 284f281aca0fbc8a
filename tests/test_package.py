"""The built package: what a wheel carries, and that it works beside an application with its own `utils` and `models`."""

import json
import os
import subprocess
import sys
import sysconfig
import textwrap
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
WEIGHTS = ROOT / "configs" / "weights"
APPLICATION = """
import multiprocessing
from pathlib import Path

import graftdet
import models
import utils

if __name__ == "__main__":
    multiprocessing.set_start_method("spawn")  # workers import everything anew
    common = {"data": "data.yaml", "img": 64, "device": "cpu", "project": "runs", "plots": ["none"]}
    trained = graftdet.train_model(cfg="graft-n.yaml", epochs=1, batch_size=8, workers=1, name="train", **common)
    validated = graftdet.validate_model(weights=[str(trained.best_weights)], name="val", **common)
    detector = graftdet.load_model(trained.best_weights, device="cpu")
    detections = detector.predict(sorted(Path("shapes/images/val").iterdir()), imgsz=64)
    try:
        graftdet.train_model(img="large")
    except graftdet.utils.errors.UserError as error:
        assert "img" in str(error)
    assert utils.OWNER == models.OWNER == "the application"
    assert not hasattr(graftdet.models, "OWNER") and graftdet.utils is not utils
    print("images:", validated.images, len(detections))
"""


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    """Standard output of a command that must succeed."""
    inherited = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    result = subprocess.run(
        [str(part) for part in command], cwd=cwd, env={**inherited, **environment}, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def fresh_environment(folder: Path, *install: str | Path) -> Path:
    """A new virtual environment that sees the packages of this one, with `install` in it; the path of its Python."""
    venv.create(folder, with_pip=False, symlinks=os.name != "nt")
    scripts = folder / ("Scripts" if os.name == "nt" else "bin")
    python = scripts / ("python.exe" if os.name == "nt" else "python")
    options = ["--no-index", "--no-deps", "--no-build-isolation", "--disable-pip-version-check", "--quiet"]
    run(sys.executable, "-m", "pip", "--python", python, "install", *options, *install, cwd=folder, **_build_packages())
    target = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).strip())
    packages = dict.fromkeys(sysconfig.get_path(name) for name in ("purelib", "platlib"))
    (target / "packages_of_the_tests.pth").write_text("\n".join(packages), encoding="utf-8")
    return python


def _build_packages() -> dict[str, str]:
    """Environment in which a build without isolation finds hatchling of this environment."""
    return {"PYTHONPATH": os.pathsep.join(dict.fromkeys(sysconfig.get_path(n) for n in ("purelib", "platlib")))}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel that is built from the source distribution of this checkout."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT, cwd=folder)
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """The interpreter of a fresh environment in which the wheel is installed."""
    return fresh_environment(tmp_path_factory.mktemp("environment"), wheel)


@pytest.fixture(scope="module")
def application(tmp_path_factory) -> Path:
    """A folder with packages `utils` and `models` of its own and a program that uses graftdet."""
    folder = tmp_path_factory.mktemp("application")
    for name in ("utils", "models"):
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text('OWNER = "the application"\n')
    (folder / "app.py").write_text(APPLICATION)
    splits = "".join(
        f"{split}: {{images: images/{split}, annotations: annotations/instances_{split}.json}}\n"
        for split in ("train", "val")
    )
    (folder / "data.yaml").write_text(f"path: {folder.as_posix()}/shapes\nformat: coco\n{splits}")
    return folder


PLUGIN = """
import utils
from torch import nn

assert utils.OWNER == "the application"


class Plain(nn.Identity):
    pass
"""


def files_of(top: Path) -> set[str]:
    """Files that git would track below `top`, relative to the checkout."""
    paths = [top] if top.is_file() else top.rglob("*")
    return {path.relative_to(ROOT).as_posix() for path in paths if path.is_file() and "__pycache__" not in path.parts}


def test_the_wheel_carries_every_file_below_one_folder(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    packaged = {name for name in names if ".dist-info/" not in name}
    expected = files_of(ROOT / "graftdet")
    for top in ("models", "utils", "data", "configs", "train.py", "val.py", "detect.py", "export.py"):
        expected |= {f"graftdet/{name}" for name in files_of(ROOT / top)}
    assert packaged == expected
    assert {name.split("/")[0].split("-")[0] for name in names} == {"graftdet"}


def test_the_wheel_works_beside_packages_of_the_same_names(installed, application):
    python = installed
    command = python.with_name("graftdet.exe" if os.name == "nt" else "graftdet")
    assert run(command, "--version", cwd=application) == f"graftdet {_version()}\n"
    pretrained = json.loads(run(command, "weights", "--format", "json", cwd=application))["pretrained"]
    assert [entry["name"] for entry in pretrained] == sorted(path.stem for path in WEIGHTS.glob("*.safetensors"))
    run(command, "data", "shapes", "--out", "shapes", "--count", "8", "--seed", "1", cwd=application)
    assert run(python, "app.py", cwd=application, OMP_NUM_THREADS="1").endswith("images: 2 2\n")
    results = (application / "runs" / "train" / "results.csv").read_text().splitlines()
    assert len(results) == 2 and (application / "runs" / "val" / "metrics.json").is_file()
    flags = "--source shapes/images/val --img 64 --device cpu --project runs --name detect"
    run(command, "detect", "--weights", "runs/train/weights/best.pt", *flags.split(), cwd=application)
    assert len(list((application / "runs" / "detect").glob("*.jpg"))) == 2
    location = run(python, "-c", "import graftdet.models.graph as package; print(package.__file__)", cwd=application)
    assert Path(location.strip()).is_relative_to(installed.parents[1])
    (application / "plugin.py").write_text(PLUGIN)  # also in the training that another process runs
    flags = "--train data.yaml --epochs 1 --seeds 1 --img 64 --plugins plugin.py --project trained"
    table = run(
        command, "compare", "graft-p.yaml", *flags.split(), "--train-args=--device cpu --plots none", cwd=application
    )
    assert "AP50-95 val, best of 1 epoch, 1 seed" in table


def test_bare_imports_of_a_plugin_mean_the_package(tmp_path):
    python = fresh_environment(tmp_path / "environment", "--editable", ROOT)
    (tmp_path / "mine.py").write_text(
        "from models import BLOCKS\nfrom torch import nn\nclass Plain(nn.Identity): pass\n"
    )
    code = "import graftdet.models; graftdet.load_plugins(['mine.py']); assert 'Plain' in graftdet.models.BLOCKS"
    result = subprocess.run([python, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_an_editable_install_adds_one_name_only(tmp_path):
    python = fresh_environment(tmp_path / "environment", "--editable", ROOT)
    code = """
        import importlib.util, multiprocessing
        import graftdet.utils.config, graftdet.utils.errors
        assert graftdet.utils.config.CONFIGS.is_dir()
        for name in ("models", "utils", "data", "train", "tests"):
            assert importlib.util.find_spec(name) is None, name
        if __name__ == "__main__":
            for method in ("spawn", "forkserver", "fork"):
                if method in multiprocessing.get_all_start_methods():
                    with multiprocessing.get_context(method).Pool(1) as pool:
                        assert pool.apply(graftdet.utils.errors.did_you_mean, ("cat", ["cut"])), method
            print(graftdet.utils.__file__)
    """
    (tmp_path / "program.py").write_text(textwrap.dedent(code))
    assert run(python, "program.py", cwd=tmp_path).strip() == str(ROOT / "utils" / "__init__.py")


def _version() -> str:
    """`__version__` as the source states it."""
    (line,) = (
        line for line in (ROOT / "graftdet/__init__.py").read_text().splitlines() if line.startswith("__version__")
    )
    return line.split('"')[1]
