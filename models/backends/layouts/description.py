"""Input, outputs and metadata of an exported file as JSON, for formats that have no fields of their own for them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from graftdet.utils.errors import UserError

Shape = list[int | None]


@dataclass(frozen=True)
class Description:
    """What a file takes and returns.

    Attributes:
        input: (batch, channels, height, width), None where any is taken.
        outputs: name and shape of each output, None where a side varies.
        metadata: see `graftdet.models.backends.metadata.make_metadata`.
    """

    input: Shape
    outputs: list[tuple[str, Shape]]
    metadata: dict[str, str]

    def to_json(self, ascii_only: bool = False, **more: Any) -> str:
        """The description as JSON, with further keys."""
        content = {"input": self.input, "outputs": self.outputs, "metadata": self.metadata, **more}
        return json.dumps(content, ensure_ascii=ascii_only, indent=1)

    @classmethod
    def from_json(cls, text: str | bytes, path: Any) -> "Description":
        """Read a description.

        Args:
            text: what `to_json` returned.
            path: the file, for messages.

        Raises:
            UserError: it is malformed.
        """
        try:
            content = json.loads(text)
            outputs = [(str(name), _shape(shape)) for name, shape in content["outputs"]]
            metadata = {str(key): str(value) for key, value in content["metadata"].items()}
            found = cls(_shape(content["input"]), outputs, metadata)
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError, OverflowError):
            raise UserError(f"{path}: was not exported by this project, or its description is malformed") from None
        if len(found.input) != 4:
            raise UserError(f"{path}: expected an input (batch, channels, height, width), found {found.input}")
        return found


def _shape(sides: Sequence[Any]) -> Shape:
    return [side if side is None else int(side) for side in sides]


def extra(text: str | bytes, key: str) -> Mapping[str, Any]:
    """The value of a further key of a description, a mapping; empty where there is none."""
    value = json.loads(text).get(key)
    return value if isinstance(value, Mapping) else {}
