"""Checkpoints: plain data, written whole or not at all, read without running anything that is in them.

A checkpoint is a dict: `format`, `version`; what the model is and how it is trained, `yaml` (the model's YAML as text),
`names`, `nc`, `options`, `hyperparameters`, `versions`; and the state of the run, `model` (state dict), `ema`,
`ema_updates`, `optimizer`, `scheduler`, `epoch`, `elapsed` (seconds), `best`, `stopping`, `class_ap`, and `helpers` where
something is trained beside the model (`graftdet.utils.training.run_state.RunState`). Of a finished run `ema`, `epoch` and `best` are left of
the state, without a `model`, and `finished` is True. Random generators begin anew each epoch: nothing of them is kept.
"""

import argparse
import dataclasses
import errno
import os
import types
import warnings
from pathlib import Path, PurePath

import numpy as np
import torch
from graftdet.utils.errors import UserError
from graftdet.utils.files import write_errors

FORMAT = "graftdet"
VERSION = 1


class ForeignCheckpoint(UserError):
    """A file that is no checkpoint of this project: another project's, pickled objects, torn, or no weights at all."""


def save_checkpoint(path: str | Path, content: dict) -> Path:
    """Write `content` to `path` and return it. A reader finds the old file or the new one, never half of one.

    Raises `UserError` when it cannot be written.
    """
    path = Path(path)
    plain = to_plain({"format": FORMAT, "version": VERSION, **content})
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    with write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(part, "wb") as file:
                torch.save(plain, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, path)
        except RuntimeError:  # what torch's writer of archives makes of a file that takes no more
            raise OSError(errno.ENOSPC, "the file ends too early; is the disk full?") from None
        finally:
            part.unlink(missing_ok=True)
    return path


def load_checkpoint(path: str | Path, device: str | torch.device = "cpu") -> dict:
    """Read a checkpoint, its tensors on `device`. Nothing in the file is executed (`weights_only=True`).

    Raises `ForeignCheckpoint` when it is none of this project's, `UserError` when it cannot be read.
    """
    path = Path(path)
    if not path.exists():
        raise UserError(f"{path}: no such file")
    if path.is_dir():
        raise UserError(f"{path}: is a folder, expected a checkpoint such as {path / 'weights' / 'best.pt'}")
    try:
        with open(path, "rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns of what it then refuses; one line is enough
            content = torch.load(file, map_location=device, weights_only=True)
    except Exception as error:  # torch raises whatever its unpickler trips over: the file decides, not our code
        if isinstance(error, OSError) and error.errno != errno.EINVAL:  # that one: a place before the file's start
            raise UserError(f"{path}: cannot be read ({error.strerror})") from None
        reason = (
            "holds Python objects, not plain data" if "weights" in str(error).lower() else "torn, or no weights at all"
        )
        raise ForeignCheckpoint(f"{path}: not a checkpoint of this project ({reason})") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ForeignCheckpoint(f"{path}: not a checkpoint of this project (it does not say '{FORMAT}')")
    if not isinstance(content.get("version"), int) or content["version"] > VERSION:
        raise UserError(
            f"{path}: written by a newer version (format {content.get('version')}, known {VERSION}); update"
        )
    return content


def to_plain(value):
    """Return `value` as dicts, lists, tuples, numbers, texts and tensors: all that `weights_only=True` reads back.

    Numpy numbers and arrays become numbers and lists, paths become text, dataclasses and namespaces become dicts.
    Raises `TypeError` for anything else.
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
