"""The files that an export writes."""

import importlib.util
from collections.abc import Sequence
from pathlib import Path

from graftdet.models.backends import BACKENDS
from graftdet.utils.errors import UserError


def check_formats(include: Sequence[str], out: str | Path | None, weights: Path, ending: str = "") -> dict[str, Path]:
    """The file to write of each format.

    Raises:
        UserError: an unknown format, one whose package is not installed, or an `out` that does not fit.
    """
    for name in include:
        package = BACKENDS[name].package
        if importlib.util.find_spec(package) is None:
            raise UserError(f"--include {name}: needs {package}; install it with 'pip install {package}'")
    return {name: output_path(out, weights, ending, BACKENDS[name].suffix, len(include)) for name in include}


def output_path(out: str | Path | None, weights: Path, ending: str, suffix: str, num_formats: int) -> Path:
    """The file to write.

    Args:
        out: a file or a folder; a new folder is written with a final slash. None: beside the weights.
        weights: the weights file, whose stem names the file in a folder.
        ending: what follows that stem.
        suffix: suffix of the format.
        num_formats: how many formats are exported; with several, `out` must be a folder.

    Raises:
        UserError: `out` is a file name that does not fit.
    """
    if out is None:
        return weights.with_name(f"{weights.stem}{ending}{suffix}")
    path = Path(out)
    if path.is_dir() or str(out).endswith(("/", "\\")):
        return path / f"{weights.stem}{ending}{suffix}"
    if path.suffix.lower() != suffix or num_formats > 1:
        raise UserError(f"--out {out}: expected a file name that ends in {suffix}, or a folder (a new one as '{out}/')")
    return path


def installed_formats() -> list[str]:
    """The names of all formats whose packages are installed."""
    return [name for name in BACKENDS if importlib.util.find_spec(BACKENDS[name].package) is not None]


def benchmark_stem(out: str | Path | None, weights: Path) -> Path:
    """The path, without suffix, of what a benchmark writes.

    Args:
        out: a folder, or such a path, with or without a suffix; None: beside the weights.
        weights: the weights file.
    """
    if out is None:
        return weights.with_name(f"{weights.stem}.benchmark")
    path = Path(out)
    if path.is_dir() or str(out).endswith(("/", "\\")):
        return path / f"{weights.stem}.benchmark"
    return path.with_suffix("") if path.suffix in (".json", ".md", ".png") else path
