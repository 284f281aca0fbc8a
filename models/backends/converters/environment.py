"""Environments of their own for converters whose packages conflict with those of this project.

Such an environment is below the cache folder. A person creates it by two commands, or `export.py --allow-install` does;
nothing else installs anything.
"""

import contextlib
import hashlib
import logging
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from graftdet.utils.errors import UserError, first_line
from graftdet.utils.files import cache_folder

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ConverterEnvironment:
    """A virtual environment that a converter runs in.

    Attributes:
        name: the format that needs it.
        requirements: file with the exact version of every package.
        package: the package that is the converter; pip installs it after all that it needs.
        size: disk space, for messages.
    """

    name: str
    requirements: Path
    package: str
    size: str

    @property
    def path(self) -> Path:
        """The folder; other versions of the packages, or of Python, have another one."""
        versions = self.requirements.read_bytes() + repr(sys.version_info[:2]).encode()
        return cache_folder() / "converters" / f"{self.name}-{hashlib.sha256(versions).hexdigest()[:12]}"

    @property
    def is_ready(self) -> bool:
        """Whether it is completely installed."""
        folder = f"site-packages/{self.package.replace('-', '_')}-*.dist-info"
        patterns = (f"lib/python*/{folder}", f"Lib/{folder}")
        return _python(self.path).exists() and any(any(self.path.glob(pattern)) for pattern in patterns)

    def commands(self, folder: Path) -> list[list[str]]:
        """The two commands that create it in a folder."""
        install = ["-m", "pip", "install", "-r", str(self.requirements)]
        return [[sys.executable, "-m", "venv", str(folder)], [str(_python(folder)), *install]]

    def require(self) -> None:
        """Raise `UserError` with both commands where it does not exist."""
        if self.is_ready:
            return
        first, second = (f"'{shlex.join(command)}'" for command in self.commands(self.path))
        raise UserError(
            f"--include {self.name}: {self.package} needs an environment of its own ({self.size}); {self.path} does "
            f"not exist or is incomplete; create it with {first} and {second}; --allow-install runs these two commands"
        )

    def create(self) -> None:
        """Install it where it does not exist: the only call that installs anything, for `export.py --allow-install`.

        It is installed in a temporary folder beside its own and moved when it is complete.

        Raises:
            UserError: a command fails, or the folder cannot be written.
        """
        if self.is_ready:
            return
        path = self.path
        logger.info(f"--allow-install: installs {self.package} into {path} ({self.size}, some minutes)")
        staging = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            staging = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}-"))
            for command in self.commands(staging / "new"):
                done = subprocess.run(command, capture_output=True, text=True, errors="replace")
                if done.returncode:
                    raise UserError(f"--allow-install: '{shlex.join(command)}' fails: {last_line(done)}")
            if path.exists():
                os.replace(path, staging / "old")
            os.replace(staging / "new", path)
        except OSError as error:
            raise UserError(f"--allow-install: {path}: cannot be created ({error.strerror})") from None
        finally:
            if staging:
                shutil.rmtree(staging, ignore_errors=True)

    def run(self, script: Path, arguments: Sequence[str | Path]) -> "subprocess.CompletedProcess[str]":
        """Run a script by the Python of the environment, with none of the modules of this project.

        Args:
            script: the script.
            arguments: its arguments.

        Returns:
            The finished process, whatever its status; its output is captured.
        """
        command = [str(_python(self.path)), "-I", str(script), *map(str, arguments)]
        offline = {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
        return subprocess.run(command, capture_output=True, text=True, errors="replace", env={**os.environ, **offline})


def last_line(done: "subprocess.CompletedProcess[str]") -> str:
    """Why a process failed: the last line that it printed, of pip the last error; else its status."""
    lines = [line.strip() for line in (done.stderr or done.stdout or "").splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR:")]
    with contextlib.suppress(IndexError):
        return first_line(RuntimeError((errors or lines)[-1]))
    return f"ends with status {done.returncode}"


def _python(folder: Path) -> Path:
    """The interpreter of a virtual environment."""
    return folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
