"""Keys of a data YAML that state how annotations and images are read."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from graftdet.data.formats.parsing.sixth_column import AngleUnit
from graftdet.utils.config import to_number
from graftdet.utils.errors import UserError, did_you_mean

LABEL_READINGS = ("box", "polygon", "box+keypoints", "obb")
READING_KEYS = ("labels", "crowds", "drop_empty", "depth", "kpt_shape", "angles")


@dataclass(frozen=True)
class ReadingOptions:
    """How the annotations and images of a dataset are read."""

    labels: str | None = None  # what the rows of YOLO labels are (`LABEL_READINGS`); None: decided by their values
    keypoint_columns: int | None = None  # of a label row, by `kpt_shape`
    crowds_as_objects: bool = False  # crowd regions are objects to train on
    drop_empty: bool = False  # classes without any box are dropped
    depth: int = 16  # bits that 16-bit images use
    angles: AngleUnit | None = None  # unit of angles in label rows of six columns; None: decided by their values

    @classmethod
    def from_yaml(cls, values: dict[str, Any], path: Path) -> "ReadingOptions":
        """Read the keys of a data YAML.

        Args:
            values: the content of the YAML.
            path: the YAML, for messages.

        Raises:
            UserError: for an invalid value.
        """
        labels = values.get("labels")
        if labels is not None and labels not in LABEL_READINGS:
            hint = did_you_mean(str(labels), LABEL_READINGS)
            raise UserError(f"{path}: labels: expected one of {', '.join(LABEL_READINGS)}, got {labels!r}{hint}")
        crowds = values.get("crowds", "ignore")
        if crowds not in ("ignore", "objects"):
            raise UserError(f"{path}: crowds: expected ignore or objects, got {crowds!r}")
        depth = to_number(values.get("depth", 16), int, f"{path}: depth")
        if not 8 <= depth <= 16:
            raise UserError(f"{path}: depth: expected the number of bits that 16-bit images use, 8 to 16, got {depth}")
        drop_empty = to_number(values.get("drop_empty", False), bool, f"{path}: drop_empty")
        angles = values.get("angles")
        if angles not in (None, *get_args(AngleUnit)):
            raise UserError(f"{path}: angles: expected {' or '.join(get_args(AngleUnit))}, got {angles!r}")
        return cls(labels, _keypoint_columns(values.get("kpt_shape")), crowds == "objects", drop_empty, depth, angles)


def _keypoint_columns(shape: Any) -> int | None:
    """The number of values per label row that `kpt_shape: [keypoints, values per keypoint]` adds."""
    is_valid = isinstance(shape, list) and len(shape) == 2 and all(isinstance(number, int) for number in shape)
    return shape[0] * shape[1] if is_valid else None
