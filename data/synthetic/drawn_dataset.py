"""The embedded shapes dataset on disk: a few hundred images in COCO format, drawn from a seed on first use.

It gives every command something to work on without a download.
"""

import json
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np

from graftdet.data.paths import datasets_dir
from graftdet.data.synthetic.generator import Generator
from graftdet.data.synthetic.shapes import ShapesGenerator
from graftdet.utils.errors import UserError
from graftdet.utils.files import cache_folder
from graftdet.utils.images.io import write_image

VERSION = 2  # increase it if the same seed gives other images
SEED, COUNT = 0, 400  # count: training images; a quarter of it each for validation and test
_MARKER = "shapes.json"


def ensure_shapes() -> Path:
    """Return the folder of the shapes dataset; draw it first if it does not exist.

    The folder is `$DATASETS_DIR/shapes` if that holds the images of `SEED` and `COUNT`; else `datasets/shapes` in the
    working directory; else, if that cannot be written or holds another seed or count, the user's cache folder. Several
    processes may call this at once.

    Raises:
        UserError: if no folder can be written.
    """
    candidates = [datasets_dir() / "shapes", Path("datasets/shapes"), cache_folder() / "shapes"]
    for folder in candidates:
        if _is_complete(folder, SEED, COUNT):
            return folder.absolute()
    errors = []
    for folder in dict.fromkeys(candidates[1:]):
        marker = _read_marker(folder)
        if marker and (marker.get("seed"), marker.get("count")) != (SEED, COUNT):
            errors.append(f"{folder}: holds images of another seed or count")
            continue
        try:
            return draw_shapes(folder, SEED, COUNT).absolute()
        except UserError as error:
            errors.append(str(error))
    raise UserError("the shapes dataset cannot be written anywhere: " + "; ".join(errors))


def draw_shapes(out: str | Path, seed: int = SEED, count: int = COUNT) -> Path:
    """Draw the shapes dataset into a folder.

    The folder appears as a whole or not at all. It replaces a shapes dataset of another seed or count, and is left as
    it is if it holds the requested one.

    Args:
        out: the folder.
        seed: another seed gives other images.
        count: number of training images, at least 4; a quarter of it is drawn for validation and test each.

    Returns:
        The folder.

    Raises:
        UserError: if the folder holds anything else or cannot be written.
    """
    out = Path(out)
    if count < 4:
        raise UserError(f"--count: expected at least 4 images, got {count}")
    if seed < 0:
        raise UserError(f"--seed: expected a number of at least 0, got {seed}")
    if _is_complete(out, seed, count):
        return out
    if out.exists() and not (out / _MARKER).is_file() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out}: exists and is not a shapes dataset; move it away or choose another folder")
    temporary = None
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=".shapes-", dir=out.parent))
        for index, (split, number) in enumerate((("train", count), ("val", count // 4), ("test", count // 4))):
            _draw_split(ShapesGenerator(), temporary, split, number, np.random.SeedSequence([seed, index]))
        (temporary / _MARKER).write_text(json.dumps({"dataset": "shapes", **_version(seed, count)}), encoding="utf-8")
        os.chmod(temporary, 0o755)
        _replace_folder(temporary, out, seed, count)
    except OSError as error:
        raise UserError(f"{out}: cannot be written ({error.strerror or error})") from None
    finally:
        if temporary:
            shutil.rmtree(temporary, ignore_errors=True)
    return out


def _draw_split(
    generator: Generator, root: Path, split: str, number: int, seed_sequence: np.random.SeedSequence
) -> None:
    """Write `number` images and their COCO JSON; each image has its own seed."""
    images, annotations = [], []
    for image_id, seed in enumerate(seed_sequence.spawn(number), 1):
        image, labels, boxes, areas = generator.draw(np.random.default_rng(seed))
        name = f"{split}_{image_id:04d}.jpg"
        write_image(root / "images" / split / name, image)
        images.append({"id": image_id, "file_name": name, "width": image.shape[1], "height": image.shape[0]})
        for label, box, area in zip(labels, boxes, areas, strict=True):
            annotation = {"id": len(annotations) + 1, "image_id": image_id, "category_id": label + 1, "bbox": box}
            annotations.append({**annotation, "area": area, "iscrowd": 0})
    categories = [{"id": category_id, "name": name} for category_id, name in enumerate(generator.names, 1)]
    document = {"images": images, "annotations": annotations, "categories": categories}
    target = root / "annotations" / f"instances_{split}.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(document), encoding="utf-8")


def _replace_folder(temporary: Path, out: Path, seed: int, count: int) -> None:
    """Rename `temporary` to `out`, replacing an older dataset; another process may do the same at the same time."""
    for _ in range(5):
        try:
            os.rename(temporary, out)  # fails if the folder exists
            return
        except OSError:
            if _is_complete(out, seed, count):
                return
            if not out.exists():
                raise
        trash = Path(tempfile.mkdtemp(prefix=".shapes-", dir=out.parent))
        try:
            os.rename(out, trash / "old")
            if _is_complete(trash / "old", seed, count):  # another process finished in the meantime
                os.rename(trash / "old", out)
        except OSError:  # removed or created by another process: try again
            continue
        finally:
            shutil.rmtree(trash, ignore_errors=True)
    os.rename(temporary, out)


def _version(seed: int, count: int) -> dict:
    return {"version": VERSION, "seed": seed, "count": count}


def _is_complete(folder: Path, seed: int, count: int) -> bool:
    marker = _read_marker(folder) or {}
    return {key: marker.get(key) for key in ("version", "seed", "count")} == _version(seed, count)


def _read_marker(folder: Path) -> dict | None:
    """The seed, count and version of the shapes dataset in `folder`; None if there is none."""
    try:
        marker = json.loads((folder / _MARKER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return marker if isinstance(marker, dict) else None
