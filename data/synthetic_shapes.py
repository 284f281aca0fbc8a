"""The embedded data set: circles, squares and triangles, drawn on the spot from a seed, in COCO format.

A few hundred small pictures that a detector learns in minutes on a processor, so that every command has something to
work on without a download. Pictures vary in size, background, light and noise; shapes vary in size, tint and turn and
hide each other in part, and thin crosses of any colour, no objects, lie between them. Each class has a hue of its own:
what is to be shown here is that everything works, in little time.
"""

import json
import os
import shutil
import tempfile
from pathlib import Path

import cv2
import numpy as np
from graftdet.data.paths import datasets_dir
from graftdet.utils.errors import UserError
from graftdet.utils.files import cache_folder
from graftdet.utils.images.io import write_image

NAMES = ("circle", "square", "triangle")
VERSION = 2  # raise it when the same seed gives other pictures
SEED, COUNT = 0, 400  # count: pictures for training; a quarter of that each for validation and test
_MARKER = "shapes.json"
_SMALLEST, _LARGEST = 128, 208  # sides of the pictures, in pixels
_MOST_SHAPES = 4
_VISIBLE = 0.6  # share of a shape that must be seen, else it is taken back


def ensure_shapes() -> Path:
    """Return the folder of the data set, drawing it first where it is not there.

    It is `$DATASETS_DIR/shapes` where that holds the pictures of `SEED` and `COUNT`; else `datasets/shapes` in the
    working directory, or in the user's cache when that cannot be written or holds a drawing of another seed or count,
    which stays. Several processes may call this at once.
    """
    places = [datasets_dir() / "shapes", Path("datasets/shapes"), cache_folder() / "shapes"]
    for place in places:
        if _complete(place, SEED, COUNT):
            return place.absolute()
    errors = []
    for place in dict.fromkeys(places[1:]):
        marker = _read_marker(place)
        if marker and (marker.get("seed"), marker.get("count")) != (SEED, COUNT):
            errors.append(f"{place}: holds another drawing")
            continue
        try:
            return draw_shapes(place, SEED, COUNT).absolute()
        except UserError as error:
            errors.append(str(error))
    raise UserError("the shapes data set can be drawn nowhere: " + "; ".join(errors))


def draw_shapes(out: str | Path, seed: int = SEED, count: int = COUNT) -> Path:
    """Draw `count` training pictures and a quarter of that for val and test into the folder `out`; return it.

    The folder appears whole or not at all, in place of another drawing, and is left alone when it holds just this
    already. Raises `UserError` when it holds something else or can't be written.
    """
    out = Path(out)
    if count < 4:
        raise UserError(f"--count: expected at least 4 pictures, got {count}")
    if seed < 0:
        raise UserError(f"--seed: expected a number from 0 on, got {seed}")
    if _complete(out, seed, count):
        return out
    if out.exists() and not (out / _MARKER).is_file() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out}: exists and is not the drawn shapes data set; move it away or choose another folder")
    temporary = None
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=".shapes-", dir=out.parent))
        for index, (split, number) in enumerate((("train", count), ("val", count // 4), ("test", count // 4))):
            _draw_split(temporary, split, number, np.random.SeedSequence([seed, index]))
        (temporary / _MARKER).write_text(json.dumps(_marker(seed, count)), encoding="utf-8")
        os.chmod(temporary, 0o755)
        _move_into_place(temporary, out, seed, count)
    except OSError as error:
        raise UserError(f"{out}: cannot be written ({error.strerror or error})") from None
    finally:
        if temporary:
            shutil.rmtree(temporary, ignore_errors=True)
    return out


def _move_into_place(temporary: Path, out: Path, seed: int, count: int) -> None:
    """Rename `temporary` to `out`, in place of an older drawing; another process may have been faster."""
    for _ in range(5):
        try:
            os.rename(temporary, out)  # fails where there is something
            return
        except OSError as error:
            if _complete(out, seed, count):
                return
            if not out.exists():
                raise error
        old = Path(tempfile.mkdtemp(prefix=".shapes-", dir=out.parent))
        try:
            os.rename(out, old / "old")
            if _complete(old / "old", seed, count):  # it came between the two looks
                os.rename(old / "old", out)
        except OSError:  # gone, or taken, in the meantime: look again
            continue
        finally:
            shutil.rmtree(old, ignore_errors=True)
    os.rename(temporary, out)


def _marker(seed: int, count: int) -> dict:
    return {"data set": "shapes", "version": VERSION, "seed": seed, "count": count}


def _complete(folder: Path, seed: int, count: int) -> bool:
    return _read_marker(folder) == _marker(seed, count)


def _read_marker(folder: Path) -> dict | None:
    """What is drawn in `folder`; None when nothing says."""
    try:
        marker = json.loads((folder / _MARKER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return marker if isinstance(marker, dict) else None


def _draw_split(root: Path, split: str, number: int, seeds: np.random.SeedSequence) -> None:
    images, annotations = [], []
    for index, seed in enumerate(seeds.spawn(number), 1):
        image, labels, boxes, areas = draw_picture(np.random.default_rng(seed))
        name = f"{split}_{index:04d}.jpg"
        write_image(root / "images" / split / name, image)
        images.append({"id": index, "file_name": name, "width": image.shape[1], "height": image.shape[0]})
        for label, box, area in zip(labels, boxes, areas):
            annotation = {"id": len(annotations) + 1, "image_id": index, "category_id": label + 1, "bbox": box}
            annotations.append({**annotation, "area": area, "iscrowd": 0})
    categories = [{"id": number, "name": name} for number, name in enumerate(NAMES, 1)]
    document = {"images": images, "annotations": annotations, "categories": categories}
    target = root / "annotations" / f"instances_{split}.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(document), encoding="utf-8")


def draw_picture(rng: np.random.Generator) -> tuple[np.ndarray, list[int], list[list[float]], list[float]]:
    """Draw one picture: (H, W, 3) uint8 BGR, labels, boxes (xywh pixels, what can be seen of each), visible areas."""
    height, width = (int(side) for side in rng.integers(_SMALLEST, _LARGEST + 1, 2))
    image = _background(height, width, rng)
    for _ in range(rng.integers(0, 4)):
        _draw_cross(image, rng)
    owner = np.full((height, width), -1, np.int8)  # which shape each pixel shows
    labels, full_areas = [], []
    for _ in range(rng.integers(1, _MOST_SHAPES + 1)):
        label = int(rng.integers(len(NAMES)))
        mask = _shape_mask(label, height, width, rng)
        covered = np.where(mask > 127, len(labels), owner)
        seen = [int((covered == index).sum()) for index in range(len(labels) + 1)]
        if all(pixels >= _VISIBLE * full for pixels, full in zip(seen, [*full_areas, int((mask > 127).sum())])):
            _paint(image, mask, _class_colour(label, rng), rng)
            owner = covered
            labels.append(label)
            full_areas.append(int((mask > 127).sum()))
    boxes, areas = [], []
    for index in range(len(labels)):
        rows, columns = np.nonzero(owner == index)
        left, top = int(columns.min()), int(rows.min())
        boxes.append([left, top, int(columns.max()) + 1 - left, int(rows.max()) + 1 - top])
        areas.append(int(len(rows)))
    noise = rng.normal(0, rng.uniform(0, 8), image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8), labels, boxes, areas


def _background(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """(H, W, 3) float32: a slope between two near greys, a little tinted, with soft blotches."""
    base = rng.uniform(30, 225) + rng.uniform(-12, 12, 3)
    other = np.clip(base + rng.uniform(-40, 40) + rng.uniform(-8, 8, 3), 0, 255)
    angle = rng.uniform(0, 2 * np.pi)
    ys, xs = np.mgrid[0:height, 0:width].astype(np.float32)
    slope = xs / width * np.cos(angle) + ys / height * np.sin(angle)
    slope = (slope - slope.min()) / (slope.max() - slope.min())
    image = base + (other - base) * slope[..., None]
    blotches = np.repeat(rng.normal(0, 12, (6, 6, 1)), 3, 2).astype(np.float32)
    image = image + cv2.resize(blotches, (width, height), interpolation=cv2.INTER_CUBIC)
    return image.astype(np.float32)


def _draw_cross(image: np.ndarray, rng: np.random.Generator) -> None:
    """Draw a thin cross, which is no object, into `image`."""
    height, width = image.shape[:2]
    x, y, arm = int(rng.integers(width)), int(rng.integers(height)), int(rng.integers(5, 20))
    colour = rng.uniform(0, 255, 3).tolist()
    cv2.line(image, (x - arm, y), (x + arm, y), colour, 2)
    cv2.line(image, (x, y - arm), (x, y + arm), colour, 2)


def _shape_mask(label: int, height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """(H, W) uint8 mask with soft edges of a shape that lies in the picture."""
    radius = rng.uniform(0.14, 0.32) * min(height, width)
    x, y = rng.uniform(radius, width - radius), rng.uniform(radius, height - radius)
    turn = rng.uniform(0, 2 * np.pi) if label else 0.0
    return _mask(label, height, width, x, y, radius, turn)


def _mask(label: int, height: int, width: int, x: float, y: float, radius: float, turn: float) -> np.ndarray:
    """(H, W) uint8 mask of the shape in the circle of `radius` around (x, y), turned by `turn` radians."""
    mask = np.zeros((height, width), np.uint8)
    if label == 0:
        centre = (round(x * 16), round(y * 16))
        cv2.circle(mask, centre, round(radius * 16), 255, -1, cv2.LINE_AA, 4)
        return mask
    corners = 4 if label == 1 else 3
    angles = turn + np.arange(corners) * 2 * np.pi / corners
    points = np.stack([x + radius * np.cos(angles), y + radius * np.sin(angles)], 1)
    cv2.fillPoly(mask, [np.round(points * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
    return mask


def _class_colour(label: int, rng: np.random.Generator) -> np.ndarray:
    """A strong colour (3,) BGR near the hue of the class: form and colour both tell, so little training is enough."""
    hue = (60 * label + rng.uniform(-14, 14)) % 180  # OpenCV counts hue as 0..180
    pixel = np.array([[[hue, rng.uniform(150, 255), rng.uniform(120, 255)]]], np.uint8)
    return cv2.cvtColor(pixel, cv2.COLOR_HSV2BGR)[0, 0].astype(np.float64)


def _paint(image: np.ndarray, mask: np.ndarray, colour: np.ndarray, rng: np.random.Generator) -> None:
    """Blend a colour, shaded from one side to the other, into `image` where `mask` is."""
    height, width = mask.shape
    shade = np.linspace(-1, 1, width, dtype=np.float32)[None, :, None] * rng.uniform(-25, 25)
    alpha = mask[..., None].astype(np.float32) / 255
    image[:] = image * (1 - alpha) + (colour + shade).astype(np.float32) * alpha


def draw_video(path: str | Path, frames: int = 60, seed: int = SEED) -> Path:
    """Write a short video of one circle, square and triangle that move and turn; return where it is (see `VideoWriter`)."""
    from graftdet.utils.images.video import VideoWriter

    rng = np.random.default_rng([seed, 99])
    height, width = 192, 256
    still = _background(height, width, rng)
    radii, turns = rng.uniform(28, 44, 3), rng.uniform(-0.06, 0.06, 3)
    starts, speeds = rng.uniform(0, 1, (3, 2)), rng.uniform(0.008, 0.02, (3, 2))
    colours = [_class_colour(label, rng) for label in range(len(NAMES))]
    with VideoWriter(path) as writer:
        for frame in range(frames):
            image = still.copy()
            for label, radius in enumerate(radii):
                way = np.abs((starts[label] + frame * speeds[label]) % 2 - 1)  # to and fro between the edges
                x, y = radius + way * (np.array([width, height]) - 2 * radius)
                mask = _mask(label, height, width, x, y, radius, frame * turns[label])
                _paint(image, mask, colours[label], np.random.default_rng([seed, label]))
            writer.write(np.clip(image, 0, 255).astype(np.uint8))
    return writer.path
