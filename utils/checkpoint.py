"""Checkpoints: plain data, written completely or not at all, read without executing anything in them.

A checkpoint is a dict with

- `format`, `version`;
- the model and the recipe: `yaml` (the model's YAML as text), `names`, `nc`, `options`, `hyperparameters`, `versions`;
- the data: `dataset` (number of images and digest of each split), `manifest` (hashes of their images, while the run
  is not finished);
- the state of the run (`graftdet.utils.training.run_state.RunState`): `model` (state dict), `ema`, `ema_updates`,
  `optimizer`, `scheduler`, `epoch`, `elapsed` [s], `best`, `stopping`, `class_ap`, `transferred` (names of tensors that
  came from the initial weights), and `helpers` where modules are trained beside the model.

Once a run is finished, only `ema`, `epoch` and `best` remain of its state, and `finished` is True. Random generators
are seeded in each epoch, so their state is not saved.
"""

import argparse
import dataclasses
import errno
import logging
import os
import types
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import torch

from graftdet.utils.errors import UserError, missing_weights
from graftdet.utils.files import atomic_file, refuse_lfs_file
from graftdet.utils.processes.deferred_signals import signals_deferred
from graftdet.utils.untrusted.file_digest import DamagedFileError, append_digest, check_digest
from graftdet.utils.untrusted.schema import Field, check_fields
from graftdet.utils.untrusted.torch_archive import read_archive

logger = logging.getLogger(__name__)

FORMAT = "graftdet"
VERSION = 1
_NUMBER = (int, float)
_FIELDS = {
    "yaml": Field((str, dict)),
    "names": Field((list, tuple, type(None)), items=str),
    "nc": Field((int, type(None)), minimum=1),
    "options": Field(dict),
    "hyperparameters": Field(dict),
    "versions": Field(dict),
    "model": Field((dict, type(None))),
    "ema": Field((dict, type(None))),
    "helpers": Field(dict),
    "ema_updates": Field(int, minimum=0),
    "optimizer": Field(dict),
    "scheduler": Field(dict),
    "epoch": Field(int, minimum=0),
    "elapsed": Field(_NUMBER),
    "best": Field(_NUMBER),
    "stopping": Field(dict),
    "class_ap": Field(list, items=_NUMBER),
    "transferred": Field(list, items=str),
    "initial_weights": Field((str, type(None))),
    "recipe": Field((str, type(None))),
    "train_images": Field(int, minimum=0),
    "finished": Field(bool),
    "dataset": Field(dict),
    "manifest": Field(dict),
    "square_letterbox": Field(bool),
    "merged_batch_norms": Field(bool),
}


class ForeignCheckpoint(UserError):
    """A file that is not a checkpoint of this project: another project's, or no weights."""


class DamagedCheckpoint(UserError):
    """A checkpoint that is truncated, or was changed after it was written."""


def save_checkpoint(path: str | Path, content: dict, keep_previous: bool = False) -> Path:
    """Write `content` to `path` and return it. Readers find the old file or the new one, never an incomplete one.

    Args:
        path: The file.
        content: What `to_plain` converts.
        keep_previous: Keep the file that is replaced, as `previous_checkpoint(path)`.

    Raises:
        UserError: If it cannot be written.
    """
    path = Path(path)
    plain = to_plain({"format": FORMAT, "version": VERSION, **content})
    with signals_deferred(), atomic_file(path, sync=True) as file:
        try:
            torch.save(plain, file)
        except RuntimeError:  # raised by torch's archive writer if the file cannot grow
            raise OSError(errno.ENOSPC, "the file ends too early; is the disk full?") from None
        append_digest(file)
        if keep_previous and path.exists():
            _keep(path)
    return path


def previous_checkpoint(path: str | Path) -> Path:
    """Where `save_checkpoint` keeps the file that it replaces: `last.pt` -> `last.previous.pt`."""
    return Path(path).with_suffix(".previous.pt")


def _keep(path: Path) -> None:
    """Give the file its second name. `path` itself always exists where the file system has links."""
    previous = previous_checkpoint(path)
    temporary = previous.with_name(f".{previous.name}")
    temporary.unlink(missing_ok=True)
    try:
        os.link(path, temporary)
    except OSError:  # no hard links here
        os.replace(path, temporary)
    os.replace(temporary, previous)


def load_checkpoint(path: str | Path, device: str | torch.device = "cpu") -> dict:
    """Read a checkpoint with its tensors on `device`. Nothing in the file is executed.

    Raises:
        ForeignCheckpoint: If it is not a checkpoint of this project.
        DamagedCheckpoint: If it is damaged.
        UserError: If it cannot be read.
    """
    path = Path(path)
    content = read_weights_archive(path)
    if not is_checkpoint(content):
        raise ForeignCheckpoint(f"{path}: not a checkpoint of this project (its format is not '{FORMAT}')")
    return _on_device(check_checkpoint(content, path), torch.device(device))


def load_checkpoint_or_previous(path: str | Path) -> tuple[dict, Path]:
    """Read a checkpoint; where it is damaged, the one before it with a warning.

    Returns:
        The checkpoint and the file that it was read from.

    Raises:
        UserError: As `load_checkpoint`, if there is no earlier one or it is damaged as well.
    """
    path, previous = Path(path), previous_checkpoint(path)
    try:
        return load_checkpoint(path), path
    except UserError as error:
        if not previous.is_file():
            raise
        content = load_checkpoint(previous)
        logger.warning(f"{error}; using {previous} of epoch {content.get('epoch')} instead")
        return content, previous


def read_weights_archive(path: str | Path) -> Any:
    """Read the object in a `.pt` file of any program, as `read_archive`.

    Raises:
        UserError: If it is missing, no regular file, damaged, or asks for more than data.
    """
    path = Path(path)
    if not path.exists():
        raise missing_weights(path)
    if path.is_dir():
        raise UserError(f"{path}: is a folder, expected a checkpoint such as {path / 'weights' / 'best.pt'}")
    if not path.is_file():
        raise UserError(f"{path}: is not a regular file, expected a checkpoint")
    refuse_lfs_file(path)
    return read_archive(path)


def is_checkpoint(content: Any) -> bool:
    """Whether the object in a `.pt` file is a checkpoint of this project."""
    return isinstance(content, dict) and content.get("format") == FORMAT


def check_checkpoint(content: dict, path: str | Path) -> dict:
    """Return `content`, read from `path`, if it is what `save_checkpoint` wrote and this version can read.

    Raises:
        DamagedCheckpoint: If the file changed after it was written.
        UserError: If a newer version wrote it, or a value has the wrong type.
    """
    try:
        check_digest(path)
    except DamagedFileError as error:
        raise DamagedCheckpoint(f"{path}: is damaged: {error}; copy it again or use an earlier one") from None
    if type(content.get("version")) is not int or content["version"] > VERSION:
        raise UserError(
            f"{path}: written by a newer version (format {content.get('version')!s:.20}, known {VERSION}); update"
        )
    check_fields(content, _FIELDS, path)
    return content


def non_finite_tensors(state: Mapping[str, Any]) -> list[str]:
    """The names of the tensors of a state dict that hold NaN or infinite values."""
    tensors = ((name, value) for name, value in state.items() if isinstance(value, torch.Tensor))
    return [name for name, value in tensors if value.is_floating_point() and not value.isfinite().all()]


def _on_device(value: Any, device: torch.device) -> Any:
    """`value` with all its tensors on `device`."""
    if device.type == "cpu":
        return value
    if isinstance(value, torch.Tensor):
        return value.to(device)
    if isinstance(value, dict):
        return {key: _on_device(item, device) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_on_device(item, device) for item in value)
    return value


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
