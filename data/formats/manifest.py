"""What a dataset consisted of, so that a resumed run notices that it has changed.

An image counts as changed if its file has another size in bytes, or if its boxes or classes are others.
"""

import hashlib
import logging
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from graftdet.data.formats.dataset_split import Split
from graftdet.data.formats.sample_table import SampleTable
from graftdet.data.parallel_io import map_threads
from graftdet.utils.errors import UserError
from graftdet.utils.text import counted

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Changes:
    """Number of images that were added, removed and changed."""

    added: int
    removed: int
    changed: int

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed)

    def __str__(self) -> str:
        counts = {"added": self.added, "removed": self.removed, "changed": self.changed}
        return ", ".join(f"{counted(count, 'image')} {what}" for what, count in counts.items() if count)


@dataclass(frozen=True)
class Manifest:
    """Hashes of the images of a split.

    Attributes:
        hashes: (n, 2) int64, of the name (with its folder) and of the content (size of the file, boxes, classes) of
            each image, in no particular order.
    """

    hashes: np.ndarray

    @classmethod
    def of(cls, table: SampleTable, has_files: bool = True) -> "Manifest":
        """The manifest of validated samples.

        Args:
            table: the samples.
            has_files: whether the images are files; drawn ones are not.
        """
        sizes = dict(map_threads(lambda index: _size(table.paths[index]), range(len(table)))) if has_files else {}
        boxes, labels = np.ascontiguousarray(table.boxes, np.float32), np.ascontiguousarray(table.labels, np.int64)
        hashes = np.zeros((len(table), 2), np.int64)
        for index, path in enumerate(table.paths):
            rows = slice(table.offsets[index], table.offsets[index + 1])
            content = b"".join((boxes[rows].tobytes(), labels[rows].tobytes(), table.crowd[rows].tobytes()))
            folder, name = os.path.split(path)
            hashes[index, 0] = _hash(os.fsencode(os.path.join(os.path.basename(folder), name)))
            hashes[index, 1] = _hash(b"%d %b" % (sizes.get(index, 0), content))
        return cls(hashes[np.lexsort(hashes.T)])

    @property
    def digest(self) -> str:
        """SHA-256 of all hashes."""
        return hashlib.sha256(self.hashes.astype("<i8").tobytes()).hexdigest()

    def changes_since(self, earlier: "Manifest") -> Changes:
        """What has changed since an earlier manifest of the split."""
        now, before = (Counter(map(tuple, manifest.hashes.tolist())) for manifest in (self, earlier))
        new, gone = now - before, before - now
        new_names, gone_names = (Counter(name for name, _ in part.elements()) for part in (new, gone))
        changed = (new_names & gone_names).total()
        return Changes(new.total() - changed, gone.total() - changed, changed)


def record_data(splits: Mapping[str, Split], checkpoint: dict[str, Any] | None, allow_changes: bool) -> dict[str, Any]:
    """Describe the images of a run; a resumed run trains on what it was started with.

    Args:
        splits: The splits by name.
        checkpoint: Of the run that is resumed; None for a new run.
        allow_changes: Warn about changes only.

    Returns:
        Entries for the run's checkpoints: "dataset" with number of images and digest of each split, "manifest" with
        the hashes of `Manifest`.

    Raises:
        UserError: If images were added, removed or changed since the run was started.
    """
    manifests = {
        name: Manifest.of(SampleTable.from_samples(split.samples), has_files=split.drawing is None)
        for name, split in splits.items()
    }
    recorded = (checkpoint or {}).get("manifest", {})
    found = []
    for name, manifest in manifests.items():
        earlier = recorded.get(name)
        is_valid = isinstance(earlier, torch.Tensor) and earlier.shape[1:] == (2,) and earlier.dtype == torch.int64
        if is_valid and (changes := manifest.changes_since(Manifest(earlier.numpy()))):
            found.append(f"{name}: {changes}")
    if found:
        changed = f"the dataset is not the one that the run was started with ({'; '.join(found)})"
        if not allow_changes:
            raise UserError(f"--resume: {changed}; restore it, or add --allow-changed-data")
        logger.warning(changed)
    return {
        "dataset": {name: {"images": len(m.hashes), "digest": m.digest} for name, m in manifests.items()},
        "manifest": {name: torch.from_numpy(m.hashes) for name, m in manifests.items()},
    }


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return -1


def _hash(data: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little", signed=True)
