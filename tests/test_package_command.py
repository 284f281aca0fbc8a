"""The console command `graftdet` and the names that `import graftdet` offers."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import graftdet
from graftdet.__main__ import SCRIPTS, commands, main
from graftdet.models.__main__ import COMMANDS as MODEL_COMMANDS
from graftdet.models.__main__ import main as models_main

ROOT = Path(__file__).resolve().parents[1]
COMMANDS = [
    "train",
    "val",
    "detect",
    "export",
    "summary",
    "check",
    "conform",
    "insert",
    "compare",
    "report",
    "draw",
    "swap",
    "weights",
    "data",
]
DATA_COMMANDS = ("check", "convert", "split", "draw", "shapes")
HELP = [
    *([f"{script}.py", "--help"] for script in SCRIPTS),
    *(["-m", "graftdet", script, "--help"] for script in SCRIPTS),
    *(["-m", "models", command, "--help"] for command in MODEL_COMMANDS),
    *(["-m", "data", command, "--help"] for command in DATA_COMMANDS),
    *(["-m", program, "--help"] for program in ("graftdet", "models", "data")),
]
OTHERS = [
    *(["-m", "graftdet", *arguments] for arguments in (["--version"], ["weights"], ["check", "--help"])),
    ["-m", "models", "check", "yolov5n.yaml", "v5Lite-s.yaml"],
    ["-m", "models", "check", "--explain", "unknown-module"],
]


def run(*arguments: str) -> subprocess.CompletedProcess:
    """A Python process started from the checkout."""
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True)


def test_help_lists_every_command(capsys):
    main(["--help"])
    lines = capsys.readouterr().out.splitlines()
    listed = {line.split()[0]: line for line in lines if line.startswith("  ") and line[2] not in " -"}
    assert set(COMMANDS) <= set(listed) and set(listed) == set(commands())
    assert all(len(line) <= 120 and len(line.split()) > 3 for line in listed.values())


def test_models_without_a_command_lists_them(capsys):
    with pytest.raises(SystemExit) as end:
        models_main([])
    assert end.value.code == 2 and "summary" in capsys.readouterr().err


def test_receipt_describes_itself(capsys):
    with pytest.raises(SystemExit) as end:
        main(["receipt", "--help"])
    output = capsys.readouterr().out
    assert end.value.code == 0 and "receipt FILE" in output and "--int8" not in output
    with pytest.raises(SystemExit) as end:
        main(["receipt"])
    assert end.value.code == 2 and "receipt FILE" in capsys.readouterr().err


def test_version(capsys):
    main(["--version"])
    assert capsys.readouterr().out == f"graftdet {graftdet.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["chek"], "graftdet: error: unknown command 'chek'; did you mean 'check'?"),
        (["xyzzy"], "graftdet: error: unknown command 'xyzzy'; see graftdet --help"),
        (["--weights", "x.pt"], "graftdet: error: unknown command '--weights'"),
        ([], "usage: graftdet"),
    ],
)
def test_a_command_that_does_not_exist(arguments, message, capsys):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    captured = capsys.readouterr()
    assert ended.value.code == 2 and captured.err.startswith(message) and not captured.out


@pytest.mark.parametrize(
    ("arguments", "usage"),
    [
        (["-m", "graftdet", "detect", "--help"], "usage: graftdet detect "),
        (["detect.py", "--help"], "usage: detect.py "),
        (["-m", "graftdet", "draw", "--help"], "usage: graftdet draw "),
        (["-m", "models", "draw", "--help"], "usage: python -m models draw "),
        (["-m", "graftdet", "data", "split", "--help"], "usage: graftdet data split "),
        (["-m", "data", "split", "--help"], "usage: python -m data split "),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_usage_names_what_the_user_typed(arguments, usage):
    result = run(*arguments)
    assert result.returncode == 0 and result.stdout.startswith(usage), result.stdout + result.stderr


@pytest.mark.parametrize("name", ["train", "val", "detect", "export"])
def test_scripts_get_their_arguments(name, monkeypatch):
    received = []
    module = getattr(__import__(f"graftdet.{name}"), name)
    monkeypatch.setattr(module, "main", lambda argv: received.append((argv, sys.argv)))
    monkeypatch.setattr(sys, "argv", ["graftdet"])
    monkeypatch.setenv("GOMP_SPINCOUNT", "1000")
    main([name, "--img", "64"])
    assert received == [(["--img", "64"], [f"graftdet {name}", "--img", "64"])]


def test_public_names_are_defined_and_documented():
    assert {"build_model", "load_model", "train_model", "validate_model", "export_model", "load_plugins"} < set(
        graftdet.__all__
    )
    for name in graftdet.__all__:
        value = getattr(graftdet, name)
        assert isinstance(value, str) or (value.__doc__ and value.__name__ == name), name
    assert set(graftdet.__all__) <= set(dir(graftdet))


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'graftdet' has no attribute 'build_modle'"):
        graftdet.build_modle  # noqa: B018


def test_import_graftdet_is_light():
    result = run("-c", "import sys, graftdet; assert not {'torch', 'cv2', 'numpy'} & set(sys.modules)")
    assert result.returncode == 0, result.stderr


def run_and_watch(*arguments: str) -> tuple[subprocess.CompletedProcess, bool]:
    """As `run`; also whether the process imported torch."""
    result = run("-X", "importtime", *arguments)
    return result, re.search(r"\| +torch$", result.stderr, re.MULTILINE) is not None


@pytest.mark.parametrize("arguments", [*HELP, *OTHERS], ids=" ".join)
def test_does_not_import_torch(arguments):
    result, imports_torch = run_and_watch(*arguments)
    assert result.returncode == 0 and result.stdout, result.stderr[-1000:]
    assert not imports_torch


@pytest.mark.parametrize("arguments", [["val.py", "--dta", "x"], ["-m", "graftdet", "train", "--epochs", "none"]])
def test_wrong_flags_end_before_torch_is_imported(arguments):
    result, imports_torch = run_and_watch(*arguments)
    assert result.returncode == 2 and "error: " in result.stderr and not imports_torch


def test_the_import_of_torch_is_noticed():
    assert run_and_watch("-c", "import torch")[1]
