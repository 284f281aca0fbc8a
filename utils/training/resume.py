"""Resuming a run: find its checkpoint, restore the options of the run, check the flags that are given again."""

import argparse
import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from graftdet.utils.checkpoint import load_checkpoint_or_previous, previous_checkpoint
from graftdet.utils.config import load_yaml
from graftdet.utils.errors import UserError
from graftdet.utils.files import newest_run_file
from graftdet.utils.processes.run_lock import check_not_running
from graftdet.utils.training.flags import AUTO_WEIGHTS, NO_WEIGHTS

# Options that are plain data: restored from a checkpoint and checked as on the command line. Every other option, also
# one that is added later, may name code to run or files to read, and is never restored from a checkpoint alone.
_DATA_OPTIONS = frozenset(
    "min_transfer set img epochs batch_size workers seed optimizer patience freeze cache multi_scale single_cls"
    " image_weights rect cos_lr noautoanchor sync_bn save_period noval amp compile device exist_ok on_nan"
    " identity_init imitation_init head_init graft_distill plots".split()
)
_MAY_CHANGE = ("device", "workers", "on_nan")  # data options that may be given with --resume
_NOT_RESTORED = ("resume", "project", "name", "allow_changed_data")  # location of the checkpoint, consent of one call
NOT_RECORDED = ("resume", "folder", "allow_changed_data", "callbacks")
_MAY_MOVE = ("data", "teacher", "plugins")  # files that a resumed run reads and that may have moved
_REQUIRED = {"options": dict, "hyperparameters": dict, "yaml": str, "names": list, "epoch": int, "optimizer": dict}


def find_checkpoint(resume: str | Path, project: str | Path) -> Path:
    """Return the `last.pt` to resume.

    Args:
        resume: A checkpoint, the folder of a run, or "" for the newest run below `project`.
        project: Folder of runs.

    Raises:
        UserError: If there is none.
    """
    if str(resume) == "":
        found = newest_run_file(project, "weights/last.pt")
        if not found:
            raise UserError(f"--resume: no run with weights/last.pt below {project}")
        return found
    path = Path(resume)
    for candidate in (path, path / "weights" / "last.pt", path / "last.pt"):
        if candidate.is_file() or previous_checkpoint(candidate).is_file():
            return candidate
    if path.is_dir() and not (path / "config.yaml").is_file():
        raise UserError(f"--resume {path}: is not the folder of a training run, which has a config.yaml")
    if path.is_dir():
        raise UserError(f"--resume {path}: has no weights/last.pt; the run ended before its first epoch was complete")
    raise UserError(f"--resume {path}: no such run or checkpoint")


def resolve_options(
    parser: argparse.ArgumentParser, arguments: Sequence[str] | None
) -> tuple[argparse.Namespace, dict | None]:
    """Parse the command line; with `--resume`, restore the options of the run.

    Data options (epochs, batch size, seed, ...) are restored from the checkpoint and cannot be given again, except
    those of `_MAY_CHANGE`. Every other option is given again, or recorded in the `config.yaml` of the run's folder, or
    has its default: a checkpoint may come from a stranger, so it names neither files nor code.

    Args:
        parser: The parser of train.py.
        arguments: The command line; None for that of this process.

    Returns:
        The options, and the content of the checkpoint or None for a new run. `options.folder` is the folder of the
        resumed run, None for a new run.

    Raises:
        UserError: For flags that cannot be given with `--resume`, options of the checkpoint that nothing confirms, a
            run that cannot be found or is finished.
    """
    options = parser.parse_args(arguments)
    options.folder = None
    if options.resume is None:
        return options, None
    given = _given(parser, arguments)
    if "search" in given:
        raise UserError("--resume: resumes a training run; to resume a search, repeat its --search command")
    for key in given:
        if key in _DATA_OPTIONS and key not in _MAY_CHANGE:
            allowed = ", ".join(map(_flag, _MAY_CHANGE))
            raise UserError(
                f"--resume: {_flag(key)} is restored from the run; only {allowed} can be changed; "
                f"for another {_flag(key)}, start a new run with its last.pt as --weights"
            )
    path = find_checkpoint(options.resume, options.project)
    checkpoint, path = load_checkpoint_or_previous(path)
    if checkpoint.get("finished"):
        weights = f"with these weights after epoch {checkpoint.get('epoch')}"
        raise UserError(f"{path}: the run is finished, {weights}; to continue training, give them as --weights")
    if not all(isinstance(checkpoint.get(key), kind) for key, kind in _REQUIRED.items()):
        raise UserError(f"{path}: holds weights but no training state; give it as --weights")
    folder = path.absolute().parent
    folder = folder.parent if folder.name == "weights" else folder
    if os.environ.get("RANK", "0") == "0":  # the other processes of a group may find the lock of this one
        check_not_running(folder)
    if given.get("name", folder.name) not in (folder.name, checkpoint["options"].get("name")):
        raise UserError(f"--resume: --name {given['name']}: a run is resumed in its own folder {folder}")
    values = {**vars(options), **_restored(parser, given, checkpoint["options"], path, folder)}
    values |= {"resume": str(path), "folder": folder, "project": folder.parent, "name": folder.name}
    return argparse.Namespace(**values), checkpoint


def _given(parser: argparse.ArgumentParser, arguments: Sequence[str] | None) -> dict:
    """The options that the command line gives, also those given with their default value."""
    unset = object()  # argparse keeps attributes that exist: what differs from `unset` afterwards was given
    blank = argparse.Namespace(
        **{action.dest: unset for action in parser._actions if not isinstance(action.default, list)}
    )
    parsed = vars(parser.parse_args(arguments, namespace=blank))
    return {key: value for key, value in parsed.items() if value is not unset and value != []}


def _restored(parser: argparse.ArgumentParser, given: dict, recorded: dict, path: Path, folder: Path) -> dict:
    """The options recorded in a checkpoint that apply: data, and what is a default or confirmed by config.yaml."""
    config = folder / "config.yaml"
    confirmed = load_yaml(config).get("options") if config.is_file() else None
    confirmed = confirmed if isinstance(confirmed, dict) else {}
    values, missing = {}, []
    for action in parser._actions:
        key, default = action.dest, action.default
        if default is argparse.SUPPRESS or key in _NOT_RESTORED or key not in recorded:
            continue
        if key in _DATA_OPTIONS and key in given:
            continue
        value = recorded[key]
        is_data = key in _DATA_OPTIONS or (key == "weights" and value in ("", AUTO_WEIGHTS, NO_WEIGHTS))
        if key in given:
            if not _equal(value, given[key]) and not (key in _MAY_MOVE and value):
                raise UserError(
                    f"--resume: {_flag(key)} is restored from the run, where it was {_shell(value) or 'not given'}"
                )
        elif is_data or _equal(value, default) or _equal(value, confirmed.get(key)):
            values[key] = _checked(parser, action, value, path)
        else:
            missing.append(f"{_flag(key)} {_shell(value)}")
    if missing:
        again = "it" if len(missing) == 1 else "them"
        raise UserError(
            f"{path}: this run used {' '.join(missing)}; give {again} again, as {config} does not confirm {again}"
        )
    return values


def _checked(parser: argparse.ArgumentParser, action: argparse.Action, value: object, path: Path) -> object:
    """`value`, read from the file `path`, as the command line would take it. Raises `UserError`."""
    if _equal(value, action.default):
        return value
    several = isinstance(action.default, list)
    items = value if several and isinstance(value, list) else [value]
    try:
        if isinstance(action.default, bool):
            if not isinstance(value, bool):
                raise ValueError
            return value
        if several != isinstance(value, list) or any(type(item) not in (int, float, str) for item in items):
            raise ValueError
        items = [parser._get_value(action, str(item)) for item in items]
        for item in items:
            parser._check_value(action, item)
    except (ValueError, argparse.ArgumentError):
        raise UserError(f"{path}: {value!r:.60} is not a value of {_flag(action.dest)}") from None
    return items if several else items[0]


def _equal(value: object, other: object) -> bool:
    return type(value) is type(other) and value == other


def _flag(key: str) -> str:
    return f"--{key.replace('_', '-')}"


def _shell(value: object) -> str:
    """A value as it is typed in a shell."""
    return " ".join(shlex.quote(str(item)) for item in (value if isinstance(value, list) else [value]))
