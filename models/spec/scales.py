"""`scales: {n: [0.33, 0.25, 1024], ...}`: one file for models of several sizes, as newer published YAMLs have it.

A size is depth_multiple, width_multiple and, optionally, the largest width before the multiple. The key `scale` chooses
one; otherwise a letter after a digit of the file's name does (`yolov8s.yaml`, `yolov8s-p2.yaml`), or the word after its
last hyphen (`yolox-tiny.yaml`); otherwise the first is used.
"""

import json
import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import yaml

from graftdet.models.spec.positions import Document
from graftdet.models.spec.problems import Reporter
from graftdet.utils.config import find_config, read_text, to_number
from graftdet.utils.errors import UserError, nearest

MULTIPLES = ("depth_multiple", "width_multiple")
_LETTER = re.compile(r"(?<=\d)[a-z](?![A-Za-z0-9])")
_WORD = re.compile(r"-([a-z]+)(?=\.ya?ml$|$)")
_TABLE = re.compile(r"""^[\s{]*["']?scales["']?\s*:?""", re.MULTILINE)
_EXPECTED = "expected [depth, width, largest width]"


class Size(NamedTuple):
    """A model size: its multiples, its name (None without a table), and whether the file or its name selected it."""

    depth_multiple: float | None = None
    width_multiple: float | None = None
    max_channels: float = math.inf
    name: str | None = None
    chosen: bool = True


def scale_width(width: int, multiple: float, largest: float = math.inf) -> int:
    """Scale an output width.

    Args:
        width: channels as written.
        multiple: the width multiple.
        largest: limit of the width before it is multiplied.

    Returns:
        Channels, rounded up to a multiple of 8 (116 at 1.0 is 120).
    """
    return math.ceil(min(width, largest) * multiple / 8) * 8


def find_sized(name: str | Path) -> tuple[Path, str, str | None]:
    """Find a model YAML; `yolov8s.yaml` also means size s of `yolov8.yaml`, `yolox-s.yaml` that of `yolox.yaml`.

    Args:
        name: a path or a bare name below configs/models.

    Returns:
        The path of the file, its name in messages, and the size in `name` where the file is one of several sizes.

    Raises:
        UserError: there is no such file.
    """
    try:
        path = find_config(name, "models")
        return path, str(name) if Path(name).is_file() else path.name, None
    except UserError:
        text = Path(name).name
        for found in (*_LETTER.finditer(text), *_WORD.finditer(text)):
            base = Path(name).with_name(text[: found.start()] + text[found.end() :])
            try:
                path = find_config(base, "models")
            except UserError:
                continue
            if _TABLE.search(read_text(path)):
                return path, str(base) if base.is_file() else path.name, found[found.lastindex or 0]
        raise


def resolve_size(values: dict, reporter: Reporter, requested: str | None = None) -> Size:
    """Choose the model size that a mapping means.

    Args:
        values: the mapping of a model YAML.
        reporter: takes the problems of `scales` and `scale`.
        requested: a size that takes precedence over the file's own choice.

    Returns:
        The size; one without values where the mapping has no table of sizes.

    Raises:
        UserError: the file has no size of the requested name.
    """
    scales, chosen = values.get("scales"), values.get("scale")
    if scales is None:
        if chosen is not None:
            hint = "did you mean 'scales'?" if isinstance(chosen, dict) else ""
            message = f"scale is {chosen!r}, but there is no table 'scales' of sizes"
            reporter.error("invalid-scales", message, hint, ("scale",))
        return Size()
    if not isinstance(scales, dict) or not scales or not all(isinstance(size, (str, int, float)) for size in scales):
        message = f"scales: expected one size per line, such as n: [0.33, 0.25, 1024], got {scales!r}"
        reporter.error("invalid-scales", message, path=("scales",))
        return Size()
    both = [key for key in MULTIPLES if values.get(key) is not None]
    if both:
        message = f"{' and '.join(both)} beside 'scales', which has them for each size"
        reporter.error("invalid-scales", message, "remove one of the two", (both[0],))
    sizes = {str(size): _read_size(size, numbers, reporter) for size, numbers in scales.items()}
    if requested and requested not in sizes:
        raise UserError(f"{reporter.file}: has no size '{requested}', expected one of {', '.join(sizes)}")
    if "scale" in values and str(chosen) not in sizes:
        near = nearest(str(chosen).strip(), sizes)
        hint = f"did you mean '{near}'?" if near else f"expected one of {', '.join(sizes)}"
        reporter.error("invalid-scales", f"scale is {chosen!r}, which is none of 'scales'", hint, ("scale",))
        name = requested or next(iter(sizes))
        return Size(*sizes[name], requested)
    name = requested or (str(chosen) if chosen is not None else size_in_name(reporter.file, sizes))
    return Size(*sizes[name or next(iter(sizes))], name or next(iter(sizes)), name is not None)


def size_in_name(name: str, sizes: Iterable[str]) -> str | None:
    """The size in a file's name: the first of `sizes` that follows a digit, or the one behind the last hyphen."""
    text = Path(name).name
    found = (match[match.lastindex or 0] for match in (*_LETTER.finditer(text), *_WORD.finditer(text)))
    return next((size for size in found if size in sizes), None)


def text_of_size(document: Document, size: str) -> str:
    """The text of a model YAML that chooses `size` by its key `scale`, so that it means the same under any file name.

    The rest of the text stays as it is where the key can be written into it; otherwise the mapping is written anew.
    """
    if str(document.values.get("scale")) == size:
        return document.text
    text, root, line = document.text, document.root, f"scale: {json.dumps(size)}"
    keys = {key.value: (key, value) for key, value in root.value if isinstance(key.value, str)}
    inside = [key for key in keys if root.start_mark.index <= keys[key][0].start_mark.index < root.end_mark.index]
    if "scale" in inside:
        start, end = keys["scale"][0].start_mark.index, keys["scale"][1].end_mark.index
        if start < keys["scale"][1].start_mark.index and "\n" not in text[start:end]:
            return text[:start] + line + text[end:]
    elif inside:
        first = keys["scales" if "scales" in inside else inside[0]][0].start_mark
        indent = text[first.index - first.column : first.index]
        if root.flow_style:
            return f"{text[: first.index]}{line}, {text[first.index :]}"
        if not indent.strip():
            end = "\r\n" if "\r\n" in text else "\n"
            return f"{text[: first.index]}{line}{end}{indent}{text[first.index :]}"
    return yaml.safe_dump({**document.values, "scale": size}, sort_keys=False, default_flow_style=None)


def _read_size(size, written, reporter: Reporter) -> tuple[float, float, float]:
    """Depth, width and largest width of one line of the table."""
    path = ("scales", str(size))
    numbers = [1.0, 1.0, math.inf]
    if not isinstance(written, list) or len(written) not in (2, 3):
        reporter.error("invalid-scales", f"scales, {size}: {_EXPECTED}, got {written!r}", path=path)
        return numbers[0], numbers[1], numbers[2]
    for i, value in enumerate(written):
        try:
            number = to_number(value, float, f"scales, {size}")
            if not 0 < number < 1e6 and not (i == 2 and number == math.inf):
                raise UserError(f"scales, {size}: {_EXPECTED}, each above 0, got {written!r}")
            numbers[i] = number
        except UserError as error:
            reporter.error("invalid-scales", str(error), path=path)
    return numbers[0], numbers[1], numbers[2]
