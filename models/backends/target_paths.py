"""The files that an export writes."""

from collections.abc import Sequence
from pathlib import Path

from graftdet.models.backends import BACKENDS, Backend
from graftdet.utils.errors import UserError

OTHER_TOOLS = tuple("saved_model pb edgetpu tfjs engine tensorrt rknn mnn paddle".split())
"""Formats that are known from elsewhere and are not written here."""


def check_formats(
    include: Sequence[str], out: str | Path | None, weights: Path, ending: str = "", allow_install: bool = False
) -> dict[str, Path]:
    """The file to write of each format.

    Args:
        include: names of formats.
        out, weights, ending: see `output_path`.
        allow_install: create the environment that the converter of a format needs, where it does not exist.

    Raises:
        UserError: an unknown format, one whose package or environment does not exist, or an `out` that does not fit.
    """
    for name in include:
        if name.lower() == "tflite":
            raise UserError(
                f"--include {name}: is named litert here; use --include litert, which writes a .tflite file"
            )
        if name.lower() in OTHER_TOOLS and name not in BACKENDS:
            source = "is converted by its own tool from a file of export.py"
            raise UserError(f"--include {name}: {source}; see 'Other tools' in docs/export.md")
        if missing := BACKENDS[name].missing_packages():
            command = f"install {'it' if len(missing) == 1 else 'them'} with 'pip install {' '.join(missing)}'"
            raise UserError(f"--include {name}: needs {' and '.join(missing)}; {command}")
    paths = {name: output_path(out, weights, ending, BACKENDS[name], len(include)) for name in include}
    for environment in filter(None, (BACKENDS[name].environment for name in include)):
        if allow_install:
            environment.create()
        environment.require()
    return paths


def output_path(out: str | Path | None, weights: Path, ending: str, backend: Backend, num_formats: int) -> Path:
    """The file or folder to write.

    Args:
        out: a file or a folder; a new folder is written with a final slash. None: beside the weights.
        weights: the weights file, whose stem names the export in a folder.
        ending: what follows that stem.
        backend: the format.
        num_formats: how many formats are exported; with several, `out` must be a folder.

    Raises:
        UserError: `out` is a name that does not fit.
    """
    name = f"{weights.stem}{ending}{backend.suffix}"
    if out is None:
        return weights.with_name(name)
    path = Path(out)
    fits = path.name.lower().endswith(backend.suffix) and num_formats == 1
    if fits and backend.is_folder:
        return path
    if path.is_dir() or str(out).endswith(("/", "\\")):
        return path / name
    if not fits:
        ending = f"a {'folder' if backend.is_folder else 'file'} name that ends in {backend.suffix}"
        raise UserError(f"--out {out}: expected {ending}, or a folder (a new one as '{out}/')")
    return path


def installed_formats() -> list[str]:
    """The names of all formats that can be exported, and which this operating system can run."""
    return [name for name, backend in BACKENDS.items() if backend.runs_here and backend.can_export]


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
