"""The embedded `shapes` data set: COCO JSON that is drawn when it is first asked for."""

from pathlib import Path

from graftdet.data.formats.base import FORMATS
from graftdet.data.formats.coco import Coco
from graftdet.data.synthetic_shapes import ensure_shapes


@FORMATS.register("shapes")
class Shapes(Coco):
    """`format: shapes` needs neither path nor splits: the data set is drawn where it may be written."""

    Writer = None
    SPLITS = {
        split: {"images": f"images/{split}", "annotations": f"annotations/instances_{split}.json"}
        for split in ("train", "val", "test")
    }

    @classmethod
    def recognises(cls, root: Path, value) -> int:
        return 0

    @classmethod
    def find_root(cls, value: str | None, yaml_path: Path, missing_hint: str) -> Path:
        return ensure_shapes()
