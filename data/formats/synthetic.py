"""The embedded `shapes` dataset: COCO JSON that is drawn on first use."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

from graftdet.data.formats.coco import Coco
from graftdet.data.formats.format import FORMATS
from graftdet.data.synthetic.drawn_dataset import ensure_shapes


@FORMATS.register("shapes")
class SyntheticShapes(Coco):
    """`format: shapes` needs neither path nor splits: the dataset is drawn into a folder that can be written."""

    Writer = None
    DEFAULT_SPLITS: ClassVar[dict[str, Any]] = {
        split: {"images": f"images/{split}", "annotations": f"annotations/instances_{split}.json"}
        for split in ("train", "val", "test")
    }

    @classmethod
    def recognizes(cls, root: Path, value: Any) -> int:
        """Return 0: this format must be named."""
        return 0

    @classmethod
    def find_root(cls, value: str | None, yaml_path: Path, missing_hint: str, splits: Iterable[Any] = ()) -> Path:
        """Return the folder of the dataset; draw it if it does not exist."""
        return ensure_shapes()
