"""Dividing the images of a dataset into train, val and test."""

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np

from graftdet.data.dataset_config import DataConfig, open_annotations
from graftdet.data.formats.dataset_split import Split
from graftdet.data.formats.format import SPLIT_NAMES
from graftdet.data.formats.sample import Sample
from graftdet.data.tools.audit import file_digest
from graftdet.data.tools.convert import WrittenDataset, check_output, open_split_verified, write_dataset
from graftdet.utils.errors import UserError
from graftdet.utils.text import counted


def split_dataset(
    config: DataConfig,
    ratios: list[float],
    out: str | Path,
    seed: int = 0,
    to: str | None = None,
    images: str = "copy",
) -> WrittenDataset:
    """Pool all splits of a dataset and write them into a new folder as train, val and test.

    Each class is divided by the same ratios, as far as whole images allow. Images of equal content stay in one split.
    The same seed gives the same splits.

    Args:
        config: the data YAML of the source.
        ratios: fractions of train, val and test; they add up to 1.
        out: a new folder, outside that of the source.
        seed: seed of the random order.
        to: coco, yolo or voc (default: the format of the source, or coco if that cannot be written).
        images: 'copy', 'link' (hard links) or 'symlink'.

    Returns:
        The new dataset.

    Raises:
        UserError: for ratios that do not add up to 1, fewer images than splits, and the errors of `convert`.
    """
    from graftdet.data.formats import FORMATS

    fractions = check_ratios(ratios)
    if open_annotations(config, next(iter(config.splits))).drawing:
        raise UserError(
            f"{config.path}: its images are drawn, there are no files to divide; choose epoch_length and val_images, "
            "or write files first (python -m data convert)"
        )
    to = to or (config.format if FORMATS[config.format].Writer else "coco")
    check_output(config, to, out, images)
    opened = [open_split_verified(config, split) for split in config.splits]
    names, category_ids = opened[0].names, opened[0].category_ids
    samples = _pool(opened)
    groups = group_by_content(samples)
    if len(groups) < len(fractions):
        raise UserError(f"{config.path}: {counted(len(groups), 'different image')} cannot fill {len(fractions)} splits")
    counts = np.stack([sum(_class_counts(samples[i], len(names)) for i in group) for group in groups])
    sizes = np.array([len(group) for group in groups])
    assigned = stratify(counts, sizes, np.array(list(fractions.values())), np.random.default_rng(abs(seed)))
    splits: dict[str, list[Sample]] = {}
    for number, name in enumerate(fractions):
        members = sorted(i for group, split in zip(groups, assigned, strict=True) if split == number for i in group)
        splits[name] = [samples[i] for i in members]
    return write_dataset(config, splits, names, category_ids, to, out, images)


def check_ratios(ratios: list[float]) -> dict[str, float]:
    """Return split -> fraction, without splits of fraction 0.

    Args:
        ratios: fractions of train, val and test.

    Raises:
        UserError: if they are not fractions or do not add up to 1.
    """
    given = " ".join(f"{ratio:g}" for ratio in ratios)
    if not 1 <= len(ratios) <= 3 or any(not 0 <= ratio <= 1 for ratio in ratios):
        raise UserError(f"--ratios: expected up to three fractions from 0 to 1 for train, val and test, got {given}")
    if not math.isclose(sum(ratios), 1, abs_tol=1e-6):
        raise UserError(f"--ratios: {given} add up to {sum(ratios):g}, expected 1")
    return {name: ratio for name, ratio in zip(SPLIT_NAMES, ratios, strict=False) if ratio > 0}


def _pool(splits: Sequence[Split]) -> list[Sample]:
    """The samples of all splits, each image once, with new image ids if those of two splits collide."""
    pool = list({sample.path.resolve(): sample for split in splits for sample in split.samples}.values())
    if len({sample.image_id for sample in pool}) < len(pool):
        pool = [replace(sample, image_id=number) for number, sample in enumerate(pool, 1)]
    return pool


def group_by_content(samples: list[Sample]) -> list[list[int]]:
    """Return groups of indices of samples with equal image files, in the order of the first of each group."""
    groups: dict[str, list[int]] = {}
    with ThreadPoolExecutor(8) as pool:
        for index, digest in enumerate(pool.map(file_digest, [sample.path for sample in samples])):
            groups.setdefault(digest, []).append(index)
    return list(groups.values())


def _class_counts(sample: Sample, num_classes: int) -> np.ndarray:
    return np.bincount(sample.labels[~sample.crowd], minlength=num_classes)


def stratify(counts: np.ndarray, sizes: np.ndarray, fractions: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Assign groups of images to splits by iterative stratification.

    Sechidis, Tsoumakas, Vlahavas: On the Stratification of Multi-Label Data, 2011: the rarest remaining class is
    assigned first, each group to the split that lacks most of it, then to the one that lacks most images. Every split
    gets at least one group.

    Args:
        counts: (n, nc) boxes per group and class.
        sizes: (n,) images per group.
        fractions: (s,) fraction of each split.
        rng: decides the order of the groups.

    Returns:
        (n,) index of the split of each group.
    """
    assigned = np.full(len(sizes), -1)
    missing_boxes = fractions[:, None] * counts.sum(0)  # (s, nc)
    missing_images = fractions * sizes.sum()  # (s,)
    order = rng.permutation(len(sizes))

    def assign(group: int, split: int) -> None:
        assigned[group] = split
        missing_boxes[split] -= counts[group]
        missing_images[split] -= sizes[group]

    while (remaining := order[assigned[order] < 0]).size:
        groups_with_class = (counts[remaining] > 0).sum(0)  # (nc,)
        if not groups_with_class.any():
            for group in remaining:
                assign(group, int(missing_images.argmax()))
            break
        rarest = int(np.where(groups_with_class > 0, groups_with_class, groups_with_class.max() + 1).argmin())
        for group in remaining[counts[remaining, rarest] > 0]:
            assign(group, int(np.lexsort((-missing_images, -missing_boxes[:, rarest]))[0]))
    for split in range(len(fractions)):
        if not (assigned == split).any():  # a small fraction of few images: take one from the largest split
            largest = np.bincount(assigned, minlength=len(fractions)).argmax()
            assigned[np.flatnonzero(assigned == largest)[-1]] = split
    return assigned
