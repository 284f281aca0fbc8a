"""The keys of a model YAML and their values: which are known, what an unknown one means, class names, anchors."""

from difflib import get_close_matches

from graftdet.models.spec.problems import Reporter
from graftdet.utils.config import check_class_names, to_number
from graftdet.utils.errors import UserError, nearest

SECTIONS = ("backbone", "head")
KEYS = (
    *("nc", "names", "ch", "depth_multiple", "width_multiple", "scales", "scale", "anchors", "activation"),
    *("max_channels", "loss"),
    *SECTIONS,
    "inplace",  # of published files, saves memory there; it changes no result and is ignored
)
DATASET_KEYS = ("path", "train", "val", "test")
"""Keys of a dataset YAML that no model YAML has."""
_SYNONYMS = {
    "neck": "head",
    **dict.fromkeys(("classes", "numclasses", "nclasses", "numclass", "nclass"), "nc"),
    **dict.fromkeys(("depth", "gd"), "depth_multiple"),
    **dict.fromkeys(("width", "gw"), "width_multiple"),
    "act": "activation",
    **dict.fromkeys(("channels", "inchannels"), "ch"),
}


def resolve_keys(values: dict, reporter: Reporter) -> tuple[dict, dict[str, list], dict[str, str]]:
    """Find out which keys a mapping means.

    Args:
        values: the mapping as read.
        reporter: takes unknown keys and missing sections.

    Returns:
        The values under the keys that are meant, and those of unknown keys; the rows of each section, none where a
        section cannot be read, as indices would mean other rows then; and the written key of each one that was
        misspelled.
    """
    if _is_dataset(values):
        message = f"is a dataset YAML ({', '.join(key for key in DATASET_KEYS if key in values)}), not a model YAML"
        reporter.error("missing-section", message, "give it as --data, and the model YAML as --cfg", ("train",))
        return {}, {}, {}
    if "lr0" in values and not set(SECTIONS) & set(values):
        message = "is a hyperparameter YAML (lr0), not a model YAML"
        reporter.error("missing-section", message, "give it as --hyp, and the model YAML as --cfg", ("lr0",))
        return {}, {}, {}
    resolved, spelled = dict(values), {}
    complete = True
    for key, value in values.items():
        if key in KEYS:
            continue
        has_rows = _has_rows(value)
        meant, hint = _meaning(str(key), value, has_rows, values)
        reporter.error("unknown-key", f"unknown key '{key}'", hint, (str(key),), replacement=meant)
        if meant:
            resolved[meant], spelled[meant] = resolved.pop(key), str(key)
        complete = complete and (meant is not None or not has_rows)
    for key in SECTIONS:
        if not isinstance(resolved.get(key), list):
            what = "is missing" if resolved.get(key) is None else f"must be a list of rows, got {resolved[key]!r}"
            hint = "expected a list of rows [from, number, module, args]"
            reporter.error("missing-section", f"'{key}' {what}", hint, (key,))
            complete = False
    if complete and not any(resolved[key] for key in SECTIONS):
        hint = "expected rows [from, number, module, args] in backbone and head"
        reporter.error("missing-section", "the model has no rows", hint, ("backbone",))
    return resolved, {key: resolved[key] for key in SECTIONS} if complete else {}, spelled


def _is_dataset(values: dict) -> bool:
    """Whether a mapping is that of a dataset YAML: the two files were swapped."""
    found = sum(key in values for key in DATASET_KEYS)
    return found > 0 and not any(_has_rows(value) for value in values.values()) and not set(SECTIONS) & set(values)


def _has_rows(value) -> bool:
    """Whether a value is a list with rows in it."""
    rows = value if isinstance(value, list) else []
    return any(isinstance(row, list) and len(row) > 2 and any(isinstance(part, str) for part in row) for row in rows)


def _meaning(key: str, value, has_rows: bool, values: dict) -> tuple[str | None, str]:
    """The known key that an unknown one stands for, or None, and the hint that goes with it."""
    numbers = isinstance(value, list) and all(isinstance(v, (int, float)) for v in value)
    if values.get("scales", "") is None and numbers:
        return None, "is it a size? Indent it below scales"
    missing = [k for k in KEYS if values.get(k) is None and "scale" not in k]
    plain = key.lower().replace("_", "").replace("-", "").replace(" ", "")
    if has_rows:
        missing = [k for k in missing if k in SECTIONS]
    alike = missing if has_rows and len(missing) == 1 else []
    alike = alike or [k for k in missing if k.replace("_", "") == plain or _SYNONYMS.get(plain) == k]
    alike = alike or get_close_matches(key.lower(), missing, n=1, cutoff=0.6)
    if alike:
        return alike[0], f"did you mean '{alike[0]}'?"
    if has_rows:
        return None, "rows belong under backbone or head"
    near = (nearest(key, ["scales"]) if isinstance(value, dict) else None) or nearest(key, KEYS)
    return None, f"did you mean '{near}'?" if near else f"known keys: {', '.join(KEYS)}"


def read_number(values: dict, key: str, kind: type, least: float, reporter: Reporter):
    """The number under a key; None where there is none or where it is wrong, which is reported."""
    try:
        value = None if values.get(key) is None else to_number(values[key], kind, key)
        if value is not None and not least <= value <= 1e6:
            raise UserError(f"{key}: expected {least:g} to 1e6, got {value:g}")
    except UserError as error:
        reporter.error("invalid-value", str(error), path=(key,))
        return None
    return value


def read_activation(values: dict, reporter: Reporter) -> str | None:
    """The text under `activation`."""
    text = values.get("activation")
    if text is None or isinstance(text, str):
        return text
    message = f"activation: expected a name such as nn.ReLU(), got {text!r}"
    reporter.error("invalid-activation", message, path=("activation",))
    return None


def read_class_names(values: dict, nc: int | None, reporter: Reporter) -> tuple[str, ...] | None:
    """The names of the classes, in order, from a list or a mapping of numbers; None where they are wrong."""
    names = values.get("names")
    if names is None:
        return None
    try:
        if isinstance(names, dict):
            numbered = {to_number(key, int, "names, key"): name for key, name in names.items()}
            if sorted(numbered) != list(range(len(names))):
                got = ", ".join(map(str, names))
                raise UserError(f"names: expected the numbers 0 to {len(names) - 1}, got {got:.80}")
            names = [numbered[number] for number in range(len(names))]
        if not isinstance(names, list):
            raise UserError(f"names: expected a list of class names, got {names!r}")
        names = tuple(check_class_names(names, "names"))
        if nc is not None and len(names) != nc:
            raise UserError(f"nc is {nc}, but names has {len(names)}; expected one name per class")
    except UserError as error:
        reporter.error("class-names", str(error), path=("names",))
        return None
    return names


def read_anchors(values: dict, reporter: Reporter):
    """The anchors: a number per level, or one list of widths and heights in pixels per level; something of that form
    where they are wrong.
    """
    anchors = values.get("anchors")
    if anchors is None or (isinstance(anchors, int) and not isinstance(anchors, bool) and 1 <= anchors <= 100):
        return anchors
    expected = "anchors: expected a number per level or one list of [w, h, w, h, ...] per level"
    if not isinstance(anchors, list) or not anchors:
        reporter.error("invalid-anchors", f"{expected}, got {anchors!r}", path=("anchors",))
        return 3
    lengths = [len(level) for level in anchors if isinstance(level, list) and level and len(level) % 2 == 0]
    usual = max(lengths, key=lengths.count, default=6)
    found = {i: text for i, level in enumerate(anchors) if (text := _level_fault(i, level, usual, expected))}
    if not lengths and len(found) > 1:  # one mistake of the whole
        reporter.error("invalid-anchors", f"{expected}, got {anchors!r}", path=("anchors",))
        return 3
    for i, text in found.items():
        reporter.error("invalid-anchors", text, path=("anchors", i))
    return [[1.0] * usual] * len(anchors) if found and lengths else 3 if found else anchors


def _level_fault(i: int, level, usual: int, expected: str) -> str | None:
    """What is wrong with the anchors of level `i`."""
    numbers = level if isinstance(level, list) else []
    wrong = [v for v in numbers if isinstance(v, bool) or not isinstance(v, (int, float)) or not 0 < v < 1e6]
    if wrong:
        return f"{expected}; level {i} holds {', '.join(map(repr, wrong[:3]))}"
    if not numbers or len(numbers) % 2:
        return f"{expected}; level {i} is {level!r}" + (f", {len(numbers)} numbers" if numbers else "")
    if len(numbers) != usual:
        return f"anchors: level {i} has {len(numbers)} numbers, expected {usual} as the other levels have"
    return None
