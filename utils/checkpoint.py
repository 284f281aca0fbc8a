"""Checkpoints: plain data, written completely or not at all, read without executing anything in them.

A checkpoint is a dict with

- `format`, `version`;
- the model and the recipe: `yaml` (the model's YAML as text), `names`, `nc`, `options`, `hyperparameters`, `versions`;
- the state of the run (`graftdet.utils.training.run_state.RunState`): `model` (state dict), `ema`, `ema_updates`,
  `optimizer`, `scheduler`, `epoch`, `elapsed` [s], `best`, `stopping`, `class_ap`, `transferred` (names of tensors that
  came from the initial weights), and `helpers` where modules are trained beside the model.

Once a run is finished, only `ema`, `epoch` and `best` remain of its state, and `finished` is True. Random generators
are seeded in each epoch, so their state is not saved.
"""

import argparse
import dataclasses
import errno
import pickle
import types
import warnings
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import torch

from graftdet.utils.errors import UserError, missing_weights
from graftdet.utils.files import atomic_file, refuse_lfs_pointer

FORMAT = "graftdet"
VERSION = 1


class ForeignCheckpoint(UserError):
    """A file that is not a checkpoint of this project: another project's, pickled objects, truncated, or no weights."""


def save_checkpoint(path: str | Path, content: dict) -> Path:
    """Write `content` to `path` and return it. Readers find the old file or the new one, never an incomplete one.

    Raises:
        UserError: If it cannot be written.
    """
    path = Path(path)
    plain = to_plain({"format": FORMAT, "version": VERSION, **content})
    with atomic_file(path, sync=True) as file:
        try:
            torch.save(plain, file)
        except RuntimeError:  # raised by torch's archive writer if the file cannot grow
            raise OSError(errno.ENOSPC, "the file ends too early; is the disk full?") from None
    return path


def load_checkpoint(path: str | Path, device: str | torch.device = "cpu") -> dict:
    """Read a checkpoint with its tensors on `device`. Nothing in the file is executed (`weights_only=True`).

    Raises:
        ForeignCheckpoint: If it is not a checkpoint of this project.
        UserError: If it cannot be read.
    """
    path = Path(path)
    if not path.exists():
        raise missing_weights(path)
    if path.is_dir():
        raise UserError(f"{path}: is a folder, expected a checkpoint such as {path / 'weights' / 'best.pt'}")
    try:
        with open(path, "rb") as file, warnings.catch_warnings():
            refuse_lfs_pointer(path, file.read(64))
            file.seek(0)
            warnings.simplefilter("ignore")  # torch warns about what it then refuses; one message is enough
            content = torch.load(file, map_location=device, weights_only=True)
    except UserError:
        raise
    except Exception as error:  # the content of the file decides which error its unpickler raises
        if isinstance(error, OSError) and error.errno != errno.EINVAL:  # EINVAL: a seek before a truncated file's start
            raise UserError(f"{path}: cannot be read ({error.strerror})") from None
        refused = isinstance(error, pickle.UnpicklingError)
        reason = "holds Python objects, not plain data" if refused else "truncated, or not a weights file"
        raise ForeignCheckpoint(f"{path}: not a checkpoint of this project ({reason})") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ForeignCheckpoint(f"{path}: not a checkpoint of this project (its format is not '{FORMAT}')")
    if not isinstance(content.get("version"), int) or content["version"] > VERSION:
        raise UserError(
            f"{path}: written by a newer version (format {content.get('version')}, known {VERSION}); update"
        )
    return content


def to_plain(value: Any) -> Any:
    """Convert `value` to dicts, lists, tuples, numbers, strings and tensors, which `weights_only=True` can read.

    NumPy numbers and arrays become numbers and lists, paths become strings, dataclasses and namespaces become dicts.

    Raises:
        TypeError: For anything else.
    """
    if value is None or type(value) in (bool, int, float, str, bytes):
        return value
    if isinstance(value, torch.Tensor):
        return value.detach()
    if isinstance(value, dict):  # state dicts are OrderedDicts with an attribute: make them plain
        return {to_plain(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return tuple(to_plain(item) for item in value)
    if isinstance(value, (list, set, frozenset)):
        return [to_plain(item) for item in (value if isinstance(value, list) else sorted(value))]
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    if isinstance(value, (PurePath, torch.device, torch.dtype)):
        return str(value)
    for kind in (bool, int, float, str):  # subclasses, such as IntEnum
        if isinstance(value, kind):
            return kind(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return to_plain(dataclasses.asdict(value))
    if isinstance(value, (argparse.Namespace, types.SimpleNamespace)):
        return to_plain(vars(value))
    raise TypeError(f"a checkpoint holds plain data, got a {type(value).__name__}")
