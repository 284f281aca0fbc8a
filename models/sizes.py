"""`scales: {n: [0.33, 0.25, 1024], ...}`: one file for models of several sizes, as newer published YAMLs have it.

A size is depth_multiple, width_multiple and, where it is given, the largest width before the multiple. Key `scale` chooses
one; else the file's name does (`yolov8s.yaml`, `yolov8s-p2.yaml`), else it is the first.
"""

import math
import re
from pathlib import Path

import yaml

from utils.config import find_config, load_yaml, to_number
from utils.errors import UserError

MULTIPLES = ("depth_multiple", "width_multiple")
_NAMED = re.compile(r"(.*\d)([a-z])(?=[-_.]|$)(.*)")
_EXPECTED = "expected [depth, width, largest width]"


def scale_width(width: int, multiple: float, largest: float = math.inf) -> int:
    """`width`, at most `largest`, times `multiple`, up to the next multiple of 8 (116 at 1.0 is 120)."""
    return math.ceil(min(width, largest) * multiple / 8) * 8


def find_sized(name: str | Path) -> tuple[Path, str]:
    """The path of model YAML `name`, as `find_config` finds it, and what to call it. A size in the name leads there too:
    `yolov8s.yaml` is size s of `yolov8.yaml`. Raises `UserError`."""
    try:
        path = find_config(name, "models")
        return path, str(name) if Path(name).is_file() else path.name
    except UserError:
        named = _NAMED.fullmatch(Path(name).name)
        try:
            path = find_config(Path(name).with_name(named[1] + named[3]), "models") if named else None
            sizes = load_yaml(path).get("scales") if path else None
        except UserError:
            sizes = None
        if not isinstance(sizes, dict):
            raise
        if named[2] not in map(str, sizes):
            raise UserError(f"{name}: {path} has no size '{named[2]}', expected one of {', '.join(map(str, sizes))}") from None
        return path, named[0].removesuffix(path.suffix) + path.suffix


def settle_size(values: dict, where: str, report) -> tuple[dict, str | None]:
    """The values with the multiples of the size that is meant in place of the table, and the size's name; the values
    as they are and None where there is no table. What is wrong is told to `report`."""
    scales, chosen = values.get("scales"), values.get("scale")
    if scales is None:
        if chosen is not None:
            report(f"{where}: scale is {chosen!r}, but there is no table 'scales' of sizes")
        return values, None
    if not isinstance(scales, dict) or not scales:
        report(f"{where}, scales: expected a size a line, such as n: [0.33, 0.25, 1024], got {scales!r}")
        return values, None
    both = [key for key in MULTIPLES if values.get(key) is not None]
    if both:
        report(f"{where}: {' and '.join(both)} beside 'scales', which holds them for each size; take one of the two out")
    sizes = {str(size): _read_size(size, told, where, report) for size, told in scales.items()}
    if "scale" in values and str(chosen) not in sizes:
        report(f"{where}: scale is {chosen!r}, expected one of {', '.join(sizes)}")
        chosen = None
    size = str(chosen) if chosen is not None else size_in_name(where, sizes) or next(iter(sizes))
    depth, width, most = sizes[size]
    return {**values, "depth_multiple": depth, "width_multiple": width, "max_channels": most}, size


def with_size(text: str, size: str) -> str:
    """A model YAML's text that names its size itself, so that it means the same under any name."""
    if text.lstrip().startswith("{"):
        return yaml.safe_dump({**yaml.safe_load(text), "scale": size}, sort_keys=False)
    return f"{text.rstrip()}\nscale: {size}\n"


def size_in_name(name: str, sizes) -> str | None:
    """The size that a file's name tells, if it is one of `sizes`."""
    named = _NAMED.fullmatch(Path(name).name)
    return named[2] if named and named[2] in sizes else None


def _read_size(size, told, where: str, report) -> tuple[float, float, float]:
    """Depth, width and largest width of one line of the table."""
    at = f"{where}, scales, {size}"
    if not isinstance(told, list) or len(told) not in (2, 3):
        report(f"{at}: {_EXPECTED}, got {told!r}")
        return 1.0, 1.0, math.inf
    numbers = [1.0, 1.0, math.inf]
    for i, value in enumerate(told):
        try:
            number = to_number(value, float, at)
            if not 0 < number < 1e6 and not (i == 2 and number == math.inf):
                raise UserError(f"{at}: {_EXPECTED}, each above 0, got {told!r}")
            numbers[i] = number
        except UserError as error:
            report(str(error))
    return tuple(numbers)
