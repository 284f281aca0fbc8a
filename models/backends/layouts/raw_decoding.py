"""Decode the raw maps of a file exported with `--output raw`. NumPy only, no torch."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from graftdet.utils.text import counted

Maps = Sequence[np.ndarray]
"""(B, channels, H, W) arrays, one per level."""


class MalformedRaw(ValueError):
    """The metadata do not fit the maps; the message states what is wrong."""


def check_raw(raw: Any, levels: int) -> dict[str, Any]:
    """Check the metadata that describe raw maps.

    Args:
        raw: the parsed value of the metadata key `raw`.
        levels: number of outputs of the file.

    Returns:
        The same.

    Raises:
        MalformedRaw: something is missing or has another type.
    """
    strides = raw.get("strides") if isinstance(raw, dict) else None
    if not isinstance(strides, list) or not all(isinstance(s, (int, float)) and s > 0 for s in strides):
        raise MalformedRaw("its metadata 'raw' are missing or malformed")
    if raw.get("decoder") not in DECODERS:
        raise MalformedRaw(f"its raw outputs need decoder '{raw.get('decoder')}'; expected {', '.join(DECODERS)}")
    if len(strides) != levels:
        raise MalformedRaw(
            f"it has {counted(levels, 'output')}, but its metadata name {counted(len(strides), 'level')}"
        )
    return raw


def decode_raw(maps: Maps, raw: Mapping[str, Any], nc: int) -> np.ndarray:
    """Decode raw maps.

    Args:
        maps: the outputs of the file, (B, channels, H, W); with the layout "cells" (B, A, H W, 5 + nc).
        raw: the metadata, as `check_raw` returns them, with "sizes", (H, W) per level, for the layout "cells".
        nc: number of classes.

    Returns:
        (B, N, 4 + nc): x1, y1, x2, y2 in pixels of the input, scores of the classes.

    Raises:
        MalformedRaw: the maps have another number of channels.
    """
    try:
        levels = [
            DECODERS[raw["decoder"]](y.astype(np.float32, copy=False), raw, level, nc) for level, y in enumerate(maps)
        ]
    except (KeyError, IndexError, TypeError, ValueError) as error:
        shapes = ", ".join(str(y.shape) for y in maps)
        raise MalformedRaw(f"its outputs {shapes} do not fit its metadata ({error})") from None
    return np.concatenate([np.concatenate(level, -1) for level in levels], 1)


def _anchors(y, raw, level, nc):
    """As the head `Detect`: (B, A (5 + nc), H, W)."""
    anchors, stride = np.asarray(raw["anchors"][level], np.float32), raw["strides"][level]
    y = _sigmoid(_cells_last(y, len(anchors), 5 + nc))  # (B, A, H, W, 5 + nc)
    low = _corners(y.shape[2:4]) - 0.5
    center, sides = (2 * y[..., :2] + low) * stride, (2 * y[..., 2:4]) ** 2 * anchors[:, None, None]
    return _flat(_boxes(center, sides)), _flat(y[..., 4:5] * y[..., 5:])


def _distances(y, raw, level, nc):
    """As anchor-free heads: (B, 4 reg_max + nc, H, W)."""
    reg_max, stride = raw["reg_max"], raw["strides"][level]
    y = _cells_last(y, 1, 4 * reg_max + nc)
    bins = y[..., : 4 * reg_max].reshape(*y.shape[:-1], 4, reg_max)
    weights = np.exp(bins - bins.max(-1, keepdims=True))
    means = weights @ np.arange(reg_max, dtype=np.float32) / weights.sum(-1)
    distances = means if reg_max > 1 else bins[..., 0]  # without distributions the distances themselves
    center = _corners(y.shape[2:4]) + raw.get("point_offset", 0.5)
    boxes = np.concatenate((center - distances[..., :2], center + distances[..., 2:]), -1) * stride
    return _flat(boxes), _flat(_sigmoid(y[..., 4 * reg_max :]))


def _corner_offsets(y, raw, level, nc):
    """As the head `DetectX`: (B, 5 + nc, H, W)."""
    stride = raw["strides"][level]
    y = _cells_last(y, 1, 5 + nc)
    boxes = _boxes(y[..., :2] + _corners(y.shape[2:4]), np.exp(y[..., 2:4])) * stride
    return _flat(boxes), _flat(_sigmoid(y[..., 4:5]) * _sigmoid(y[..., 5:]))


def _center_offsets(y, raw, level, nc):
    """As `BlazeFaceHead`: (B, A (4 + nc), H, W)."""
    y = _cells_last(y, raw["boxes"][level], 4 + nc)
    center = (_corners(y.shape[2:4]) + 0.5) * raw["strides"][level]
    return _flat(_boxes(y[..., :2] + center, y[..., 2:4])), _flat(_sigmoid(y[..., 4:]))


DECODERS: dict[str, Callable] = {
    "anchors": _anchors,
    "distances": _distances,
    "corner-offsets": _corner_offsets,
    "center-offsets": _center_offsets,
}
"""Decoder -> `decode(map, raw, level, nc)`, which returns boxes (B, n, 4) and scores (B, n, nc)."""


def _cells_last(y, anchors, channels):
    """(B, A channels, H, W) -> (B, A, H, W, channels)."""
    batch, found, height, width = y.shape
    if found != anchors * channels:
        raise ValueError(f"{found} channels, expected {anchors * channels}")
    return y.reshape(batch, anchors, channels, height, width).transpose(0, 1, 3, 4, 2)


def _corners(size):
    """x, y of the top left corner of each cell, (H, W, 2) in cells."""
    y, x = np.meshgrid(np.arange(size[0]), np.arange(size[1]), indexing="ij")
    return np.stack((x, y), -1).astype(np.float32)


def _boxes(center, sides):
    return np.concatenate((center - sides / 2, center + sides / 2), -1)


def _flat(y):
    """(B, A, H, W, k) -> (B, A H W, k)."""
    return y.reshape(y.shape[0], -1, y.shape[-1])


def _sigmoid(y):
    return 1 / (1 + np.exp(-y.clip(-80, 80)))
