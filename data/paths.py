"""Where data sets lie, and what to say when one is not there."""

import os
from pathlib import Path

from graftdet.utils.errors import UserError


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
    path = Path(os.path.expanduser(value))
    if path.is_absolute():
        places = [path]
    elif path.parts:
        places = [datasets_dir() / path, yaml_path.parent / path]
    else:  # '.', the YAML's own folder
        places = [yaml_path.parent]
    if path.parts[:2] == ("..", "datasets"):
        places[:0] = [datasets_dir().joinpath(*path.parts[2:])]
    for place in places:
        if os.path.isdir(place):
            return place.absolute()
    looked = ", ".join(str(place.absolute()) for place in dict.fromkeys(places))
    raise UserError(f"{yaml_path}: data set '{value}' is not there (looked at {looked}); {missing_hint}")


def find_below(root: Path, value: str, where: str, key: str, missing_hint: str) -> Path:
    """Return the file or folder `value` of a split: absolute, else below `root`.

    Some exporters write `../train/images` for a folder beside the YAML: that is looked for as `train/images` too, and
    below `datasets_dir()`. Raises `UserError` with the places looked at.
    """
    found = look_below(root, value)
    if found:
        return found
    looked = ", ".join(str(place) for place in _places_below(root, value))
    raise UserError(f"{where}: {key} '{value}' is not there (looked at {looked}); {missing_hint}")


def look_below(root: Path, value: str) -> Path | None:
    """`find_below`, or None when it is nowhere."""
    return next((place for place in _places_below(root, value) if _exists(place)), None)


def _places_below(root: Path, value: str) -> list[Path]:
    path = Path(os.path.expanduser(value))
    if path.is_absolute():
        return [path]
    places = [root / path]
    if path.parts[:1] == ("..",):
        places += [root.joinpath(*path.parts[1:]), datasets_dir().joinpath(*path.parts[1:])]
        if path.parts[1:2] == ("datasets",):
            places.append(datasets_dir().joinpath(*path.parts[2:]))
    return places


def _exists(path: Path) -> bool:
    return os.path.exists(path)  # unlike Path's, false for a name too long
