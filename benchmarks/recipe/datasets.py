"""Write the datasets that recipes are compared on: `python -m benchmarks.recipe.datasets NAME ...`.

glyphs: letters and digits in seven fonts, rotated, tinted, partly occluded, among distracting strokes; 36 classes and
any number of images, so that a few epochs cannot overfit them. class: one class of a COCO-format dataset and its first
images. objects: every large object is of one class, all others are marked as crowd and cost nothing. cutouts: objects
of one class, cut out of their photographs and pasted into photographs without it.
Each writes FOLDER/data.yaml beside its annotations, for `train.py --data`.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import yaml

from graftdet.data.dataset_config import load_data_config
from graftdet.utils import cli
from graftdet.utils.errors import UserError, did_you_mean
from graftdet.utils.images.io import write_image

from .cutouts import paste_cutouts

GLYPHS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
FONTS = (0, 2, 3, 4, 5, 6, 7)  # OpenCV's Hershey fonts but PLAIN
SIDE = 160  # pixels
_LARGE = 1 / 20  # smallest area of an object in `objects`, relative to the image


def draw_glyphs(out: Path, count: int, seed: int = 0) -> None:
    """Draw `count` training images of SIDE x SIDE pixels, and a twelfth of that for validation, into `out`."""
    for index, (split, number) in enumerate((("train", count), ("val", max(count // 12, 1)))):
        images, annotations = [], []
        for image_id, image_seed in enumerate(np.random.SeedSequence([seed, index]).spawn(number), 1):
            image, labels, boxes = draw_image(np.random.default_rng(image_seed))
            name = f"{image_id:06d}.jpg"
            write_image(out / "images" / split / name, image)
            images.append({"id": image_id, "file_name": name, "width": SIDE, "height": SIDE})
            for label, box in zip(labels, boxes, strict=True):
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": image_id,
                        "category_id": label + 1,
                        "bbox": box,
                        "area": box[2] * box[3],
                        "iscrowd": 0,
                    }
                )
        categories = [{"id": number, "name": glyph} for number, glyph in enumerate(GLYPHS, 1)]
        _write(out / f"{split}.json", {"images": images, "annotations": annotations, "categories": categories})
    _describe(out, {split: (out / "images" / split, out / f"{split}.json") for split in ("train", "val")})


def draw_image(rng: np.random.Generator) -> tuple[np.ndarray, list[int], list[list[int]]]:
    """Return an image (SIDE, SIDE, 3) uint8 BGR, its labels, and boxes of the visible parts as xywh in pixels."""
    background = cv2.resize(
        rng.normal(0, 30, (5, 5, 3)).astype(np.float32), (SIDE, SIDE), interpolation=cv2.INTER_CUBIC
    )
    image = background + rng.uniform(40, 215, 3).astype(np.float32)
    for _ in range(rng.integers(0, 8)):
        ends = [tuple(int(value) for value in rng.integers(0, SIDE, 2)) for _ in range(2)]
        cv2.line(image, *ends, rng.uniform(0, 255, 3).tolist(), int(rng.integers(1, 5)))
    owner, labels, areas = np.full((SIDE, SIDE), -1, np.int16), [], []
    for _ in range(rng.integers(2, 9)):
        label = int(rng.integers(len(GLYPHS)))
        mask = _glyph(label, rng)
        covered = np.where(mask > 127, len(labels), owner)
        seen = [int((covered == index).sum()) for index in range(len(labels) + 1)]
        if all(pixels >= 0.7 * area for pixels, area in zip(seen, [*areas, int((mask > 127).sum())], strict=True)):
            alpha = mask[..., None].astype(np.float32) / 255
            image += alpha * (rng.uniform(0, 255, 3).astype(np.float32) - image)
            owner = covered
            labels.append(label)
            areas.append(int((mask > 127).sum()))
    boxes = []
    for index in range(len(labels)):
        rows, columns = np.nonzero(owner == index)
        left, top = int(columns.min()), int(rows.min())
        boxes.append([left, top, int(columns.max()) + 1 - left, int(rows.max()) + 1 - top])
    image += rng.normal(0, rng.uniform(0, 12), image.shape)
    return np.clip(image, 0, 255).astype(np.uint8), labels, boxes


def _glyph(label: int, rng: np.random.Generator) -> np.ndarray:
    """Return a (SIDE, SIDE) uint8 mask of a glyph 14 to 64 pixels high, rotated by up to 20 degrees, wholly inside."""
    font, height = FONTS[rng.integers(len(FONTS))], 14 * (64 / 14) ** rng.random()
    thickness = max(1, round(height * rng.uniform(0.06, 0.16)))
    scale = cv2.getFontScaleFromHeight(font, round(height), thickness)
    (width, tall), _ = cv2.getTextSize(GLYPHS[label], font, scale, thickness)
    mask = np.zeros((SIDE, SIDE), np.uint8)
    cv2.putText(
        mask, GLYPHS[label], ((SIDE - width) // 2, (SIDE + tall) // 2), font, scale, 255, thickness, cv2.LINE_AA
    )
    rotation = cv2.getRotationMatrix2D((SIDE / 2, SIDE / 2), rng.uniform(-20, 20), 1.0)
    mask = cv2.warpAffine(mask, rotation, (SIDE, SIDE))
    rows, columns = np.nonzero(mask)
    shift = [int(rng.integers(-side.min(), SIDE - side.max())) for side in (rows, columns)]
    return np.roll(mask, shift, (0, 1))


def one_class(document: dict, name: str, first: int | None) -> dict:
    """Return the `first` images (None: all) of a COCO-format document with their boxes of the class `name`.

    Raises:
        UserError: If the document has no such class.
    """
    categories = {category["name"]: category for category in document["categories"]}
    if name not in categories:
        raise UserError(
            f"--name: no class '{name}'{did_you_mean(name, categories)} (there are {', '.join(categories)})"
        )
    category = categories[name]
    images = document["images"][:first]
    image_ids = {image["id"] for image in images}
    boxes = [
        box for box in document["annotations"] if box["image_id"] in image_ids and box["category_id"] == category["id"]
    ]
    return {"images": images, "annotations": boxes, "categories": [category]}


def large_objects(document: dict) -> dict:
    """Return a COCO-format document where boxes above a twentieth of the image are one class, all others crowds."""
    sizes = {image["id"]: image["width"] * image["height"] for image in document["images"]}
    boxes = []
    for box in document["annotations"]:
        small = box["bbox"][2] * box["bbox"][3] <= _LARGE * sizes[box["image_id"]]
        boxes.append({**box, "category_id": 1, "iscrowd": int(bool(box.get("iscrowd")) or small)})
    return {"images": document["images"], "annotations": boxes, "categories": [{"id": 1, "name": "object"}]}


def draw_cutouts(source: str, out: Path, name: str, count: int) -> None:
    """Write `count` training images and half as many for validation, of cutouts of each split of a COCO data YAML."""
    paths = {}
    for index, (split, (images, annotations)) in enumerate(_coco_splits(source).items()):
        document = json.loads(annotations.read_text(encoding="utf-8"))
        folder, file = out / "images" / split, out / f"{split}.json"
        number = count if split == "train" else count // 2
        _write(file, paste_cutouts(document, images, folder, name=name, count=number, seed=index))
        paths[split] = (folder, file)
    _describe(out, paths)


def derive(source: str, out: Path, change: Callable[[str, dict], dict]) -> None:
    """Write `change(split, document)` of train and val of a COCO-format data YAML; the images stay where they are.

    Raises:
        UserError: If a split is not a COCO file with a folder of images.
    """
    paths = {}
    for split, (images, annotations) in _coco_splits(source).items():
        _write(out / f"{split}.json", change(split, json.loads(annotations.read_text(encoding="utf-8"))))
        paths[split] = (images, out / f"{split}.json")
    _describe(out, paths)


def _coco_splits(source: str) -> dict[str, tuple[Path, Path]]:
    """Return the image folder and the annotation file of train and val of a COCO-format data YAML."""
    config, splits = load_data_config(source), {}
    for split in ("train", "val"):
        if not isinstance(config.splits.get(split), dict):
            raise UserError(
                f"{config.path}: {split}: expected {{images, annotations}}, a COCO file and its folder of images"
            )
        images, annotations = (config.root / config.splits[split][key] for key in ("images", "annotations"))
        splits[split] = (images, annotations)
    return splits


def _write(path: Path, document: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document), encoding="utf-8")


def _describe(out: Path, splits: dict[str, tuple[Path, Path]]) -> None:
    """Write `out`/data.yaml with the image folder and the annotations of each split."""
    entries = {
        split: {"images": str(images.absolute()), "annotations": str(file.absolute())}
        for split, (images, file) in splits.items()
    }
    (out / "data.yaml").write_text(yaml.safe_dump(entries), encoding="utf-8")


def main() -> None:
    """Write the dataset that the command line names."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.recipe.datasets", description=__doc__.split(":", 1)[0] + "."
    )
    parser.add_argument("dataset", choices=("glyphs", "class", "objects", "cutouts"))
    parser.add_argument("--out", type=Path, required=True, help="folder of the new dataset")
    parser.add_argument("--count", type=int, default=12000, help="glyphs, cutouts: number of training images")
    parser.add_argument("--data", default="bccd.yaml", help="class, objects, cutouts: data YAML in COCO format")
    parser.add_argument("--name", default="Platelets", help="class, cutouts: name of the class")
    parser.add_argument("--first", type=int, default=160, help="class: number of training images; val is complete")
    args = parser.parse_args()
    if args.dataset == "glyphs":
        draw_glyphs(args.out, args.count)
    elif args.dataset == "cutouts":
        draw_cutouts(args.data, args.out, args.name, args.count)
    elif args.dataset == "class":
        derive(
            args.data,
            args.out,
            lambda split, document: one_class(document, args.name, args.first if split == "train" else None),
        )
    else:
        derive(args.data, args.out, lambda _, document: large_objects(document))
    print(f"train on it with: --data {args.out / 'data.yaml'}")


if __name__ == "__main__":
    cli.run(main)
