"""Results as JSON files."""

import json
import math
from pathlib import Path
from typing import Any

from graftdet.utils.files import write_atomically
from graftdet.utils.text import valid_utf8


def write_json(path: Path, content: Any) -> None:
    """Write plain data; undefined numbers (NaN) become null."""
    text = json.dumps(without_nan(content), ensure_ascii=False)
    write_atomically(path, valid_utf8(text))


def without_nan(value: Any) -> Any:
    """Return `value` with None instead of NaN and infinity, which JSON does not have."""
    if isinstance(value, dict):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, list):
        return [without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
