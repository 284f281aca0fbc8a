"""Files and command lines of others: model YAMLs, weights, datasets, flags of YOLOv5. What works, what is refused.

Without options: the model YAMLs of `configs/models` and the published flags. A file is refused well if it ends in one
message; a traceback, or more than 15 seconds, misses the limit. `--inputs FILE.json` writes the result of each input.
"""

import argparse
import contextlib
import io
import json
import shlex
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.table import ROOT, Table, parser
from graftdet import detect, export, train, val
from graftdet.data.__main__ import main as data_command
from graftdet.data.dataset_config import load_data_config
from graftdet.models import build_model, load_model
from graftdet.models.lint.check import check_model
from graftdet.models.weights.weights_file import load_weights
from graftdet.utils.cli.yolov5_flags import FLAGS
from graftdet.utils.config import load_yaml
from graftdet.utils.errors import UserError

SLOW, LIMIT = 15, 300  # seconds: of CPU time, reported as slow; of wall time, stopped
TRACEBACK, STOPPED = "TRACEBACK", f"stopped after {LIMIT} s"
PARSERS = {
    "train": train.make_parser,
    "val": val.make_parser,
    "detect": detect.make_parser,
    "export": export.make_parser,
}
WEIGHTS_SUFFIXES = {".pt", ".pth", ".safetensors", ".onnx", ".xml", ".torchscript", ".engine", ".tflite", ".h5"}
VALUES = {
    **dict.fromkeys(("--img", "--imgsz", "--img-size"), "640"),
    **dict.fromkeys(("--include", "--format"), "onnx"),
    **{"--opset": "17", "--device": "cpu", "--classes": "0"},
}
"""Flag -> a value as users type it; of other flags the value is made from their type."""


@dataclass(frozen=True)
class Result:
    """What became of one input.

    Attributes:
        kind: model, weights, dataset or command.
        name: the input, relative to its folder.
        outcome: a few words, the same for all inputs of one outcome.
        detail: the message, or figures.
        seconds: CPU time of this process, since machines are shared.
    """

    kind: str
    name: str
    outcome: str
    detail: str
    seconds: float


class _Stopped(BaseException):
    """The time is over; no handler of `Exception` stops it."""


def attempt(kind: str, name: str, action: Callable[[], tuple[str, str]]) -> Result:
    """Run what returns (outcome, detail); a `UserError` is refused, any other exception a traceback."""
    start = time.process_time()
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()), _time_limit():
            outcome, detail = action()
    except UserError as error:
        outcome, detail = "refused with one message", str(error)
    except _Stopped:
        outcome, detail = STOPPED, ""
    except Exception as error:  # what a user would see as a traceback is what this looks for
        outcome, detail = TRACEBACK, f"{type(error).__name__}: {error}"
    return Result(kind, name, outcome, detail, round(time.process_time() - start, 2))


@contextlib.contextmanager
def _time_limit() -> Iterator[None]:
    if not hasattr(signal, "SIGALRM"):
        yield
        return

    def stop(*_: object) -> None:
        raise _Stopped

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(LIMIT)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def model_outcome(path: Path) -> tuple[str, str]:
    """Build a model YAML, or the `architecture` of a JSON whose `params` is the author's parameter count."""
    expected = None
    cfg: Any = path
    if path.suffix == ".json":
        content = json.loads(path.read_text(encoding="utf-8"))
        cfg, expected = content["architecture"], content.get("params")
    try:
        model = build_model(cfg)
    except UserError as error:
        errors = [problem for problem in check_model(cfg) if problem.severity == "error"]
        unknown = [problem.message for problem in errors if problem.rule == "unknown-module"]
        if unknown:
            return "unknown module reported", "; ".join(unknown)
        return "other problem reported", errors[0].message if errors else str(error)
    count = sum(parameter.numel() for parameter in model.parameters())
    if expected is None:
        return "builds", f"{count} parameters"
    return ("builds with the published parameter count" if count == expected else "OTHER PARAMETER COUNT"), str(count)


def weights_outcome(path: Path) -> tuple[str, str]:
    """Load a weights file as `detect.py --weights` does."""
    model = load_model(path)
    source = load_weights(path).source if path.suffix in (".pt", ".pth", ".safetensors") else model.backend
    return "loads", f"{source}, {model.nc} classes, stride {model.stride}"


def dataset_outcome(path: Path) -> tuple[str, str]:
    """Run `python -m data check`; its exit status is the outcome."""
    config = load_data_config(path)
    status = 0
    try:
        data_command(["check", str(path), "--format", "json"])
    except SystemExit as ended:
        status = int(ended.code or 0)
    return {0: "read, no problems", 1: "read, with warnings", 2: "read, with errors"}[status], f"format {config.format}"


def command_outcome(script: str, arguments: list[str]) -> tuple[str, str]:
    """Parse a command line as the script does; nothing is run."""
    errors = io.StringIO()
    try:
        with contextlib.redirect_stderr(errors):
            PARSERS[script]().parse_args(arguments)
    except SystemExit as ended:
        return ("accepted", "") if not ended.code else ("refused with one message", errors.getvalue().strip())
    return "accepted", ""


def published_commands() -> Iterator[tuple[str, list[str]]]:
    """(script, arguments) of each published flag in each spelling, with a value where it takes one."""
    for script, flags in FLAGS.items():
        actions = PARSERS[script]()._option_string_actions
        for flag in flags:
            for name in flag.names:
                values = _values_of(name, actions[name]) if name in actions else ["1"] * flag.values
                source = ["--source", "0"] if script == "detect" and name != "--source" else []
                yield script, [name, *values, *source]


def _values_of(name: str, action: argparse.Action) -> list[str]:
    """Values for a flag of our parser."""
    if action.nargs == 0:
        return []
    if name in VALUES:
        return [VALUES[name]]
    return [str(next(iter(action.choices))) if action.choices else "1"]


def read_commands(path: Path) -> Iterator[tuple[str, list[str]]]:
    """(script, arguments) of each line `python train.py ...` of a file; other lines are skipped."""
    for line in path.read_text(encoding="utf-8").splitlines():
        words = shlex.split(line, comments=True)
        at = next((index for index, word in enumerate(words) if Path(word).name[:-3] in PARSERS), None)
        if at is not None and words[at].endswith(".py"):
            yield Path(words[at]).stem, words[at + 1 :]


def find_files(folder: Path, suffixes: Iterable[str]) -> list[Path]:
    """The files of a folder and its subfolders with one of the suffixes, sorted."""
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in suffixes and path.is_file())


def run_inputs(options: argparse.Namespace) -> Iterator[Result]:
    """The result of each input, one after the other."""
    for folder in options.yamls or [ROOT / "configs" / "models"]:
        for path in find_files(folder, (".yaml", ".yml", ".json")):
            if path.suffix != ".json" or "architecture" in path.read_text(encoding="utf-8", errors="replace")[:100]:
                yield attempt("model", _name(path, folder), lambda path=path: model_outcome(path))
    for folder in options.weights:
        for path in find_files(folder, WEIGHTS_SUFFIXES):
            yield attempt("weights", _name(path, folder), lambda path=path: weights_outcome(path))
    for folder in options.data:
        for path in find_files(folder, (".yaml", ".yml")):
            if _is_data_yaml(path):
                yield attempt("dataset", _name(path, folder), lambda path=path: dataset_outcome(path))
    commands = list(published_commands())
    for file in options.commands:
        commands += read_commands(file)
    for script, arguments in commands:
        name = f"{script}.py {shlex.join(arguments)}"
        yield attempt("command", name, lambda script=script, arguments=arguments: command_outcome(script, arguments))


def _name(path: Path, folder: Path) -> str:
    return (Path(folder.resolve().name) / path.relative_to(folder)).as_posix()


def _is_data_yaml(path: Path) -> bool:
    """Whether a YAML is that of a dataset; one that cannot be read is tried, too."""
    try:
        values = load_yaml(path)
    except UserError:
        return True
    return bool({"train", "val", "test", "format"} & values.keys())


def add_rows(table: Table, results: list[Result]) -> None:
    """One row per kind and outcome; tracebacks and slow inputs have a limit of 0."""
    for kind in dict.fromkeys(result.kind for result in results):
        own = [result for result in results if result.kind == kind]
        for outcome, count in Counter(result.outcome for result in own).most_common():
            bad = outcome in (TRACEBACK, STOPPED, "OTHER PARAMETER COUNT")
            limit: dict[str, Any] = {"value": count, "at_most": 0} if bad else {}
            table.add(f"{kind}: {outcome}", f"{count} of {len(own)}", **limit)
        slowest = max(own, key=lambda result: result.seconds)
        table.add(f"{kind}: slowest", f"{slowest.seconds:.1f} s ({slowest.name})", slowest.seconds, at_most=SLOW)


def main() -> int:
    """Run all inputs; returns the exit status."""
    options_parser = parser("compatibility", __doc__)
    for name, what in (
        ("--yamls", "model YAMLs, or JSON files with `architecture` and `params` (default: configs/models)"),
        ("--weights", "weights and exported files"),
        ("--data", "datasets: each data YAML below it is checked"),
    ):
        options_parser.add_argument(name, type=Path, nargs="+", default=[], metavar="DIR", help=f"folders of {what}")
    options_parser.add_argument(
        "--commands", type=Path, nargs="+", default=[], metavar="FILE", help="command lines of YOLOv5, one per line"
    )
    options_parser.add_argument("--inputs", type=Path, metavar="FILE.json", help="file for the result of each input")
    options = options_parser.parse_args()
    for path in (*options.yamls, *options.weights, *options.data):
        if not path.is_dir():
            options_parser.error(f"{path}: {'is a file, expected a folder' if path.exists() else 'no such folder'}")
    for path in options.commands:
        if not path.is_file():
            options_parser.error(f"{path}: no such file")
    results = list(run_inputs(options))
    table = Table("compatibility", options.output)
    add_rows(table, results)
    if options.inputs:
        text = json.dumps([asdict(result) for result in results], indent=1)
        options.inputs.write_text(f"{text}\n", encoding="utf-8")
    return bool(table.short)


if __name__ == "__main__":
    sys.exit(main())
