"""The exported form of a `.pt` that detection runs on a CPU: made once, kept beside the weights, run by what is fastest.

`exported/NAME-KEY.onnx` in the folder of the weights, or in the user's cache folder where that cannot be written, is read
by onnxruntime and by OpenVINO. KEY is made from the content of the weights and of the code that builds them, so that
neither weights that were replaced nor blocks that were changed are run in an older form. `NAME-KEY.json` notes how long a
picture takes each way on this machine. Torch is imported only to make the two.
"""

import contextlib
import hashlib
import importlib.util
import json
import os
import platform
import re
import sys
import time
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from graftdet.models.backends import BACKENDS, ExportOptions
from graftdet.models.inference.predictor import Predictor
from graftdet.utils.errors import UserError
from graftdet.utils.files import cache_folder, write_atomically

PACKAGES = {"onnx": "onnxruntime", "openvino": "openvino"}  # what each backend needs
HALF = " bfloat16"  # behind a backend's word
WORTH_HALF = 0.8  # of the time in float32: bfloat16 moves boxes a little, that has to pay
WORTH_STARTING = 0.9  # of onnxruntime's time


class CannotExport(Exception):
    """Weights that can be read have no exported form."""


def load_exported(
    weights: str | Path, word: str = "auto", half: bool = False, plugins: Iterable[str] = ()
) -> Predictor | None:
    """The exported form of `weights` on the CPU, run by the backend `word`, with 'auto' by the fastest that is installed.

    `half` computes in bfloat16 where backend and CPU have it; 'auto' does so unasked where the CPU has matrix units for
    it and it is much faster. Backends that give other numbers than torch are passed over. None, told in a line on
    standard error, where 'auto' has to go on with torch. `plugins` are the ones that the weights need. Raises
    `UserError` for weights that cannot be read, and where a backend that was asked for by its word cannot run them.
    """
    weights = Path(weights)
    installed = installed_backends()
    if word != "auto" and word not in installed:
        raise UserError(f"--backend {word}: needs {PACKAGES[word]}; install it with 'pip install {PACKAGES[word]}'")
    try:
        if not installed:
            raise CannotExport(f"{weights}: runs faster with onnxruntime or openvino, which are not installed")
        path = _place(weights, plugins)
        notes = _read_notes(path)
        if notes.get("machine") != _machine(installed) or not (path.is_file() or "failed" in notes):
            notes = _make(weights, path, installed)
        if "failed" in notes:
            raise CannotExport(f"{weights}: {notes['failed']}")
        chosen = choose(notes["milliseconds"], word, half)
    except CannotExport as error:
        if word != "auto":
            raise UserError(f"--backend {word}: {error}") from None
        print(f"{error}; goes on with torch", file=sys.stderr)
        return None
    return BACKENDS[chosen.removesuffix(HALF)].load(path, half=chosen.endswith(HALF))


def choose(milliseconds: dict[str, float], word: str, half: bool) -> str:
    """The key of `milliseconds` to run by: of the backend `word` or, with 'auto', the fastest; onnxruntime, which starts in
    half the time, where OpenVINO is hardly faster. Raises `CannotExport`."""
    if word != "auto" and word not in milliseconds:
        raise CannotExport(f"{word} gives other numbers than torch")
    if half and word in ("auto", "openvino") and "openvino" in milliseconds:
        return "openvino" + HALF
    if word != "auto":
        return word
    best = min((way for way in milliseconds if not way.endswith(HALF)), key=milliseconds.get)
    if milliseconds[best] > WORTH_STARTING * milliseconds.get("onnx", float("inf")):
        best = "onnx"
    half_taken = milliseconds.get("openvino" + HALF, float("inf"))
    return "openvino" + HALF if half_taken <= WORTH_HALF * milliseconds[best] else best


def installed_backends() -> dict[str, str]:
    """Backends whose package is there, with its version."""
    found = {}
    for word, package in PACKAGES.items():
        try:
            if importlib.util.find_spec(package) is not None:
                found[word] = version(package)
        except (PackageNotFoundError, ValueError):  # onnxruntime-gpu goes by another name
            found[word] = ""
    return found


def _machine(installed: dict[str, str]) -> str:
    """What times are compared within: they are taken anew on another one, or with other packages."""
    runtimes = " ".join(f"{PACKAGES[word]} {number}" for word, number in installed.items())
    return f"{platform.node()} {platform.machine()} {os.cpu_count()} cores, {runtimes}"


def _place(weights: Path, plugins: Iterable[str]) -> Path:
    """Where the .onnx of `weights` is or belongs."""
    name = f"{weights.stem}-{_key(weights, plugins)}.onnx"
    beside = weights.absolute().parent
    folder = beside / "exported"
    cached = cache_folder() / "exported" / hashlib.sha256(os.fsencode(beside)).hexdigest()[:16]
    if (folder / name).is_file() or os.access(folder if folder.exists() else beside, os.W_OK):
        return folder / name
    return cached / name


def _key(weights: Path, plugins: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for folder in (Path(__file__).parent, *map(_folder_of, plugins)):
        pattern = "**/*.py" if (folder / "__init__.py").is_file() else "*.py"
        for source in sorted(folder.glob(pattern)):
            digest.update(source.read_bytes())
    try:
        with open(weights, "rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    except FileNotFoundError:
        raise UserError(f"{weights}: no such file") from None
    except OSError as error:
        raise UserError(f"{weights}: cannot be read ({error.strerror})") from None
    return digest.hexdigest()[:16]


def _folder_of(plugin: str) -> Path:
    """The folder of the code that a word of --plugins, which was loaded already, stands for."""
    path = Path(plugin)
    if path.suffix == ".py" or path.is_dir():
        return path.parent if path.suffix == ".py" else path
    spec = importlib.util.find_spec(plugin)
    return (
        Path(spec.origin).parent if spec.origin else Path(spec.submodule_search_locations[0])
    )  # a package without __init__


def _read_notes(path: Path) -> dict:
    try:
        notes = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    fits = isinstance(notes, dict) and ("failed" in notes or isinstance(notes.get("milliseconds"), dict))
    return notes if fits else {}


def _make(weights: Path, path: Path, installed: dict[str, str]) -> dict:
    """Export `weights` to `path` where it is not there, check and time each way to run it; write the notes and return them."""
    from graftdet.models.weights.transfer import build_from_weights
    from graftdet.models.weights.weights_file import load_weights

    file = load_weights(weights)
    model = build_from_weights(file)
    side = -(-(file.size or 640) // model.size_multiple) * model.size_multiple
    notes: dict = {"machine": _machine(installed)}
    try:
        if not path.is_file():
            _remove_older(path, weights.stem)
            BACKENDS["onnx"].export(
                model, path, ExportOptions((side, side), dynamic=True, square_letterbox=file.square_letterbox)
            )
        notes["milliseconds"] = _milliseconds(_checked(model, path, installed), side, model.channels)
        told = ", ".join(f"{way} {taken:.1f}" for way, taken in notes["milliseconds"].items())
        print(f"{weights}: exported to {path}; milliseconds a picture of {side}x{side}: {told}")
    except UserError as error:
        notes["failed"] = str(error).removeprefix(f"{path}: ")
    try:
        write_atomically(path.with_suffix(".json"), json.dumps(notes, indent=1).encode())
    except UserError as error:
        raise CannotExport(f"{weights}: {error}") from None
    return notes


def _remove_older(path: Path, stem: str) -> None:
    """Forms of weights that had this name before."""
    for other in path.parent.iterdir() if path.parent.is_dir() else ():
        if re.fullmatch(re.escape(stem) + r"-[0-9a-f]{16}\.(onnx|json)", other.name):
            with contextlib.suppress(OSError):  # another process may run it
                other.unlink()


def _checked(model, path: Path, installed: dict[str, str]) -> dict[str, Predictor]:
    """The ways to run `path` that give what `model` gives, at several sizes and batches. Raises `UserError` without any."""
    from graftdet.models.backends.verify import verify
    from graftdet.utils.device import cpu_flags

    small = ExportOptions((2 * model.size_multiple,) * 2, dynamic=True)
    ways, problem = {}, None
    for word in installed:
        try:
            verify(model, BACKENDS[word].load(path), path, small)
            ways[word] = BACKENDS[word].load(path)  # a fresh one: OpenVINO is the fastest at the first shape it sees
            if word == "openvino" and "amx_bf16" in cpu_flags():
                ways[word + HALF] = BACKENDS[word].load(path, half=True)
        except UserError as error:
            problem = error
    if not ways:
        raise problem
    return ways


def _milliseconds(ways: dict[str, Predictor], side: int, channels: int) -> dict[str, float]:
    """The least of several runs on one picture each, in turns; several in a row, because a runtime's waiting threads may
    slow down the first run of the next."""
    from graftdet.models.backends.verify import trial_pictures

    picture = (255 * trial_pictures(1, (side, side), channels)).astype("uint8")
    taken = {way: float("inf") for way in ways}
    end = time.perf_counter() + 1.5
    for turn in range(10):
        for way, run in ways.items():
            for _ in range(3):
                start = time.perf_counter()
                run(picture)
                taken[way] = min(taken[way], 1000 * (time.perf_counter() - start))
        if turn and time.perf_counter() > end:
            break
    return {way: round(milliseconds, 2) for way, milliseconds in taken.items()}
