"""Writing a dataset into a new folder: in another format (`convert`) or with other splits (`data.tools.split`)."""

import logging
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import yaml

from graftdet.data.dataset_config import DataConfig, open_annotations
from graftdet.data.exif import rotate_boxes
from graftdet.data.formats.dataset_split import Split
from graftdet.data.formats.format import Writer
from graftdet.data.formats.reading_options import ReadingOptions
from graftdet.data.formats.sample import Sample
from graftdet.data.formats.sample_table import SampleTable
from graftdet.data.formats.validation import validate_samples
from graftdet.data.synthetic.drawn_images import DrawnImages
from graftdet.utils.boxes import xywh_to_xyxy, xyxy_to_xywh
from graftdet.utils.errors import UserError, did_you_mean
from graftdet.utils.images.header import ImageHeader
from graftdet.utils.images.io import image_header, write_image
from graftdet.utils.progress import track
from graftdet.utils.text import counted, valid_utf8

logger = logging.getLogger(__name__)
_DRAWING_INTERVAL = 10  # seconds between two reports while images are drawn

IMAGE_MODES = {
    "copy": shutil.copyfile,
    "link": os.link,
    "symlink": lambda source, target: os.symlink(os.path.abspath(source), target),
}
"""Value of `--images` -> function that copies or links an image into the new folder."""


@dataclass
class WrittenDataset:
    """A dataset that was written."""

    yaml: Path
    messages: list[str] = field(default_factory=list)  # counts, problems of the source, what was not written


def convert(config: DataConfig, to: str, out: str | Path, images: str = "copy") -> WrittenDataset:
    """Write all splits of a dataset in another format.

    Args:
        config: the data YAML of the source.
        to: coco, yolo or voc.
        out: a new folder, outside that of the source; it appears as a whole or not at all.
        images: 'copy', 'link' (hard links) or 'symlink'.

    Returns:
        The new dataset with a data YAML that can be loaded.

    Raises:
        UserError: if the folder is not empty, lies in that of the source, or cannot be written.
    """
    check_output(config, to, out, images)
    splits = {split: open_split_verified(config, split) for split in config.splits}
    first = next(iter(splits.values()))
    samples = {name: split.samples for name, split in splits.items()}
    drawings = {name: split.drawing for name, split in splits.items() if split.drawing}
    written = write_dataset(config, samples, first.names, first.category_ids, to, out, images, drawings)
    written.messages[:0] = [f"{name}: {line}" for name, split in splits.items() for line in split.problems.lines()]
    return written


def open_split_verified(config: DataConfig, split: str) -> Split:
    """Like `open_split`, but the header of every image is read, so that nothing relies on a declared size.

    Of a split whose images are drawn it returns all images of the first epoch.
    """
    source = open_annotations(config, split)
    if source.drawing:
        number, side = source.drawing.count, source.drawing.side
        logger.info(
            f"{split}: {counted(number, 'image')} of {side}x{side} pixels will be drawn; "
            "keys of the data YAML set how many"
        )
        samples = SampleTable.from_samples(track(source, number, f"{split}: objects", _DRAWING_INTERVAL))
        return Split(split, samples, source.names, source.category_ids, source.problems, source.drawing)
    samples = validate_samples(source, source.problems, f"{config.path}: {split}", every_header=True)
    return Split(split, samples, source.names, source.category_ids, source.problems)


def check_output(config: DataConfig, to: str, out: str | Path, images: str) -> None:
    """Check the arguments of `convert` before anything is read.

    Raises:
        UserError: if the dataset cannot be written like this.
    """
    find_writer(to)
    if images not in IMAGE_MODES:
        hint = did_you_mean(images, IMAGE_MODES)
        raise UserError(f"--images: unknown mode '{images}'{hint} (known: {', '.join(IMAGE_MODES)})")
    out, root = Path(out).expanduser().resolve(), config.root.resolve()
    if out == root or root in out.parents:
        raise UserError(f"--out {out}: is inside the folder of the dataset, {root}, where nothing is written")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"--out {out}: exists and is not empty, expected a new folder")


def find_writer(to: str) -> type[Writer]:
    """Return the writer of a format.

    Raises:
        UserError: if the format cannot be written.
    """
    from graftdet.data.formats import FORMATS

    known = [name for name in FORMATS if FORMATS[name].Writer]
    if to not in known:
        raise UserError(f"--to: cannot write the format '{to}'{did_you_mean(to, known)} (known: {', '.join(known)})")
    return FORMATS[to].Writer


def write_dataset(
    config: DataConfig,
    splits: Mapping[str, Sequence[Sample]],
    names: list[str],
    category_ids: list[int],
    to: str,
    out: str | Path,
    images: str,
    drawings: Mapping[str, DrawnImages] | None = None,
) -> WrittenDataset:
    """Write samples, their images and a data YAML into a new folder.

    Args:
        config: the data YAML of the source.
        splits: split -> validated samples.
        names: class index -> name.
        category_ids: class index -> category id.
        to: coco, yolo or voc.
        out: the new folder.
        images: 'copy', 'link' or 'symlink'.
        drawings: split -> its images, for splits whose images are drawn.

    Returns:
        The new dataset.

    Raises:
        UserError: if it cannot be written.
    """
    check_output(config, to, out, images)
    writer_class, out = find_writer(to), Path(out).expanduser().absolute()
    temporary = None
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
        writer = writer_class(temporary, names, category_ids)
        content = _write_splits(writer, splits, images, drawings or {})
        values = {"format": to, **content, "names": list(names)}
        if config.reading.depth != ReadingOptions.depth:
            values["depth"] = config.reading.depth
        text = yaml.safe_dump(values, allow_unicode=True, sort_keys=False)
        heading = f"# Written from {valid_utf8(config.path.name)}. Splits are relative to this file.\n"
        (temporary / "data.yaml").write_text(heading + text, encoding="utf-8")
        os.chmod(temporary, 0o755)
        if out.exists():
            out.rmdir()
        os.rename(temporary, out)
    except OSError as error:
        hint = "; try --images copy" if images != "copy" else ""
        raise UserError(f"{out}: cannot be written ({error.strerror or error}){hint}") from None
    finally:
        if temporary:
            shutil.rmtree(temporary, ignore_errors=True)
    messages = [_count_line(split, samples) for split, samples in splits.items()]
    messages += writer.problems.lines()
    if writer.NOT_WRITTEN:
        messages.append(f"not written by the {to} format: {writer.NOT_WRITTEN}")
    return WrittenDataset(out / "data.yaml", messages)


def _write_splits(
    writer: Writer, splits: Mapping[str, Sequence[Sample]], images: str, drawings: Mapping[str, DrawnImages]
) -> dict[str, object]:
    """Write images and annotations; return split -> value for the data YAML."""
    used_names: set[str] = set()
    content = {}
    for split, samples in splits.items():
        if split in drawings:
            progress = track(samples, len(samples), f"{split}: images drawn", _DRAWING_INTERVAL)
            paths = [_draw_image(writer, split, sample, drawings[split]) for sample in progress]
        else:
            progress = track(samples, len(samples), split)
            paths = [_write_image(writer, split, sample, used_names, images) for sample in progress]
        if writer.REQUIRES_UPRIGHT:
            samples = [
                sample if sample.apply_exif else to_upright(sample, image_header(sample.path)) for sample in samples
            ]
        content[split] = writer.write_split(split, samples, paths)
    return content


def _write_image(writer: Writer, split: str, sample: Sample, used_names: set[str], images: str) -> Path:
    """Copy or link the image of a sample under a unique name; return its path."""
    stem = "".join("_" if character in "\r\n" else character for character in valid_utf8(sample.path.stem))
    suffix = valid_utf8(sample.path.suffix)
    path, number = None, 1
    while path is None or str(path.with_suffix("")).lower() in used_names:  # one XML or txt per stem, for any suffix
        name = stem if number == 1 else f"{stem}_{number}"
        path, number = writer.image_path(split, f"{name}{suffix}"), number + 1
    used_names.add(str(path.with_suffix("")).lower())
    path.parent.mkdir(parents=True, exist_ok=True)
    IMAGE_MODES[images](sample.path, path)
    return path


def _draw_image(writer: Writer, split: str, sample: Sample, drawing: DrawnImages) -> Path:
    """Draw the image of a sample into its file, whose path is returned; the id of the sample is the number to draw."""
    path = writer.image_path(split, sample.path.name)
    write_image(path, drawing.draw(int(sample.image_id)).image)
    return path


def to_upright(sample: Sample, header: ImageHeader) -> Sample:
    """Return a validated sample with its boxes on the image as rotated by EXIF, for formats that require it."""
    if sample.apply_exif:
        return sample
    boxes = rotate_boxes(sample.boxes.astype(np.float64), sample.width, sample.height, header.orientation)
    corners = rotate_boxes(xywh_to_xyxy(sample.source_boxes), sample.width, sample.height, header.orientation)
    size = (sample.height, sample.width) if header.orientation >= 5 else (sample.width, sample.height)
    return replace(
        sample,
        boxes=boxes.astype(np.float32),
        source_boxes=xyxy_to_xywh(corners),
        width=size[0],
        height=size[1],
        apply_exif=True,
    )


def _count_line(split: str, samples: Sequence[Sample]) -> str:
    crowds = sum(int(sample.crowd.sum()) for sample in samples)
    boxes = sum(len(sample.boxes) for sample in samples) - crowds
    return f"{split}: {counted(len(samples), 'image')}, {counted(boxes, 'box')}, {counted(crowds, 'crowd region')}"
