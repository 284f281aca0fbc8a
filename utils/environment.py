"""TODO"""

import os
import platform
import subprocess
from importlib import metadata

from graftdet.utils.config import ROOT

_PACKAGES = ("torch", "numpy", "opencv-python", "onnx", "onnxruntime")


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide results, of the platform and of this code ('' unknown)."""
    found = {"python": platform.python_version(), "platform": platform.platform()}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = ""
    return {**found, "commit": commit()}


def commit() -> str:
    """The git commit of this checkout, with '+' when files differ from it; '' where there is no git."""
    if not (ROOT / ".git").exists():
        return ""
    try:
        ask = ["git", "-c", "safe.directory=*", "-C", str(ROOT)]
        settings = {
            "capture_output": True,
            "text": True,
            "timeout": 10,
            "env": {**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
        }
        head = subprocess.run([*ask, "rev-parse", "HEAD"], **settings)
        changed = subprocess.run([*ask, "status", "--porcelain", "--untracked-files=no"], **settings)
    except (OSError, subprocess.SubprocessError):
        return ""
    return head.stdout.strip() + ("+" if changed.stdout.strip() else "") if head.returncode == 0 else ""
