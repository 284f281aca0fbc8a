"""Environments of converters: exact versions, installed on demand only, completely or not at all."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from graftdet.models.backends import BACKENDS
from graftdet.models.backends.converters import environment as module
from graftdet.models.backends.converters.environment import ConverterEnvironment, last_line
from graftdet.models.backends.target_paths import check_formats, installed_formats
from graftdet.utils.errors import UserError

LITERT = BACKENDS["litert"].environment
WEIGHTS = Path("runs/best.pt")


@pytest.fixture
def environment(tmp_path, monkeypatch):
    """An environment in a new cache folder, whose format has its packages."""
    monkeypatch.setenv("GRAFTDET_CACHE", str(tmp_path / "cä che"))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    return LITERT


@pytest.fixture
def calls(monkeypatch):
    """The commands that are run, which install an empty package."""
    calls = []

    def run(command, **_):
        calls.append(command)
        if command[1:3] == ["-m", "venv"]:
            install(Path(command[3]))
        else:
            package = Path(command[0]).parents[1] / "lib/python3.11/site-packages/litert_torch-0.10.0.dist-info"
            package.mkdir(parents=True)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(module.subprocess, "run", run)
    return calls


def install(folder):
    """An environment without packages."""
    python = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    python.parent.mkdir(parents=True)
    python.write_text("")


def test_every_version_is_exact():
    pins = [line for line in LITERT.requirements.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    versions = dict(line.split("==") for line in pins)
    assert len(pins) > 50 and all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in pins)
    assert versions["litert-torch"] == "0.10.0" and versions["torch"] == "2.13.0"
    assert versions["typing_extensions"] < "4.13"


def test_without_the_flag_nothing_is_installed(environment, calls):
    with pytest.raises(UserError) as error:
        check_formats(["onnx", "litert"], None, WEIGHTS)
    message = str(error.value)
    first, second = map(shlex.join, environment.commands(environment.path))
    assert message.startswith("--include litert: litert-torch needs an environment of its own") and "\n" not in message
    assert f"create it with '{first}' and '{second}'; --allow-install runs these two commands" in message
    assert first.startswith(sys.executable) and second.endswith("litert-requirements.txt")
    assert calls == [] and not environment.path.exists()
    assert "litert" not in installed_formats() and not BACKENDS["litert"].can_export


def test_with_the_flag_two_commands_are_run(environment, calls):
    paths = check_formats(["onnx", "litert"], None, WEIGHTS, allow_install=True)
    assert paths["litert"] == Path("runs/best.tflite") and environment.is_ready
    assert [command[1:4] for command in calls] == [["-m", "venv", calls[0][3]], ["-m", "pip", "install"]]
    assert calls[0][0] == sys.executable and calls[1][0].startswith(calls[0][3])
    assert calls[1][4:] == ["-r", str(environment.requirements)]
    assert [one.name for one in environment.path.parent.iterdir()] == [environment.path.name]
    assert "litert" in installed_formats()
    check_formats(["litert"], None, WEIGHTS)
    check_formats(["litert"], None, WEIGHTS, allow_install=True)
    assert len(calls) == 2


def test_wrong_arguments_install_nothing(environment, calls):
    with pytest.raises(UserError, match="--out a.onnx"):
        check_formats(["litert"], "a.onnx", WEIGHTS, allow_install=True)
    assert calls == []


def test_an_incomplete_environment_is_replaced(environment, calls):
    install(environment.path)
    (environment.path / "stale").write_text("")
    with pytest.raises(UserError, match="does not exist or is incomplete"):
        environment.require()
    environment.create()
    assert environment.is_ready and not (environment.path / "stale").exists()


def test_a_failed_installation_leaves_nothing(environment, calls, monkeypatch):
    def run(command, **_):
        if command[2] == "venv":
            install(Path(command[3]))
            return subprocess.CompletedProcess(command, 0, "", "")
        return subprocess.CompletedProcess(command, 1, "", "Collecting\nERROR: No matching torch\n[notice] newer pip\n")

    monkeypatch.setattr(module.subprocess, "run", run)
    with pytest.raises(UserError, match=r"^--allow-install: '[^\n]* -r [^\n]*' fails: ERROR: No matching torch$"):
        environment.create()
    assert list(environment.path.parent.iterdir()) == []
    environment.path.parent.rmdir()
    environment.path.parent.write_text("")
    with pytest.raises(UserError, match=r"--allow-install: .*: cannot be created \(File exists\)"):
        environment.create()


def test_other_versions_have_another_folder(environment, tmp_path):
    other = tmp_path / "requirements.txt"
    other.write_text("litert-torch==0.11.0\n")
    assert ConverterEnvironment("litert", other, "litert-torch", "2 GB").path != environment.path
    assert environment.path.parent == tmp_path / "cä che" / "converters"


def test_the_reason_of_a_failed_process():
    def reason(stdout="", stderr="", status=-11):
        return last_line(subprocess.CompletedProcess([], status, stdout, stderr))

    assert reason() == "ends with status -11"
    assert reason("progress", "warning\nValueError: no such operation\n\n") == "ValueError: no such operation"
    assert reason("only here\n") == "only here"
    assert len(reason(stderr="x" * 1000)) < 300
