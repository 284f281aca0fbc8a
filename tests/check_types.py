"""`make lint`: mypy over the package `graftdet` as a wheel carries it, with its options from pyproject.toml.

mypy does not follow the `__path__` line of `graftdet/__init__.py`, so it reads a folder of links that has the layout of a
wheel. The paths in its report are those of the checkout.
"""

import re
import subprocess
import sys
from pathlib import Path

from hatch_build import BESIDE

ROOT = Path(__file__).resolve().parents[1]
CACHE = ROOT / ".mypy_cache"


def link_tree(package: Path) -> None:
    """Make `package` a folder of links to the files and directories that a wheel carries."""
    package.mkdir(parents=True, exist_ok=True)
    for source in (*(ROOT / "graftdet").glob("*.py*"), *(ROOT / name for name in BESIDE)):
        link = package / source.name
        if not link.exists():
            link.symlink_to(source, target_is_directory=source.is_dir())


def main() -> int:
    """Run mypy; return its exit status."""
    link_tree(CACHE / "tree" / "graftdet")
    command = [sys.executable, "-m", "mypy", "--config-file", str(ROOT / "pyproject.toml"), "--cache-dir", str(CACHE)]
    command += ["--package", "graftdet", *sys.argv[1:]]
    result = subprocess.run(command, cwd=CACHE / "tree", stdout=subprocess.PIPE, text=True)
    beside = "|".join(re.escape(name) for name in BESIDE)
    print(re.sub(rf"^graftdet/(?={beside})", "", result.stdout, flags=re.MULTILINE), end="")
    return result.returncode


if __name__ == "__main__":
    sys.exit(main())
