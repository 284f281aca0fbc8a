"""The software that results are computed with: its versions, and how its scripts are started in another process."""

import os
import platform
import subprocess
import sys
from importlib import import_module, metadata

from graftdet.utils.config import ROOT

_PACKAGES = ("torch", "numpy", "opencv-python", "onnx", "onnxruntime")


def script_command(script: str) -> list[str]:
    """Return the command that starts a script in a process of its own, to be followed by its options.

    Args:
        script: "train" or "val".

    In a checkout this is the script. In an installed package it is the module: the folder of a script comes first on
    the import path, where the `utils` of the package would hide that of an application.
    """
    is_installed = (ROOT / "__init__.py").exists()
    path = ROOT / f"{script}.py"
    return [sys.executable, "-P", "-m", f"graftdet.{script}"] if is_installed else [sys.executable, str(path)]


def module_environment() -> dict[str, str]:
    """Return the environment variables with which `python -P -m graftdet...` finds this project from any folder.

    Without -P, Python would import modules from the current folder first, which may hold files of strangers.
    """
    if (ROOT / "__init__.py").exists():  # installed
        return dict(os.environ)
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def versions() -> dict[str, str]:
    """Return the versions of Python, platform and packages that affect results, and the commit; "" where unknown."""
    found = {"python": platform.python_version(), "platform": platform.platform()}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = ""
    return {**found, "commit": commit()}


def commit() -> str:
    """Return the git commit of this checkout, with "+" if files differ from it; "" without git."""
    if not (ROOT / ".git").exists():
        return ""
    try:
        git = ["git", "-c", "safe.directory=*", "-C", str(ROOT)]
        settings = {
            "capture_output": True,
            "text": True,
            "timeout": 10,
            "env": {**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
        }
        head = subprocess.run([*git, "rev-parse", "HEAD"], **settings)
        changed = subprocess.run([*git, "status", "--porcelain", "--untracked-files=no"], **settings)
    except (OSError, subprocess.SubprocessError):
        return ""
    return head.stdout.strip() + ("+" if changed.stdout.strip() else "") if head.returncode == 0 else ""


def project_version() -> str:
    """Return the version of this project."""
    return import_module("graftdet").__version__
