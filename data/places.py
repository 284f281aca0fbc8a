"""Where data sets lie, and what to say when one is not there."""

import os
from pathlib import Path

from utils.errors import UserError


def datasets_dir() -> Path:
    """The folder that holds data sets: `$DATASETS_DIR`, else `datasets` in the working directory."""
    return Path(os.environ.get("DATASETS_DIR") or "datasets")


def find_root(value: str | None, yaml_path: Path, missing_hint: str) -> Path:
    """Return the folder of a data set: `value` absolute, else below `datasets_dir()`, else relative to the YAML.

    Published YAMLs write `../datasets/NAME` for a folder beside the checkout: that NAME is looked for below
    `datasets_dir()` too. Without `value` it is the YAML's own folder. Raises `UserError` with the places looked at.
    """
    if value is None:
        return yaml_path.absolute().parent
    path = Path(value).expanduser()
    places = [path] if path.is_absolute() else [datasets_dir() / path, yaml_path.parent / path]
    if path.parts[:2] == ("..", "datasets"):
        places[:0] = [datasets_dir().joinpath(*path.parts[2:])]
    for place in places:
        if place.is_dir():
            return place.absolute()
    looked = ", ".join(str(place.absolute()) for place in dict.fromkeys(places))
    raise UserError(f"{yaml_path}: data set '{value}' is not there (looked at {looked}); {missing_hint}")


def find_below(root: Path, value: str, where: str, key: str, missing_hint: str) -> Path:
    """Return the file or folder `value` of a split: absolute, else below `root`.

    Some exporters write `../train/images` for a folder beside the YAML: that is looked for as `train/images` too.
    Raises `UserError` with the places looked at.
    """
    path = Path(value).expanduser()
    places = [path if path.is_absolute() else root / path]
    if path.parts[:1] == ("..",):
        places.append(root.joinpath(*path.parts[1:]))
    for place in places:
        if _exists(place):
            return place
    looked = ", ".join(str(place) for place in places)
    raise UserError(f"{where}: {key} '{value}' is not there (looked at {looked}); {missing_hint}")


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a name too long, or with a NUL
        return False
