"""`python -m models compare A.yaml B.yaml ...`: what models cost and, with --train, how well they learn, side by side."""

import copy
import csv
import shlex
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from graftdet.models.analysis.profiling import Timing, peak_activation_bytes, time_calls
from graftdet.models.analysis.summary import RowSummary, summarize, totals
from graftdet.models.graph.detection_model import DetectionModel, build_model
from graftdet.models.graph.row_alignment import align
from graftdet.utils.cli import at_least
from graftdet.utils.cli_options import image_size
from graftdet.utils.config import ROOT
from graftdet.utils.errors import UserError
from graftdet.utils.tables import text_table

LONGEST_LABEL = 36
MEASURES = ("val/AP50-95", "val/AP50")  # columns of results.csv


def measure(
    models: list[DetectionModel], size: tuple[int, int], repeats: int, onnx: bool, device: str = "cpu"
) -> list[list[str]]:
    """Lines of text, a label and one value a model: parameters, MACs, FLOPs, activations, latency of one picture."""
    sums = [totals(summarize(model, size)) for model in models]
    at = f"at {size[1]}x{size[0]}"
    lines = [
        ["parameters", *_beside_first([s["params"] for s in sums], "{:,}")],
        [f"GMACs {at}", *_beside_first([s["macs"] / 1e9 for s in sums], "{:.2f}")],
        ["GFLOPs", *_beside_first([s["flops"] / 1e9 for s in sums], "{:.2f}")],
        ["peak activations, MiB", *_beside_first([peak_activation_bytes(m, size) / 2**20 for m in models], "{:.1f}")],
    ]
    fused = [copy.deepcopy(model).fuse().to(device).requires_grad_(False) for model in models]
    images = [torch.rand(1, model.channels, *size) for model in models]

    def call_torch(model, picture):
        picture = picture.to(device)
        return lambda: model(picture)

    wait = torch.cuda.synchronize if str(device).startswith("cuda") else lambda: None
    with torch.inference_mode():
        times = time_calls([call_torch(*pair) for pair in zip(fused, images, strict=True)], repeats, wait=wait)
    lines.append([f"torch, median and quartiles ({device})", *_times(times)])
    if onnx:
        lines.append(["onnxruntime (cpu)", *_times(_time_onnx(models, size, repeats))])
    return lines


def _beside_first(values: list[float], form: str) -> list[str]:
    """Each value, the later ones with their difference to the first."""
    first = values[0]
    return [
        form.format(v) + (f" ({100 * (v / first - 1):+.1f} %)" if i and first else "") for i, v in enumerate(values)
    ]


def _times(times: list[Timing | None]) -> list[str]:
    return ["-" if timing is None else str(timing) for timing in times]


def _time_onnx(models, size, repeats) -> list[Timing | None]:
    """Latency of the exported files; None for a model that cannot be exported, which is told."""
    from graftdet.models.backends import ExportOptions
    from graftdet.models.backends.onnx import export, load
    from graftdet.models.backends.verify import trial_pictures

    def call_file(session, images):
        return lambda: session.rows(images)

    sessions = []
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        for index, model in enumerate(models):
            path = Path(folder) / f"{index}.onnx"
            try:
                sessions.append(load(export(model, path, ExportOptions(size=size))))
            except UserError as error:
                print(f"warning: {model.spec.where}: {error}", file=sys.stderr)
                sessions.append(None)
        calls = [
            call_file(session, trial_pictures(1, size, session.channels)) for session in sessions if session is not None
        ]
        times = iter(time_calls(calls, repeats))
        return [None if session is None else next(times) for session in sessions]


def row_table(models: list[DetectionModel], size: tuple[int, int]) -> str:
    """All rows side by side, those that differ marked with `*`. Rows that only some models have stand alone."""
    columns = [summarize(model, size) for model in models]
    lines: list[list[RowSummary | None]] = [[row] for row in columns[0]]
    for number, rows in enumerate(columns[1:], 1):
        first = [line[0] for line in lines]
        known = [i for i, row in enumerate(first) if row is not None]
        pairs = align(len(known), len(rows), lambda i, j, f=first, k=known, r=rows: _likeness(f[k[i]], r[j]))
        place = {j: known[i] for i, j in pairs.items()}
        merged, done = [], 0
        for j, row in enumerate(rows):
            if j in place:
                merged += [[*line, None] for line in lines[done : place[j]]] + [[*lines[place[j]], row]]
                done = place[j] + 1
            else:
                merged.append([None] * number + [row])
        lines = merged + [[*line, None] for line in lines[done:]]
    table = []
    for line in lines:
        differs = any(row is None or _facts(row) != _facts(line[0]) for row in line) if line[0] else True
        table.append(["*" if differs else "", *("" if row is None else _short(row) for row in line)])
    return text_table(["", *labels_of(models)], table)


def labels_of(models: list[DetectionModel]) -> list[str]:
    """A heading for each model: the name of its file, with its folder where that tells two apart; long ones are cut in
    the middle."""
    paths = [Path(model.spec.where) for model in models]
    names = [path.name if all(p == path for p in paths if p.name == path.name) else str(path) for path in paths]
    return [
        name if len(name) <= LONGEST_LABEL else f"{name[: LONGEST_LABEL // 2]}\u2026{name[1 - LONGEST_LABEL // 2 :]}"
        for name in names
    ]


def _facts(row: RowSummary):
    return row.word, row.args, row.number, row.shapes, row.params


def _short(row: RowSummary) -> str:
    shapes = " ".join("x".join(map(str, shape)) for shape in row.shapes[:1]) + (" ..." if len(row.shapes) > 1 else "")
    repeats = f" x{row.number}" if row.number > 1 else ""
    return f"{row.index:2d} {row.word}{repeats} {shapes} {row.params:,}"


def _likeness(one: RowSummary, other: RowSummary) -> float:
    """Equal rows before those of one word, those before rows in whose place another block gives the same map."""
    if _facts(one) == _facts(other):
        return 3.0
    return 2.0 * (one.word == other.word) + 0.8 * (one.shapes == other.shapes) + 0.1 * (one.index == other.index)


def train_and_measure(cfgs: list[str], args) -> list[list[str]]:
    """Train each YAML with each seed by `train.py`, one after the other, and return the lines with AP."""
    from graftdet.utils.files import new_run_folder

    project = new_run_folder(args.project, "exp")
    found: list[dict[str, list[float]]] = [{name: [] for name in MEASURES} for _ in cfgs]
    for seed in range(args.seeds):  # seeds outside: when stopped, each model has been trained as often
        for number, cfg in enumerate(cfgs):
            name = f"{number}-{Path(cfg).stem}-seed{seed}"
            command = [
                sys.executable,
                str(ROOT / "train.py"),
                "--cfg",
                cfg,
                "--data",
                args.train,
                "--epochs",
                str(args.epochs),
            ]
            command += [
                "--seed",
                str(seed),
                "--project",
                str(project),
                "--name",
                name,
                "--exist-ok",
                "--img",
                str(args.img[0]),
            ]
            command += [*(["--plugins", *args.plugins] if args.plugins else []), *shlex.split(args.train_args)]
            print(f"{name}: {shlex.join(command)}", file=sys.stderr, flush=True)
            status = subprocess.run(command, stdout=sys.stderr).returncode
            if status:
                raise UserError(f"{cfg}: training with seed {seed} ended with exit status {status}")
            for key, value in best_epoch(project / name / "results.csv").items():
                found[number][key].append(value)
    label = f"of the best of {args.epochs} epochs, {args.seeds} seeds"
    return [[f"{key.removeprefix('val/')} {label}", *(mean_and_deviation(f[key]) for f in found)] for key in MEASURES]


def best_epoch(path: Path) -> dict[str, float]:
    """The `MEASURES` of the epoch with the best AP50-95. Raises `UserError` where the table has none."""
    try:
        with open(path, encoding="utf-8", newline="") as file:
            rows = [row for row in csv.DictReader(file) if row.get(MEASURES[0])]
        best = max(rows, key=lambda row: float(row[MEASURES[0]]))
        return {key: float(best[key]) for key in MEASURES}
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{path}: expected a table with {MEASURES[0]} ({type(error).__name__})") from None


def mean_and_deviation(values: list[float]) -> str:
    """`0.412 +- 0.006`: mean and standard deviation of the sample (n - 1)."""
    text = f"{statistics.mean(values):.4f}"
    return f"{text} +- {statistics.stdev(values):.4f}" if len(values) > 1 else text


def add_arguments(parser) -> None:
    add = parser.add_argument
    add("cfg", metavar="FILE.yaml", nargs="+", help="model YAMLs, paths or bare names")
    add("--img", type=at_least(1), nargs="+", default=[640], help="picture size: one number, or height and width")
    add("--nc", type=at_least(1), help="number of classes instead of the YAMLs'")
    add("--repeats", type=at_least(1), default=20, help="runs that latencies are medians of")
    add("--device", default="cpu", help="where torch is timed: cpu, 0, mps")
    add("--no-onnx", action="store_true", help="leave onnxruntime out")
    add("--no-rows", action="store_true", help="leave the rows out")
    add("--train", metavar="DATA.yaml", help="train each model on this data and add its AP")
    add("--epochs", type=at_least(1), default=50, help="of each training")
    add("--seeds", type=at_least(1), default=3, help="trainings of each model")
    add("--train-args", default="", metavar="'--FLAG ...'", help="more flags for train.py, as one word")
    add("--project", default="runs/compare", help="folder for the trainings")


def run(args) -> None:
    models = [build_model(cfg, args.nc) for cfg in args.cfg]
    size = image_size(args.img, max(model.size_multiple for model in models))
    if len({model.nc for model in models}) > 1:
        print("warning: the models differ in their number of classes; --nc gives all the same", file=sys.stderr)
    from graftdet.utils.device import select_device

    lines = measure(models, size, args.repeats, not args.no_onnx, str(select_device(args.device)))
    if args.train:
        lines += train_and_measure(args.cfg, args)
    header = ["", *labels_of(models)]
    print(text_table(header, lines, right=range(1, len(header))))
    if not args.no_rows:
        print("\nrows (* differs): index, module, output, parameters")
        print(row_table(models, size))
