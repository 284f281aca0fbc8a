"""`scales: {n: [0.33, 0.25, 1024], ...}`: one file for models of several sizes, as newer published YAMLs have it.

A size is depth_multiple, width_multiple and, where it is given, the largest width before the multiple. Key `scale` chooses
one; else a letter behind a digit of the file's name does (`yolov8s.yaml`, `yolov8s-p2.yaml`), else it is the first.
"""

import json
import math
import re
from pathlib import Path

import yaml
from graftdet.utils.config import find_config, load_yaml, parse_yaml, to_number
from graftdet.utils.errors import UserError, did_you_mean

MULTIPLES = ("depth_multiple", "width_multiple")
_LETTER = re.compile(r"(?<=\d)[a-z](?![A-Za-z0-9])")
_LINE = re.compile(r"^scale\s*:[^#\r\n]*?(\s*?(?:#.*)?\r?)$", re.MULTILINE)
_EXPECTED = "expected [depth, width, largest width]"
_TOLD = re.compile(r" \(size .*\)$")


def scale_width(width: int, multiple: float, largest: float = math.inf) -> int:
    """`width`, at most `largest`, times `multiple`, up to the next multiple of 8 (116 at 1.0 is 120)."""
    return math.ceil(min(width, largest) * multiple / 8) * 8


def find_sized(name: str | Path) -> tuple[Path, str, str | None]:
    """The path of model YAML `name`, as `find_config` finds it, what to call it, and None; or, where the name has a size in
    it that leads to a file of several (`yolov8s.yaml` is size s of `yolov8.yaml`), that file, its name and the size. Raises
    `UserError`."""
    try:
        path = find_config(name, "models")
        return path, str(name) if Path(name).is_file() else path.name, None
    except UserError:
        for letter in _LETTER.finditer(Path(name).name):
            base = Path(name).with_name(letter.string[: letter.start()] + letter.string[letter.end() :])
            try:
                path = find_config(base, "models")
            except UserError:
                continue
            values = load_yaml(path)
            if "scales" in values:
                sizes = list(map(str, values["scales"])) if isinstance(values["scales"], dict) else []
                if sizes and letter[0] not in sizes:
                    raise UserError(
                        f"{name}: {path} has no size '{letter[0]}', expected one of {', '.join(sizes)}"
                    ) from None
                return path, str(base) if base.is_file() else path.name, letter[0]
        raise


def settle_size(values: dict, where: str, report, told: str | None = None) -> tuple[dict, str | None, str]:
    """The values with the multiples of the size that is meant, the size's name, and `where` with it; the values as they
    are, None and `where` where there is no table. `told` is a size that goes before all else in the file. What is wrong is
    told to `report`."""
    scales, chosen = values.get("scales"), values.get("scale")
    if scales is None:
        if chosen is not None:
            hint = "; did you mean 'scales'?" if isinstance(chosen, dict) else ""
            report(f"{where}: scale is {chosen!r}, but there is no table 'scales' of sizes{hint}")
        return values, None, where
    if not isinstance(scales, dict) or not scales or not all(isinstance(size, (str, int, float)) for size in scales):
        report(f"{where}, scales: expected a size a line, such as n: [0.33, 0.25, 1024], got {scales!r}")
        return values, None, where
    both = [key for key in MULTIPLES if values.get(key) is not None]
    if both:
        report(
            f"{where}: {' and '.join(both)} beside 'scales', which holds them for each size; take one of the two out"
        )
    sizes = {str(size): _read_size(size, numbers, where, report) for size, numbers in scales.items()}
    if "scale" in values and str(chosen) not in sizes:
        near = did_you_mean(str(chosen).strip(), sizes) or f", expected one of {', '.join(sizes)}"
        report(f"{where}: scale is {chosen!r}{near}")
        return {**values, **_multiples(sizes[told or next(iter(sizes))])}, told, where
    size = told or (str(chosen) if chosen is not None else size_in_name(where, sizes))
    first = "" if size else ", the first"
    size = size or next(iter(sizes))
    values = {**values, **_multiples(sizes[size])}
    return values, size, where if _TOLD.search(where) else f"{where} (size {size}{first})"


def with_size(text: str, size: str, where: str = "model") -> str:
    """A model YAML's text that names its size itself, so that it means the same under any name: as it is where it does or
    is torn, which is told elsewhere; with its line `scale` changed, or with one at its end; or written anew where no line can
    stand there."""
    try:
        values = parse_yaml(text, where)
    except UserError:
        return text
    if str(values.get("scale")) == size:
        return text
    meant = {**values, "scale": size}
    end = "\r\n" if "\r\n" in text else "\n"
    line = f"scale: {json.dumps(size)}"
    for changed in (_LINE.sub(lambda found: line + found[1], text, count=1), f"{text.rstrip()}{end}{line}{end}"):
        try:
            if parse_yaml(changed, where) == meant:
                return changed
        except UserError:
            continue
    return yaml.safe_dump(meant, sort_keys=False, default_flow_style=None)


def size_in_name(name: str, sizes) -> str | None:
    """The size that a file's name tells: the first of `sizes` that stands behind a digit."""
    return next((letter[0] for letter in _LETTER.finditer(Path(name).name) if letter[0] in sizes), None)


def _multiples(size: tuple[float, float, float]) -> dict[str, float]:
    return dict(zip((*MULTIPLES, "max_channels"), size, strict=True))


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
