"""Dividing the pictures of a data set into train, val and test."""

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
from graftdet.data.config import SPLITS, DataConfig
from graftdet.data.formats.sample import Sample
from graftdet.data.tools.convert import Written, open_exactly, prepare, write_data_set
from graftdet.utils.errors import UserError


def divide(
    config: DataConfig,
    ratios: list[float],
    out: str | Path,
    seed: int = 0,
    to: str | None = None,
    pictures: str = "copy",
) -> Written:
    """Pool all splits of a data set and write them anew as train, val and test with these shares into folder `out`.

    Each class is spread by the same shares, as far as whole pictures allow; pictures of the same content stay in one
    split; the same seed gives the same division. Raises `UserError` for shares that do not add up to 1, fewer pictures
    than splits, and what `convert` refuses.
    """
    shares = check_ratios(ratios)
    to = to or ("coco" if config.format == "shapes" else config.format)
    prepare(config, to, out, pictures)
    opened = [open_exactly(config, split) for split in config.splits]
    samples = _pool(opened)
    groups = group_by_content(samples)
    if len(groups) < len(shares):
        raise UserError(f"{config.path}: {len(groups)} different pictures cannot fill {len(shares)} splits")
    counts = np.stack([sum(_class_counts(samples[i], len(opened[0].names)) for i in group) for group in groups])
    sizes = np.array([len(group) for group in groups])
    chosen = stratify(counts, sizes, np.array(list(shares.values())), np.random.default_rng(abs(seed)))
    splits: dict[str, list[Sample]] = {}
    for number, name in enumerate(shares):
        members = sorted(i for group, split in zip(groups, chosen) if split == number for i in group)
        splits[name] = [samples[i] for i in members]
    return write_data_set(config, splits, opened[0].names, opened[0].category_ids, to, out, pictures)


def check_ratios(ratios: list[float]) -> dict[str, float]:
    """Return split -> share, without those of share 0. Raises `UserError` when they do not add up to 1."""
    got = " ".join(f"{ratio:g}" for ratio in ratios)
    if not 1 <= len(ratios) <= 3 or any(not 0 <= ratio <= 1 for ratio in ratios):
        raise UserError(f"--ratios: expected up to three shares from 0 to 1 for train, val and test, got {got}")
    if not math.isclose(sum(ratios), 1, abs_tol=1e-6):
        raise UserError(f"--ratios: {got} add up to {sum(ratios):g}, expected 1")
    return {name: ratio for name, ratio in zip(SPLITS, ratios) if ratio > 0}


def _pool(opened) -> list[Sample]:
    """The samples of all splits, each picture once, with new image ids where those of two splits collide."""
    pool = list({sample.path.resolve(): sample for split in opened for sample in split.samples}.values())
    if len({sample.image_id for sample in pool}) < len(pool):
        pool = [replace(sample, image_id=number) for number, sample in enumerate(pool, 1)]
    return pool


def group_by_content(samples: list[Sample]) -> list[list[int]]:
    """Groups of indices of samples whose picture files are equal, in the order of the first of each."""
    from graftdet.data.tools.audit import digest

    groups: dict[str, list[int]] = {}
    with ThreadPoolExecutor(8) as pool:
        for index, name in enumerate(pool.map(digest, [sample.path for sample in samples])):
            groups.setdefault(name, []).append(index)
    return list(groups.values())


def _class_counts(sample: Sample, classes: int) -> np.ndarray:
    return np.bincount(sample.labels[~sample.crowd], minlength=classes)


def stratify(counts: np.ndarray, sizes: np.ndarray, shares: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the split (n,) of each of n groups with class counts (n, nc) and sizes (n,), for shares (s,).

    Iterative stratification (Sechidis, Tsoumakas, Vlahavas: On the Stratification of Multi-Label Data, 2011): the
    rarest class that is left is dealt out first, each group to the split that lacks most of it, then to the one that
    lacks most pictures. Every split gets at least one group.
    """
    chosen = np.full(len(sizes), -1)
    lacking = shares[:, None] * counts.sum(0)  # (s, nc) boxes
    room = shares * sizes.sum()  # (s,) pictures
    order = rng.permutation(len(sizes))

    def give(group: int, split: int) -> None:
        chosen[group] = split
        lacking[split] -= counts[group]
        room[split] -= sizes[group]

    while (left := order[chosen[order] < 0]).size:
        holders = (counts[left] > 0).sum(0)  # (nc,) groups that are left and show the class
        if not holders.any():
            for group in left:
                give(group, int(room.argmax()))
            break
        rarest = int(np.where(holders > 0, holders, holders.max() + 1).argmin())
        for group in left[counts[left, rarest] > 0]:
            give(group, int(np.lexsort((-room, -lacking[:, rarest]))[0]))
    for split in range(len(shares)):
        if not (chosen == split).any():  # a small share of few pictures: take one of the split that has most
            most = np.bincount(chosen, minlength=len(shares)).argmax()
            chosen[np.flatnonzero(chosen == most)[-1]] = split
    return chosen
