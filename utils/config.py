"""YAML files: found by name, read as data, never evaluated."""

import logging
import re
from pathlib import Path
from typing import Any, SupportsFloat, TypeVar

import yaml

from graftdet.utils.errors import UserError, nearest
from graftdet.utils.files import read_regular_file, refuse_lfs_pointer
from graftdet.utils.text import decode_unicode
from graftdet.utils.untrusted.limits import MAX_YAML

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = ROOT / "configs"
_PUBLISHED_FOLDERS = ("models", "models/hub", "data", "data/hyps")  # of the original YOLOv5
logger = logging.getLogger(__name__)
_T = TypeVar("_T", int, float, bool, str)
_BOOLEANS = {**dict.fromkeys(("true", "1", "yes", "on"), True), **dict.fromkeys(("false", "0", "no", "off"), False)}


_FLAGS = {"models": "--cfg", "data": "--data", "hyp": "--hyp"}  # folder of configs -> flag
_FOLDER_HINTS = {
    "data": "; write one, such as {}, with train: images/train, val: images/val, names: [cat, dog] (docs/datasets.md)"
}


def find_config(name: str | Path, kind: str) -> Path:
    """Return the path of a YAML file.

    Args:
        name: A path, or the name of a file in `configs/<kind>/`, with or without `.yaml`.
        kind: "models", "data" or "hyp".

    Raises:
        UserError: If there is no such file; suggests the most similar name.
    """
    path = Path(name)
    folder = CONFIGS / kind
    for candidate in (path, folder / path, folder / f"{path}.yaml"):
        if candidate.is_file():
            return candidate
    if str(path.parent.as_posix()) in _PUBLISHED_FOLDERS and (folder / path.name).is_file():
        logger.warning("%s: no such file; read as %s of configs/%s", name, path.name, kind)
        return folder / path.name
    if path.is_dir():
        inside = sorted(path.glob("*.y*ml"))
        hint = f"; did you mean '{inside[0]}'?" if inside else _FOLDER_HINTS.get(kind, "").format(path / "data.yaml")
        raise UserError(f"{name}: is a folder, expected a YAML file{hint}")
    if path.exists():
        raise UserError(f"{name}: is not a regular file, expected a YAML file")
    for other, flag in _FLAGS.items():
        if any((CONFIGS / other / candidate).is_file() for candidate in (path, f"{path}.yaml")):
            raise UserError(f"{name}: is a YAML of configs/{other}, expected one of configs/{kind}; give it as {flag}")
    raise UserError(f"{name}: no such file, and no YAML of that name in configs/{kind}{_nearest(path, folder)}")


def _nearest(path: Path, folder: Path) -> str:
    """`; did you mean ...?` with the YAML whose name without suffix is most similar, beside `path` or in `folder`."""
    known = {p.stem: p.name for p in sorted(folder.glob("*.yaml"))}
    known |= {p.stem: str(p) for p in sorted(path.parent.glob("*.y*ml"))}
    stem = path.stem if path.suffix.lower() in (".yaml", ".yml") else path.name
    near = nearest(stem, known)
    return f"; did you mean '{known[near]}'?" if near else ""


def load_yaml(path: str | Path) -> dict:
    """Read a YAML file that contains a mapping.

    Raises:
        UserError: If it cannot be read, is not valid YAML (names file and line), or is not a mapping.
    """
    return parse_yaml(read_text(path), str(path))


def read_text(path: str | Path) -> str:
    """Read a YAML file as text. Comments may be in another encoding; what is not UTF-8 in them becomes U+FFFD.

    Raises:
        UserError: If the file is missing, cannot be read, or is not UTF-8; names the likely encoding.
    """
    path = Path(path)
    try:
        data = read_regular_file(path, MAX_YAML)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise UserError(f"{path}: is a folder, expected a YAML file") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    refuse_lfs_pointer(path, data[:64])
    return decode_unicode(data, str(path))


_PLAIN_REASONS = {  # of PyYAML -> in plain words
    "found unexpected end of stream": "a closing quote is missing",
    "mapping values are not allowed here": "a ': ' stands within a value; put the value in quotes",
    "found character '\\t' that cannot start any token": "a tab stands before a value; write a space",
    "found character '@' that cannot start any token": "a value begins with '@'; put it in quotes",
    "found character '`' that cannot start any token": "a value begins with '`'; put it in quotes",
    "found character '%' that cannot start any token": "a value begins with '%'; put it in quotes",
}


class YamlError(UserError):
    """Text that is not valid YAML, or not a mapping.

    Attributes:
        problem: What is wrong, as in the message.
        reason: The same without "not valid YAML: ".
        line: Line from 1, if known.
        column: Column from 1, if known.
    """

    def __init__(
        self,
        where: str,
        reason: str,
        line: int | None = None,
        column: int | None = None,
        kind: str = "not valid YAML: ",
    ):
        self.problem, self.reason, self.line, self.column = kind + reason, reason, line, column
        position = f":{line}:{column}" if line else ""
        super().__init__(f"{where}{position}: {self.problem}")


def parse_yaml(text: str, where: str) -> dict:
    """Parse YAML text that contains a mapping.

    Args:
        text: The YAML text.
        where: Name of the file, for messages.

    Raises:
        YamlError: If the text is not valid YAML, or not a mapping.
    """
    return compose_yaml(text, where)[0]


def compose_yaml(text: str, where: str) -> tuple[dict, yaml.MappingNode, dict[tuple[int, int], yaml.Mark]]:
    """Parse YAML text that contains a mapping, for values and positions.

    Args:
        text: The YAML text.
        where: Name of the file, for messages.

    Returns:
        The mapping, its node, and the marks of aliases in lists by (id of the list's node, index).

    Raises:
        YamlError: If the text is not valid YAML, or not a mapping.
    """
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        loaded = None if node is None else loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        position = (mark.line + 1, mark.column + 1) if mark else ()
        reason = error.problem or error.context
        raise YamlError(where, _PLAIN_REASONS.get(reason, reason), *position) from None
    except (yaml.YAMLError, RecursionError, ValueError, OverflowError) as error:
        raise YamlError(where, str(error).splitlines()[0]) from None
    if not isinstance(loaded, dict):
        raise YamlError(where, f"expected a mapping of keys, got {_kind_of(loaded)}", kind="")
    return loaded, node, loader.alias_marks


def _kind_of(document) -> str:
    """What a document is that is not a mapping, for a message."""
    if isinstance(document, str):
        page = document.lstrip().lower().startswith(("<!doctype", "<html"))
        return "an HTML page; download the file itself (Raw)" if page else f"the text {document!r:.60}"
    return "an empty file" if document is None else f"a {type(document).__name__}"


class _Loader(yaml.SafeLoader):
    """SafeLoader that rejects repeated keys, recursive aliases, and aliases that expand to too many values."""

    MAX_ALIASED = 100_000  # values
    MAX_BITS = 1024  # of an integer
    values = by_aliases = 0  # values so far; targets of aliases count each time

    def __init__(self, stream):
        super().__init__(stream)
        self.sizes = {}  # number of values of each complete node, by its id
        self.alias_marks = {}  # of aliases in lists, by (id of the list's node, index)

    def compose_node(self, parent, index):
        event = self.peek_event()
        before = self.values
        node = super().compose_node(parent, index)
        if not isinstance(event, yaml.AliasEvent):
            self.values += 1
            self.sizes[id(node)] = self.values - before
            return node
        self.alias_marks[id(parent), index if isinstance(index, int) else id(index)] = event.start_mark
        size = self.sizes.get(id(node))
        self.by_aliases += size or 0
        self.values += size or 0
        if size is None or self.by_aliases > self.MAX_ALIASED:
            reason = "refers to itself" if size is None else f"expands the file to more than {self.MAX_ALIASED} values"
            raise yaml.composer.ComposerError(None, None, f"alias '{event.anchor}' {reason}", event.start_mark)
        return node

    def construct_object(self, node, deep=False):
        try:
            value = super().construct_object(node, deep)
            if type(value) is int and value.bit_length() > self.MAX_BITS:
                raise ValueError
            return value
        except (ValueError, LookupError, AttributeError, OverflowError):  # PyYAML: the text does not match its tag
            kind = node.tag.rpartition(":")[2]
            raise yaml.constructor.ConstructorError(
                None, None, f"expected {kind}, got {node.value!r:.60}", node.start_mark
            ) from None

    def construct_mapping(self, node, deep=False):
        seen = set()
        for key_node, _ in node.value:
            key = getattr(key_node, "value", None)
            if isinstance(key, str) and key != "<<":
                if key in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"key '{key}' is given twice", key_node.start_mark
                    )
                seen.add(key)
        return super().construct_mapping(node, deep)


def check_class_names(names: list, where: str) -> list[str]:
    """Return class names as strings.

    Args:
        names: As read from YAML; numbers are allowed.
        where: File and key, for messages.

    Raises:
        UserError: If there are none, one is a list, mapping, null or boolean, or two are the same.
    """
    if not names:
        raise UserError(f"{where}: is empty, expected at least one class")
    for name in names:
        if isinstance(name, (dict, list)) or name is None:
            raise UserError(f"{where}: expected strings, got {name!r:.80}")
        if isinstance(name, bool):  # YAML 1.1 reads yes, no, on, off as booleans
            raise UserError(
                f"{where}: YAML reads yes, no, on and off as booleans, here as {name}; put the name in quotes"
            )
    strings, seen = [str(name) for name in names], set()
    for name in strings:
        if name in seen:
            raise UserError(f"{where}: '{name}' is given twice")
        seen.add(name)
    return strings


def to_number(value: object, kind: type[_T], where: str) -> _T:
    """Convert a value read from YAML to the type of its field: YAML reads `1e-3` as a string and `on` as True.

    Args:
        value: As read.
        kind: int, float, bool or str.
        where: File and key, for messages.

    Raises:
        UserError: If `value` is not of that type.
    """
    if kind is bool:
        if isinstance(value, bool):
            return kind(value)
        if str(value).lower() in _BOOLEANS:
            return kind(_BOOLEANS[str(value).lower()])
    elif kind is str:
        return kind(str(value))
    elif isinstance(value, (str, SupportsFloat)) and not isinstance(value, bool):
        try:
            number = float(value)  # type: ignore[arg-type]
            if kind is float or number == int(number):
                return kind(number)
        except (ValueError, OverflowError):
            pass
    names: dict[Any, str] = {int: "a whole number", float: "a number", bool: "true or false"}
    comma = isinstance(value, str) and re.fullmatch(r"-?\d+,\d+", value.strip())
    hint = f"; write {str(value).strip().replace(',', '.')}" if comma and kind is float else ""
    raise UserError(f"{where}: expected {names[kind]}, got {value!r:.80}{hint}")
