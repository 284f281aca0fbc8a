"""The command line flags of the original YOLOv5 scripts, and what becomes of each here.

One table for three uses: the page `docs/migration.md` is made from it, flags that have another name here are
translated, and those that have no equivalent are answered with what to do instead. Flags are facts of the published
documentation of YOLOv5, v7.0 and earlier.
"""

import functools
import itertools
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

logger = logging.getLogger(__name__)
Status = Literal["same", "translated", "no effect", "renamed", "not supported"]


@dataclass(frozen=True)
class PublishedFlag:
    """A flag of one of the original scripts.

    Args:
        flag: as users type it, with its other spellings behind commas.
        status: `same` (also where only further values are accepted), `translated` (accepted as `here`), `no effect`
            (accepted, with a notice), `renamed` (refused, `here` does something similar), or `not supported`.
        here: the flags here; `{}` stands for the value.
        note: what differs, or why it is not supported.
        values: number of values behind the flag, for `translated` and `no effect`.
        quiet: whether it is accepted without a notice.
    """

    flag: str
    status: Status
    here: str = ""
    note: str = ""
    values: int = 0
    quiet: bool = False

    @property
    def names(self) -> list[str]:
        """All spellings."""
        return self.flag.split(", ")


def _same(*flags: str, note: str = "") -> tuple[PublishedFlag, ...]:
    return tuple(PublishedFlag(flag, "same", note=note) for flag in flags)


def _translated(flag: str, here: str, note: str = "") -> tuple[PublishedFlag, ...]:
    return (PublishedFlag(flag, "translated", here, note, values=here.count("{}")),)


def _no_effect(flag: str, note: str, values: int = 0) -> tuple[PublishedFlag, ...]:
    return (PublishedFlag(flag, "no effect", note=note, values=values),)


def _renamed(flag: str, here: str, note: str = "") -> tuple[PublishedFlag, ...]:
    return (PublishedFlag(flag, "renamed", here, note),)


def _unsupported(note: str, *flags: str) -> tuple[PublishedFlag, ...]:
    return tuple(PublishedFlag(flag, "not supported", note=note) for flag in flags)


_NO_SERVICES = "use `--logger` and the settings of the tracker itself, such as `WANDB_ENTITY`"
_RUN = _same("--device", "--project", "--name", "--exist-ok")
_HALF = _same("--half", note="float16 on CUDA, bfloat16 with torch and OpenVINO")
_DNN = _translated("--dnn", "--backend onnx", "runs the exported file by onnxruntime")
_NMS_OUTSIDE = "NMS inside a file is per class, see docs/exported-files.md"

TRAIN = (
    *_same("--weights", note="nothing is downloaded; `''` and `none` train from scratch"),
    *_same("--cfg", "--data"),
    *_same("--hyp", note="default: `auto`; `hyp.scratch-low.yaml` is `yolov5.yaml` here"),
    *_same("--epochs"),
    *_same("--batch-size, --batch", note="`-1` chooses what fits into the memory of a CUDA device; 16 elsewhere"),
    *_same("--imgsz, --img, --img-size", note="one size; of two equal ones one is used"),
    *_same("--rect", "--resume", "--noval", "--image-weights", "--multi-scale", "--single-cls"),
    *_translated("--notest", "--noval"),
    *_no_effect("--nosave", "the last checkpoint is what `--resume` needs; it is always saved"),
    *_same("--noautoanchor", note="without it, anchors are changed only where they do not fit the data"),
    *_translated("--noplots", "--plots none"),
    *_renamed("--evolve", "--search", "a YAML of ranges or choices; runs on Optuna, resumable, in parallel"),
    *_renamed("--evolve_population", "--study", "where the trials are stored"),
    *_renamed("--resume_evolve", "--search", "the same command again resumes the search"),
    *_unsupported(_NO_SERVICES, "--bucket", "--entity", "--upload_dataset", "--bbox_interval", "--artifact_alias"),
    *_same("--cache", note="also `auto` (the default) and `none`"),
    *_translated("--cache-images", "--cache ram"),
    *_same("--optimizer", note="also `Muon`, the default recipe's"),
    *_translated("--adam", "--optimizer Adam"),
    *_no_effect("--linear-lr", "the learning rate falls linearly by default"),
    *_same("--sync-bn", note="on by default with several processes; `--no-sync-bn` turns it off"),
    *_same("--workers", "--cos-lr", "--patience", "--freeze", "--seed"),
    *_same("--save-period", note="`-1` and 0: the best and the last only"),
    *_unsupported("an experiment that the default recipe does not need", "--quad"),
    *_translated("--label-smoothing", "--set label_smoothing={}"),
    PublishedFlag(
        "--local-rank, --local_rank",
        "no effect",
        note="`torchrun` and `python -m torch.distributed.launch` set it in the environment, too",
        values=1,
        quiet=True,
    ),
    *_unsupported("`results.csv` has a row per epoch", "--ndjson-console", "--ndjson-file"),
    *_RUN,
)
VAL = (
    *_same("--data", "--weights", "--batch-size, --batch", "--imgsz, --img, --img-size"),
    *_same("--conf-thres", "--iou-thres", "--max-det"),
    *_same("--task", note="`train`, `val` or `test`, not `speed` and `study`; also `--split`"),
    *_same("--workers", "--single-cls", "--augment"),
    *_HALF,
    *_same("--verbose", note="prints the traceback of an error; results per class are always printed"),
    *_same("--save-txt", "--save-conf"),
    *_unsupported("labels and predictions are not mixed in one file; `--save-txt` writes predictions", "--save-hybrid"),
    *_no_effect("--save-json", "`predictions.json` is always written"),
    *_DNN,
    *_RUN,
)
DETECT = (
    *_same("--weights", note="default: best.pt of the newest training run"),
    *_same("--source", note="`0` is a camera, `screen` needs the extra `screen`"),
    *_same("--imgsz, --img, --img-size", "--conf-thres", "--iou-thres", "--max-det"),
    *_no_effect("--data", "class names are part of every weights file", values=1),
    *_same("--view-img", "--save-txt", "--save-csv", "--save-conf", "--save-crop", "--nosave"),
    *_same("--classes", note="numbers or names"),
    *_same("--agnostic-nms", "--augment"),
    *_HALF,
    *_unsupported("labels are written in the normalized YOLO format; `--save-json` has pixels", "--save-format"),
    *_unsupported("feature maps are not drawn; `python -m models draw` draws the graph", "--visualize"),
    *_no_effect("--update", "nothing is downloaded and no file is changed"),
    *_same("--line-thickness", note="default: by the size of the image"),
    *_same("--hide-labels", "--hide-conf"),
    *_DNN,
    *_same("--vid-stride", note="also of streams"),
    *_RUN,
)
EXPORT = (
    *_same("--weights", "--imgsz, --img, --img-size", "--batch-size, --batch", "--dynamic"),
    *_same("--opset", note="11 to 20"),
    *_same("--include", note="`onnx`, `openvino`, `torchscript`, `ncnn`, `executorch`, `coreml` and `litert`"),
    *_translated("--format", "--include {}"),
    *_same("--data", note="compares AP of file and weights; class names come from the weights file"),
    *_no_effect("--device", "models are exported on the CPU", values=1),
    *_unsupported("files are float32; `val.py` and `detect.py --half` choose the precision when running", "--half"),
    *_no_effect("--inplace", "an exported file is the same with and without it"),
    *_no_effect("--grid", "boxes are decoded in the file unless `--output raw` is given"),
    *_no_effect("--simplify", "graphs are always simplified, by onnxslim where it is installed"),
    *_same("--verbose", note="prints the traceback of an error; the report of an export is always printed"),
    *_unsupported(
        "files are not converted by TensorFlow; `--include litert` writes `.tflite`",
        "--keras",
        "--topk-per-class",
        "--topk-all",
    ),
    *_unsupported("TorchScript files are not changed for mobile devices", "--optimize"),
    *_same("--int8", note="needs `--data`; `onnx` and `openvino`, with the loss of AP"),
    *_unsupported("weights have a scale per channel", "--per-tensor"),
    *_unsupported("no TensorRT engine", "--cache", "--workspace"),
    *_translated("--nms", "--output nms", "NMS inside the file, for onnxruntime and OpenVINO"),
    *_translated("--conf-thres", "--conf {}"),
    *_translated("--iou-thres", "--iou {}"),
    *_unsupported(_NMS_OUTSIDE, "--agnostic-nms"),
    *_unsupported("models are exported for inference", "--train"),
)
FLAGS: dict[str, tuple[PublishedFlag, ...]] = {"train": TRAIN, "val": VAL, "detect": DETECT, "export": EXPORT}
"""Script -> its published flags."""
REFUSED_VALUES = {
    "val": {
        ("--task", "speed"): "use `--task val`, which prints the time per image; `--batch-size 1` for single images",
        ("--task", "study"): "run val.py once for each `--img`; `python -m models compare` compares several models",
    }
}
"""Script -> (flag, value of a published flag that is not taken here) -> what to do instead."""
HYPERPARAMETERS = {
    "hyp.finetune.yaml": ("finetune.yaml", ""),
    "hyp.finetune_objects365.yaml": ("finetune.yaml", ""),
    "hyp.Objects365.yaml": ("finetune.yaml", ""),
    "hyp.VOC.yaml": ("finetune.yaml", ""),
    "hyp.no-augmentation.yaml": ("yolov5.yaml", "hsv_h=0 hsv_s=0 hsv_v=0 translate=0 scale=0 fliplr=0 mosaic=0"),
    "hyp.scratch-low.yaml": ("yolov5.yaml", ""),
    "hyp.scratch.yaml": ("yolov5.yaml", ""),
    "hyp.scratch-med.yaml": ("yolov5.yaml", "lrf=0.1 cls=0.3 obj=0.7 scale=0.9 mixup=0.1"),
    "hyp.scratch-high.yaml": ("yolov5.yaml", "lrf=0.1 cls=0.3 obj=0.7 scale=0.9 mixup=0.1 copy_paste=0.1"),
}
"""Published hyperparameter file -> ours in `configs/hyp`, and the values that differ."""


def translate(script: str, arguments: Sequence[str]) -> list[str]:
    """Replace published flags that are accepted under another name or without effect; each is reported once.

    Args:
        script: `train`, `val`, `detect` or `export`; others have no published flags.
        arguments: the command line.
    """
    accepted = {
        name: flag
        for flag in FLAGS.get(script, ())
        if flag.status in ("translated", "no effect")
        for name in flag.names
    }
    result: list[str] = []
    position = 0
    while position < len(arguments):
        name, equals, value = arguments[position].partition("=")
        flag = accepted.get(name) or accepted.get(name.replace("_", "-"))
        if flag is None:
            if arguments[position] == "--":
                return [*result, *arguments[position:]]
            result.append(arguments[position])
            position += 1
            continue
        values = [value] if equals else list(arguments[position + 1 : position + 1 + flag.values])
        position += 1 if equals else 1 + len(values)
        here = flag.here.format(*values) if len(values) >= flag.values else flag.here.split()[0]
        result += here.split()
        if not flag.quiet:
            _report(f"{name}: read as {here}" if here else f"{name}: has no effect here: {flag.note}")
    return result


def successor(script: str, flag: str) -> str | None:
    """What to write instead of a published flag that `script` does not have.

    Args:
        script: `train`, `val`, `detect` or `export`.
        flag: one flag as typed, `--evolve`.

    Returns:
        A part of an error message, or None where the flag is unknown to both or accepted here.
    """
    flag = flag.replace("_", "-")
    for published in FLAGS.get(script, ()):
        if flag in (name.replace("_", "-") for name in published.names) and published.status in (
            "renamed",
            "not supported",
        ):
            if published.here:
                return f"use {published.here}" + (f": {published.note}" if published.note else "")
            return f"not supported: {published.note}"
    return None


def refused_value(script: str, arguments: Sequence[str]) -> str | None:
    """What to do instead of a published value of a flag that `script` has; a whole error message, or None.

    Args:
        script: `train`, `val`, `detect` or `export`.
        arguments: the command line.
    """
    values = REFUSED_VALUES.get(script, {})
    pairs = [tuple(argument.split("=", 1)) for argument in arguments if "=" in argument]
    for flag, value in [*itertools.pairwise(arguments), *pairs]:
        if (flag, value) in values:
            return f"{flag} {value}: not supported; {values[flag, value]}"
    return None


def published_hyperparameters(name: str) -> str:
    """The name of our hyperparameters file for a published one, with a notice; any other name unchanged."""
    base = name.replace("\\", "/").split("/")[-1].removesuffix(".yaml") + ".yaml"
    if base not in HYPERPARAMETERS:
        return name
    ours, different = HYPERPARAMETERS[base]
    more = f"; for the same values add --set {different}" if different else ""
    _report(f"--hyp {name}: read as {ours}{more}")
    return ours


@functools.cache
def _report(message: str) -> None:
    """Log a notice once: --resume parses the command line twice."""
    logger.warning(message)


def flags_markdown(script: str) -> str:
    """The table of one script's published flags for the documentation.

    Args:
        script: `train`, `val`, `detect` or `export`.

    Returns:
        A Markdown table with a row per flag.
    """
    lines = ["| YOLOv5 | here | notes |", "|---|---|---|"]
    for published in FLAGS[script]:
        names = ", ".join(f"`{name}`" for name in published.names)
        here = f"`{published.here.format('VALUE')}`" if published.here else published.status
        note = f"refused; {published.note}" if published.status == "renamed" else published.note
        lines.append(f"| {names} | {here} | {note} |")
    return "\n".join(lines) + "\n"
