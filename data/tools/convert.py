"""Writing a data set anew: in another format (`convert`), or with other splits (`graftdet.data.tools.split`)."""

import os
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from graftdet.data.config import DataConfig, open_source
from graftdet.data.exif import upright
from graftdet.data.formats.base import Split, Writer
from graftdet.data.formats.sample import Sample
from graftdet.data.formats.validation import settle_all
from graftdet.utils.errors import UserError, did_you_mean
from graftdet.utils.images.io import image_header
from graftdet.utils.progress import track
from graftdet.utils.text import valid_utf8

_PLACE = {
    "copy": shutil.copyfile,
    "link": os.link,
    "symlink": lambda source, to: os.symlink(os.path.abspath(source), to),
}


@dataclass
class Written:
    """A data set that was written: its YAML, and what there is to say of it."""

    yaml: Path
    lines: list[str] = field(default_factory=list)


def convert(config: DataConfig, to: str, out: str | Path, pictures: str = "copy") -> Written:
    """Write every split of a data set in the format `to` into the new folder `out`, with a data YAML that loads.

    `pictures`: 'copy', 'link' (hard links) or 'symlink'. Raises `UserError` when `out` is not empty or lies in the
    source's folder; `out` appears whole or not at all.
    """
    prepare(config, to, out, pictures)
    splits = {split: open_exactly(config, split) for split in config.splits}
    first = next(iter(splits.values()))
    samples = {name: split.samples for name, split in splits.items()}
    written = write_data_set(config, samples, first.names, first.category_ids, to, out, pictures)
    written.lines[:0] = [f"{name}: {line}" for name, split in splits.items() for line in split.problems.lines()]
    return written


def open_exactly(config: DataConfig, split: str) -> Split:
    """`open_split` with the header of every picture read: nothing that is written rests on a declared size."""
    source = open_source(config, split)
    samples = settle_all(source, source.problems, f"{config.path}: {split}", every_header=True)
    return Split(split, samples, source.names, source.category_ids, source.problems)


def prepare(config: DataConfig, to: str, out: str | Path, pictures: str) -> None:
    """Check, before anything is read, that the data set can be written so. Raises `UserError`."""
    writers(to)
    if pictures not in _PLACE:
        hint = did_you_mean(pictures, _PLACE)
        raise UserError(f"--pictures: unknown way '{pictures}'{hint} (known: {', '.join(_PLACE)})")
    out, root = Path(out).expanduser().resolve(), config.root.resolve()
    if out == root or root in out.parents:
        raise UserError(f"--out {out}: lies in the data set's own folder {root}, into which nothing is written")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"--out {out}: is there already and not empty, expected a new folder")


def writers(to: str) -> type[Writer]:
    """The writer of a format. Raises `UserError` with the nearest format that has one."""
    from graftdet.data.formats import FORMATS

    known = [word for word in FORMATS if FORMATS[word].Writer]
    if to not in known:
        raise UserError(f"--to: cannot write the format '{to}'{did_you_mean(to, known)} (known: {', '.join(known)})")
    return FORMATS[to].Writer


def write_data_set(
    config: DataConfig,
    splits: dict[str, list[Sample]],
    names: list[str],
    category_ids: list[int],
    to: str,
    out,
    pictures: str,
) -> Written:
    """Write the samples of each split, their pictures and a data YAML into the new folder `out`."""
    prepare(config, to, out, pictures)
    kind, out = writers(to), Path(out).expanduser().absolute()
    temporary = None
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
        writer = kind(temporary, names, category_ids)
        taken: set = set()
        content = {"format": to}
        for split, samples in splits.items():
            placed = [_place(writer, split, s, taken, pictures) for s in track(samples, len(samples), split)]
            if kind.UPRIGHT:
                samples = [s if s.apply_exif else upright(s, image_header(s.path)) for s in samples]
            content[split] = writer.write_split(split, samples, placed)
        text = yaml.safe_dump({**content, "names": list(names)}, allow_unicode=True, sort_keys=False)
        heading = f"# Written from {valid_utf8(config.path.name)}. Splits are relative to this file.\n"
        (temporary / "data.yaml").write_text(heading + text, encoding="utf-8")
        os.chmod(temporary, 0o755)
        if out.exists():
            out.rmdir()
        os.rename(temporary, out)
    except OSError as error:
        hint = "; try --pictures copy" if pictures != "copy" else ""
        raise UserError(f"{out}: cannot be written ({error.strerror or error}){hint}") from None
    finally:
        if temporary:
            shutil.rmtree(temporary, ignore_errors=True)
    lines = [_line(split, samples) for split, samples in splits.items()]
    lines += writer.problems.lines()
    if kind.CANNOT_CARRY:
        lines.append(f"not carried by {to}: {kind.CANNOT_CARRY}")
    return Written(out / "data.yaml", lines)


def _line(split: str, samples: list[Sample]) -> str:
    crowds = sum(int(sample.crowd.sum()) for sample in samples)
    boxes = sum(len(sample.boxes) for sample in samples) - crowds
    return f"{split}: {len(samples)} pictures, {boxes} boxes, {crowds} crowd regions"


def _place(writer: Writer, split: str, sample: Sample, taken: set, pictures: str) -> Path:
    """Copy or link the picture of a sample to where the writer wants it, under a name that no other has."""
    stem, suffix = (
        "".join("_" if c in "\r\n" else c for c in valid_utf8(sample.path.stem)),
        valid_utf8(sample.path.suffix),
    )
    place, number = None, 1
    while place is None or str(place.with_suffix("")).lower() in taken:  # one XML or txt a stem, whatever the suffix
        name = stem if number == 1 else f"{stem}_{number}"
        place, number = writer.picture_path(split, f"{name}{suffix}"), number + 1
    taken.add(str(place.with_suffix("")).lower())
    place.parent.mkdir(parents=True, exist_ok=True)
    _PLACE[pictures](sample.path, place)
    return place
